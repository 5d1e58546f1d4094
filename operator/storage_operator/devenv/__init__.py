"""The development environment: an embedded PostgreSQL and a real Kubernetes control plane on this machine.

Nothing in production imports this package: it serves ``llmspell dev``, the tests and the benchmarks.
"""
