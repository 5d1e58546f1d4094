"""The command line ``llmspell``: one file a group of commands, ``main`` puts them together."""
