# `make demo` and `make test` create what they need: a virtual environment with pinned versions, and the package.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint format bench clean

demo: $(INSTALLED)  ## Train, evaluate, compress and report, in a few minutes on two cores.
	$(BIN)/everlong demo

test: $(INSTALLED) lint  ## Everything but the slow tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(INSTALLED)  ## The slow tests: full fault matrix, deep sweeps, the demo.
	$(BIN)/python -m pytest -m slow -n 0 --timeout=3600

lint: $(INSTALLED)  ## Style, types, and the order of the house.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)  ## Side-by-side timings; results as JSON under benchmarks/results.
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Everlong needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[hf,report,track,dev]'
	touch $@
