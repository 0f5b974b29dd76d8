# Every target works from a clean checkout; the venv is made on the way and reused.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MODEL ?= smollm2-135m
HOST ?= 127.0.0.1
PORT ?= 8400
FUZZ_S ?= 60
# torch is a test dependency here and is spelled exactly like this so that one wheel serves every machine.
TORCH := torch==2.13.0

.PHONY: up test clients check bench docs fuzz claims wheel clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[compile]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-clients: pyproject.toml $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[clients]'
	@touch $@

up: $(VENV)/.installed  ## serve the small model in the foreground
	$(BIN)/isochrone pull $(MODEL)
	@echo "Serving $(MODEL) at http://$(HOST):$(PORT)/v1 (Ctrl-C stops it). Try, from another terminal:"
	@echo "  curl -N http://$(HOST):$(PORT)/v1/chat/completions -H 'content-type: application/json' -d '{\"model\": \"$(MODEL)\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"What is an isochrone?\"}]}'"
	$(BIN)/isochrone up $(MODEL) --host $(HOST) --port $(PORT)

# The ledger's tests run on SQLite and on PostgreSQL; without the latter they fail under CI, and are skipped elsewhere.
.PHONY: postgresql
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && (apt-get install -y -q postgresql || (apt-get update -q && apt-get install -y -q postgresql)) >/dev/null; } \
	  || [ "$$CI" != true ] || { echo "The ledger's tests need PostgreSQL: apt-get install -y postgresql" >&2; exit 1; }

test: $(VENV)/.installed-dev postgresql  ## the whole suite, real model included
	$(BIN)/isochrone pull $(MODEL)
	$(BIN)/python -m pytest

clients: $(VENV)/.installed-clients  ## the clients that people use, against `isochrone up` with the real model
	$(BIN)/isochrone pull $(MODEL)
	$(BIN)/python -m pytest tests/clients -m clients

check: $(VENV)/.installed-dev  ## style, types, room borders
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev  ## this machine's figures, each beside its limit
	$(BIN)/isochrone pull $(MODEL)
	$(BIN)/isochrone bench $(MODEL)

docs: $(VENV)/.installed  ## print the reference pages and the figures from the code
	$(BIN)/python -m docs.build

claims: $(VENV)/.installed-dev  ## run the commands behind every figure again
	$(BIN)/python -m docs.claims

fuzz: $(VENV)/.installed-dev  ## hostile files, bodies, headers and streams, $(FUZZ_S) seconds in all
	FUZZ_S=$(FUZZ_S) $(BIN)/python -m tests.fuzz

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
