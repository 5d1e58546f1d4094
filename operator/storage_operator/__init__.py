"""The operator of llmspell-storage and its command line: declared tenants become roles, grants and Secrets."""
