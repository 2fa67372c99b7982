# Two commands: `make demo` and `make test`. Both make .venv on first use; PYTHON names another Python (3.11+).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test unit faults lint clean

demo: .venv/installed
	$(BIN)/adaptune run examples/bbc_news.yaml

test: lint
	$(BIN)/python -m pytest -m "not faults" -q

# What a search survives, at length: kills, full disks, lost nodes and servers, ten thousand damaged inputs.
faults: .venv/installed
	$(BIN)/python -m pytest -m "" -q -rA tests/faults

unit: .venv/installed
	$(BIN)/python -m pytest -q

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Installed anew only when what is to be installed has changed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "adaptune needs Python 3.11 or later; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[offline,dev]"
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
