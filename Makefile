# The daily commands. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
comma  := ,
EXTRAS ?= $(if $(filter true,$(CI)),dev$(comma)openai$(comma)transformers,dev)
TESTED := $(VENV)/.ready-$(subst $(comma),-,$(EXTRAS))
INSTALL := $(if $(shell command -v uv 2>/dev/null),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)
# $(call install,EXTRAS): what the lock holds for them, then gpudrop itself, built with what the lock holds.
define install
	@$(BIN)/python scripts/lock.py show --extra "$(1)" --group build > $(VENV)/requirements.txt
	@$(INSTALL) --require-hashes -r $(VENV)/requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
endef
# pytest's share of the machine; `make test JOBS=0` runs one test after the other, as a debugger wants it.
JOBS   ?= auto
PYTEST = $(BIN)/python -m pytest $(if $(filter 0,$(JOBS)),,--numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder)

.PHONY: help env demo run test test-all test-latest install-latest lock check audit format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo         drop the samples into ./drop and watch them come back finished"
	@echo "make run          watch ./drop for your own files (config.yaml)"
	@echo "make env          only build the environment for tests (EXTRAS=dev,openai,transformers adds those engines)"
	@echo "make test         the tests of a few minutes, several at once (ARGS=… goes to pytest, JOBS=0 runs one by one)"
	@echo "make test-all     every test, with the servers that can be had"
	@echo "make test-latest  every test with the newest of every package, in an environment of its own"
	@echo "make check        format, lint, types, import contracts, the lock"
	@echo "make audit        the list of what is installed (build/sbom.json), and what is known to be vulnerable of it"
	@echo "make format       apply the formatter and the linter's fixes"
	@echo "make lock         renew requirements.lock from pyproject.toml"
	@echo "make clean        remove the environments (downloads stay in the cache)"

demo: $(VENV)/.ready
	@GPUDROP_MODEL_DIR="$$($(BIN)/python scripts/models.py || true)" $(BIN)/gpudrop demo

run: $(VENV)/.ready
	@$(BIN)/gpudrop run

env: $(TESTED)

test: $(TESTED)
	@$(BIN)/python scripts/servers.py install quick >/dev/null
	@$(PYTEST) --quick $(ARGS)

test-all: $(TESTED)
	@$(BIN)/python scripts/servers.py install $(if $(filter true,$(CI)),all,possible) >/dev/null
	@$(PYTEST) $(ARGS)

test-latest:
	@$(MAKE) --no-print-directory VENV=.venv-latest install-latest
	@$(MAKE) --no-print-directory VENV=.venv-latest test-all

install-latest: $(BIN)/python
	@echo "Installing the newest of everything …"
	@$(INSTALL) --upgrade -e '.[$(EXTRAS)]'
	@touch $(TESTED)

check: $(TESTED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/lock.py check
	$(BIN)/python -m pip check

audit: $(TESTED)
	$(BIN)/python scripts/audit.py

format: $(TESTED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: | $(BIN)/python
	@$(BIN)/python scripts/lock.py show --group lock --bare > $(VENV)/requirements.txt
	@$(INSTALL) --require-hashes -r $(VENV)/requirements.txt
	@$(BIN)/python scripts/lock.py renew

clean:
	rm -rf $(VENV) .venv-latest

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gpudrop needs Python 3.11 or newer; this is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making the environment in $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || { echo "The venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }

$(VENV)/.ready: pyproject.toml requirements.lock | $(BIN)/python
	@echo "Installing gpudrop (about 80 packages, 280 MB to fetch; a minute the first time) …"
	$(call install,)
	@touch $@

$(TESTED): pyproject.toml requirements.lock | $(BIN)/python
	@echo "Installing gpudrop with [$(EXTRAS)] …"
	$(call install,$(EXTRAS))
	@touch $@ $(VENV)/.ready
