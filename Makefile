# The daily commands. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
comma  := ,
EXTRAS ?= $(if $(filter true,$(CI)),dev$(comma)openai,dev)
TESTED := $(VENV)/.ready-$(subst $(comma),-,$(EXTRAS))
INSTALL := $(if $(shell command -v uv 2>/dev/null),uv pip install --quiet --compile-bytecode --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)

.PHONY: help env demo run test check format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     drop the samples into ./drop and watch them come back finished"
	@echo "make run      watch ./drop for your own files (config.yaml)"
	@echo "make env      only build the environment for tests (EXTRAS=dev,openai adds openai-whisper)"
	@echo "make test     install what the tests need, and run them (ARGS=… goes to pytest)"
	@echo "make check    format, lint, types, import contracts, generated files"
	@echo "make format   apply the formatter and the linter's fixes"
	@echo "make clean    remove the environment (downloads stay in the cache)"

demo: $(VENV)/.ready
	@GPUDROP_MODEL_DIR="$$($(BIN)/python scripts/models.py || true)" $(BIN)/gpudrop demo

run: $(VENV)/.ready
	@$(BIN)/gpudrop run

env: $(TESTED)

test: $(TESTED)
	@$(BIN)/python scripts/servers.py install $(if $(filter true,$(CI)),all,possible) >/dev/null
	@$(BIN)/python -m pytest $(ARGS)

check: $(TESTED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo

format: $(TESTED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gpudrop needs Python 3.11 or newer; this is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making the environment in $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || { echo "The venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }

$(VENV)/.ready: pyproject.toml | $(BIN)/python
	@echo "Installing gpudrop (about 70 packages, 280 MB to fetch; a minute the first time) …"
	@$(INSTALL) -e .
	@touch $@

$(TESTED): pyproject.toml | $(BIN)/python
	@echo "Installing gpudrop with [$(EXTRAS)] …"
	@$(INSTALL) -e '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.ready
