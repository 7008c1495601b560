# The one door to every task: `make` lists them. Needs make, python3 (3.10 or newer) and pip or uv.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## Make .venv with everything that development needs

$(STAMP): pyproject.toml requirements/dev.txt .ci/setup
	@PYTHON=$(PYTHON) sh .ci/setup
	@touch $@

.PHONY: demo
demo: $(STAMP) ## Run the main example: classify the files of a folder by a neural model
	@$(BIN)/cloudfn run examples/classify_files.py $(ARGS)

.PHONY: test
test: $(STAMP) ## Run all tests (ARGS="-k name" chooses)
	@sh .ci/system
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: check
check: lint ## The fast loop: lint, and the tests that take no machine and no long time
	@$(BIN)/python -m pytest -q -m "not slow and not machine" $(ARGS)

.PHONY: lint
lint: $(STAMP) ## Style, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: bench
bench: $(STAMP) ## Compare with other frameworks (long)
	@$(BIN)/python -m benchmarks.run $(ARGS)

.PHONY: bench-quick
bench-quick: $(STAMP) ## The same in a few minutes, less exact
	@$(BIN)/python -m benchmarks.run --quick $(ARGS)

.PHONY: engine
engine: ## Build the Pulumi CLI that the engine's tests use (needs Go; minutes, once)
	@sh scripts/build_engine.sh

.PHONY: room
room: $(STAMP) ## Start a machine room to play in: an AWS account whose machines boot here (Debian, root)
	@sh .ci/system
	@PYTHONPATH=tests $(BIN)/python -m machine_room

.PHONY: requirements
requirements: $(STAMP) ## Pin the newest versions of what development needs
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 --generate-hashes --upgrade \
		--no-emit-index-url --custom-compile-command "make requirements" --quiet -o requirements/dev.txt

.PHONY: clean
clean: ## Remove the virtual environment and all caches of tools
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
