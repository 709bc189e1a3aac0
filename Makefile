# `make demo` and `make test` create what they need: a virtual environment with pinned versions, and the package.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(VENV)/.torch
PACKAGE := $(VENV)/.package
TOOLS := $(VENV)/.tools
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-slow lint format bench clean

demo: $(PACKAGE)  ## Train, evaluate, compress and report, in a few minutes on two cores.
	$(BIN)/everlong demo

test: $(TOOLS) lint  ## Everything but the slow tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(TOOLS)  ## The slow tests: full fault matrix, deep sweeps, the demo.
	$(BIN)/python -m pytest -m slow -n 0 --timeout=3600

lint: $(TOOLS)  ## Style, types, and the order of the house.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright

format: $(TOOLS)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(PACKAGE)  ## Side-by-side timings; results as JSON under benchmarks/results.
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache

$(TORCH): constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Everlong needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	touch $@

$(PACKAGE): $(TORCH) pyproject.toml
	$(PIP) --editable '.[report]'
	touch $@

$(TOOLS): $(PACKAGE)
	$(PIP) --editable '.[hf,report,track,eval,docs,dev]'
	touch $@
