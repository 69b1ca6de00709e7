# All developer commands. They need only Python 3.11+, make and the package registries.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: dev test install lint lock clean demo kafka contracts chaos chaos-full

dev: $(STAMP)  ## broker, database, gateway, enricher, sink and console in this terminal
	@$(BIN)/nexus dev $(ARGS)

test: $(STAMP)  ## lint, types and every test tier that can run here
	@$(BIN)/python scripts/test.py $(ARGS)

install: $(STAMP)  ## only the environment

demo: $(STAMP)  ## post a few conversations to a running `make dev`
	@$(BIN)/nexus demo $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

kafka: $(STAMP)  ## one Apache Kafka node (KRaft, Java 17, no Docker) for development
	@$(BIN)/python -m tests.kafka $(ARGS)

chaos: $(STAMP)  ## short chaos tests: kill, stop and starve processes under load; one row per scenario; resumable
	@$(BIN)/python -m tests.chaos $(ARGS)

chaos-full: $(STAMP)  ## the full chaos tests: 20,000 snapshots of 2,000 sessions and 20 kills per row; takes hours
	@$(BIN)/python -m tests.chaos --full $(ARGS)

contracts: $(STAMP)  ## regenerate contracts/ from the records
	@$(BIN)/nexus contracts write contracts

lock: $(STAMP)  ## update both lock files from pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url \
	  --no-header --quiet pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	  --constraint requirements.lock pyproject.toml deploy/image-build.in -o deploy/requirements-runtime.lock

clean:
	rm -rf $(VENV) .nexus .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V). For example, set PYTHON=python3.12."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
