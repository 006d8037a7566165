# `make quickstart`, `make test` and `make test-all` set everything up on a fresh machine with
# Python 3.11 or newer; another interpreter, which gets an environment of its own:
# `make test PYTHON=python3.12`.
PYTHON ?= python3
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
# READY: what `plstm-seq` needs is installed. DEV: what its tests, linters and notebooks need, too.
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
DOCS := $(VENV)/.ready-docs
# The TPU's compiler, for tests; where it is installed jax looks for a TPU and warns without one.
TPU_VENV := $(VENV)-tpu
TPU_READY := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),$(TPU_VENV)/.ready)

.PHONY: quickstart test test-all test-gpu test-gpu-interpreted test-slurm lint format notebooks docs golden-table support-table clean

# Bytecode is written for what is imported, also where the environment says not to: every command
# would compile it anew.
quickstart: $(READY)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/plstm-seq quickstart

test: lint
	$(BIN)/pytest -n auto

# With the slow ones: what is killed, several processes and devices, kernels without their machine.
test-all: lint $(TPU_READY)
	PLSTM_SEQ_TPU_PYTHON=$(abspath $(TPU_READY:.ready=bin/python)) $(BIN)/pytest -n auto -m 'not slurm'

# The tests of the GPU kernels where there is no GPU; needs jax 0.11.2, so PYTHON=python3.12 or newer.
test-gpu-interpreted: $(DEV)
	$(BIN)/pytest -n auto tests/ops/test_plstm_1d_mosaic_gpu.py tests/ops/test_plstm_1d_mosaic_gpu_small.py

# The same kernels, compiled, where there is a Hopper GPU.
test-gpu: $(DEV)
	$(BIN)/python -m pip install --quiet --editable '.[cuda]'
	XLA_PYTHON_CLIENT_PREALLOCATE=false $(BIN)/pytest -m gpu -n 8 tests/ops

# A sweep through a Slurm of one node; as root on a throwaway Debian or Ubuntu.
test-slurm: $(DEV)
	$(BIN)/python tests/support/slurm_node.py install
	$(BIN)/pytest -m slurm -rA tests/slurm

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Executes all notebooks with small settings, and checks that each .ipynb is what its .py says.
notebooks: $(DEV)
	$(BIN)/python notebooks/check.py

# The site, in build/site; a warning, such as a link to nothing, is an error.
docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open build/site/index.html"

golden-table: $(DEV)
	$(BIN)/python tests/support/golden_table.py docs/golden.md

support-table: $(DEV)
	$(BIN)/python tests/support/support_table.py docs/support.md

# Compiling all packages takes longer than installing them, and the first use compiles what it needs.
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $@

# Many processes of the tests begin with the same packages: here all are compiled, on all cores.
# Some packages hold files of other Pythons, which do not compile.
$(DEV): $(READY)
	$(BIN)/python -m pip install --quiet --no-compile --editable . --group dev
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[docs]'
	touch $@

$(TPU_VENV)/.ready: $(READY)
	$(PYTHON) -m venv $(TPU_VENV)
	$(TPU_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(TPU_VENV)/bin/python -m pip install --quiet --editable '.[tpu]'
	touch $@

clean:
	rm -rf .venv .venv-* build dist
