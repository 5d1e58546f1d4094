# Every target sets itself up: the first one makes .venv with the locked dependencies. `make help` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
SYNCED := .venv/.synced
SOURCES := operator/storage_operator sql/storage_sql storagelib loadtest/storage_loadtest
# Tests that need no cluster and take seconds: pure ones, and SQL on an embedded PostgreSQL.
FAST := $(wildcard tests/planning tests/resources tests/sql tests/storagelib tests/adapters/test_files.py)
PYTEST_ARGS ?=
# Processes of the fast tests; each has a PostgreSQL of its own.
WORKERS ?= 2
# A shell in which somebody works with another environment must not change what is tested or built.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(SYNCED): pyproject.toml uv.lock scripts/bootstrap
	@scripts/bootstrap

.PHONY: demo
demo: $(SYNCED) ## Tenants become Ready on a real API server and a real PostgreSQL
	@$(BIN)/llmspell demo

.PHONY: test
test: $(SYNCED) ## Everything that a pull request needs, with real servers; under twenty minutes
	$(BIN)/pytest -m "not full" -n $(WORKERS) --dist loadfile --cov --cov-report=term --cov-report=xml:build/coverage.xml $(PYTEST_ARGS)

.PHONY: test-fast
test-fast: $(SYNCED) ## Pure and SQL tests, for the inner loop; under a minute
	$(BIN)/pytest -m "not full and not cluster" -n $(WORKERS) --dist loadfile $(FAST) $(PYTEST_ARGS)

.PHONY: test-full
test-full: $(SYNCED) ## Everything, with the biggest sizes, the longest fault runs and random examples
	$(BIN)/pytest --hypothesis-profile=searching $(PYTEST_ARGS)

.PHONY: check
check: $(SYNCED) ## Format, lint, types, import rules, docstrings, SQL lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=operator:sql:loadtest:. $(BIN)/lint-imports
	$(BIN)/interrogate --quiet $(SOURCES)
	$(BIN)/pytest --quiet tests/sql/test_lint.py

.PHONY: fmt
fmt: $(SYNCED) ## Format and fix what can be fixed by a tool
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: bench-operator bench-storagelib ## Measure, beside a peer in the same run; results in build/bench

.PHONY: bench-%
bench-%: $(SYNCED)
	@$(BIN)/uv sync --frozen --all-extras --inexact --quiet --group bench
	@mkdir -p build/bench
	$(BIN)/python -m benchmarks.$*

.PHONY: docs
docs: $(SYNCED) ## Build the documentation strictly into site/, check its links, run its examples
	$(BIN)/python scripts/reference --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/pytest --quiet tests/docs

.PHONY: clean
clean: ## Remove what was built here, .venv included (servers: llmspell dev down)
	rm -rf .venv build dist site .coverage coverage.xml .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
