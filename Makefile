# A fresh machine needs git, make and Python 3.11 or newer; each target installs into .venv what it uses.

PYTHON ?= python3
PORT ?= 8000
ARGS ?=
# How many processes run tests; each starts the servers it needs, and often waits for one.
JOBS ?= 3

BIN := .venv/bin
# Modules are compiled once for all processes, whatever the environment says: each would need seconds for it.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
PIP := $(BIN)/python -m pip --quiet --no-input --disable-pip-version-check

# A machine without some server skips its tests, and so cannot cover the lines that are for it.
COVERAGE_OPTIONS = $$(grep -q ' skipped="0"' build/tests.xml || echo --fail-under=0)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check bench lint docs constraints clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: .venv/demo.stamp ## run the example on port 8000 (PORT=8001: on another)
	PORT=$(PORT) $(BIN)/python -m example_app

test: .venv/tests.stamp ## run all tests and require full coverage (ARGS='-k limit': run some and require none)
	$(BIN)/coverage erase
	PYTHONDONTWRITEBYTECODE= $(BIN)/coverage run -m pytest -ra --numprocesses=$(JOBS) --dist=worksteal --junit-xml=build/tests.xml $(ARGS)
	$(if $(strip $(ARGS)),,$(BIN)/coverage combine --quiet)
	$(if $(strip $(ARGS)),,$(BIN)/coverage report $(COVERAGE_OPTIONS))

check: .venv/lint.stamp .venv/tests.stamp ## check style and types, and run the tests that need no server: while you work
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	KNOX_NO_SERVERS=1 $(PYTEST) --numprocesses=$(JOBS) --dist=worksteal --quiet -m 'not server' $(ARGS)

bench: .venv/bench.stamp ## measure beside the peers, and write docs/performance (ARGS=--quick: less, into build/bench)
	$(BIN)/python -m benchmarks $(ARGS)

lint: .venv/lint.stamp ## check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" PYRIGHT_PYTHON_IGNORE_WARNINGS=1 \
		pyright --verifytypes fastapi_users_knox --ignoreexternal
	$(BIN)/lint-imports --no-cache

docs: .venv/docs.stamp ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

constraints: .venv/pip.stamp ## renew constraints.txt: the newest releases that go together
	$(PYTHON) -m venv --clear .venv/newest
	.venv/newest/bin/python -m pip install --upgrade pip
	.venv/newest/bin/python -m pip install --editable '.[all]' --group dev
	.venv/newest/bin/python -m pip freeze --all --exclude-editable --exclude setuptools > constraints.txt
	rm -r .venv/newest

clean: ## remove .venv and all that was built
	rm -rf .venv .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist site
	find . -name __pycache__ -type d -prune -exec rm -r {} +

# A stamp per dependency group: what is installed stays until the list of it changes.
.venv/%.stamp: .venv/pip.stamp pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable '.[all]' --group $*
	@touch $@

# The pip that comes with Python 3.11 does not know --group.
.venv/pip.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed; $(PYTHON) is not. Name one: make PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2> /dev/null \
		|| { echo '$(PYTHON) makes no virtual environments; on Debian: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade --constraint constraints.txt pip
	@touch $@
