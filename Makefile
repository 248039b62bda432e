# privet: `make demo` and `make test` do everything on a fresh machine with python3 and make.
# The environment lives in .venv; it is made on first use and reused until
# pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check lint format bench oracles clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "privet needs Python 3.11 or newer; set one with: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "==> creating the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "could not create $(VENV): on Debian and Ubuntu, install python3-venv"; exit 1; }

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> installing privet with torch and plots into $(VENV) (a few minutes the first time)"
	@$(PIP) --editable '.[train,report]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> installing privet with its test tools into $(VENV) (a few minutes the first time)"
	@$(PIP) --editable '.[train,onnx,parquet,sign,report,dev]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run  ## the guided tour: both stories in about a minute, report in demo/
	@echo "==> the guided tour, about a minute; report in demo/"
	@$(BIN)/privet demo --out demo

# The page needs nothing to run. Its types are checked, and its accessibility tested, by packages
# of npm; where there is none, these checks are left out.
PAGE_TOOLS := node_modules/.installed

$(PAGE_TOOLS): package.json package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "==> installing the page's checkers into node_modules" && \
	  npm ci --silent --no-audit --no-fund && touch $@; \
	else echo "==> no npm: the page's types and accessibility are not checked"; fi

# A file of tests stays on one processor: what it prepares is prepared once.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile

test: $(VENV)/.dev $(PAGE_TOOLS)  ## every test, the slow ones too
	@echo "==> running all tests"
	@$(PYTEST)

check: lint  ## lint, and the fast tests
	@echo "==> fast tests"
	@$(PYTEST) -m "not slow" -q

lint: $(VENV)/.dev $(PAGE_TOOLS)  ## style, format, strict types, import directions
	@echo "==> ruff: lint and format"
	@$(BIN)/ruff check src tests benchmarks docs
	@$(BIN)/ruff format --check src tests benchmarks docs
	@echo "==> mypy: strict types"
	@$(BIN)/mypy
	@echo "==> import-linter: the layers"
	@$(BIN)/lint-imports --no-cache
	@if [ -e $(PAGE_TOOLS) ]; then echo "==> tsc: types of the page" && npm run --silent check; fi

format: $(VENV)/.dev  ## rewrite the code in the house format
	@$(BIN)/ruff check --fix src tests benchmarks docs
	@$(BIN)/ruff format src tests benchmarks docs

bench: $(VENV)/.dev  ## side-by-side timings, a few minutes each
	@for script in benchmarks/*.py; do echo "==> $$script"; $(BIN)/python $$script || exit 1; done

# Other people's implementations, in an environment of their own: they drag much along.
ORACLES := .venv-oracles
ORACLES_PIP := $(ORACLES)/bin/python -m pip --disable-pip-version-check install --quiet

$(ORACLES)/.done: pyproject.toml constraints.txt $(wildcard benchmarks/oracles/*.txt)
	@echo "==> creating the environment in $(ORACLES) (a few minutes the first time)"
	@$(PYTHON) -m venv $(ORACLES)
	@$(ORACLES_PIP) --constraint constraints.txt --editable '.[train]' \
	  --requirement benchmarks/oracles/requirements.txt
	@$(ORACLES_PIP) --no-deps --requirement benchmarks/oracles/no-dependencies.txt
	@touch $@

oracles: $(ORACLES)/.done  ## attacks beside PrivacyGuard's and ART's, on the same models
	@$(ORACLES)/bin/python benchmarks/oracles/cross_check.py

clean:  ## remove the environments and the demo's output
	rm -rf $(VENV) $(ORACLES) demo
