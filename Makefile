# Two commands set up everything on a fresh machine that has Python and make:
#   make demo   an environment in .venv, then `pgbench demo`: all of it on drawings and tiny checkpoints
#   make test   the formatter, the linter, the types and all tests
# DEMO=--quick         a demo of two minutes instead of ten
# PYTHON=python3.12    another interpreter
# TORCH_INDEX=URL      another build of torch: the index that the installation page of pytorch.org gives
# WORKERS=4            processes that run the tests

DEMO ?=
PYTHON ?= python3
TORCH_INDEX ?=
WORKERS ?= 2

# Relative paths only, so that a checkout below a folder with spaces works.
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet install
TORCH := $(shell grep '^torch==' constraints.txt)
# One stamp per step and per torch index: a second `make` installs nothing.
TORCH_STAMP := $(VENV)/.torch-$(shell printf '%s' '$(TORCH) $(TORCH_INDEX)' | cksum | cut -d' ' -f1)

# Several processes share the cores: with more OpenMP threads than free cores they spin and take 40 times as long.
test prove: export OMP_NUM_THREADS = 1

.PHONY: demo test prove format wheel clean distclean help
.DELETE_ON_ERROR:

demo: $(VENV)/.run
	$(VENV)/bin/pgbench demo $(DEMO)

test: $(VENV)/.dev
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m pytest -q -n $(WORKERS) --dist loadfile

prove: $(VENV)/.dev
	$(RUN) benchmarks/prove.py

format: $(VENV)/.dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

wheel: $(VENV)/.dev
	$(RUN) -m build --no-isolation --wheel --outdir dist .

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find pgbench tasks results tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

$(VENV)/.made:
	@command -v '$(PYTHON)' >/dev/null || { \
	  echo "make: no '$(PYTHON)' here; pgbench needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: pgbench needs Python 3.11 or newer, '$(PYTHON)' is $$('$(PYTHON)' -V 2>&1); try make PYTHON=python3.11" >&2; exit 2; }
	'$(PYTHON)' -m venv $(VENV)
	@touch $@

$(TORCH_STAMP): $(VENV)/.made
ifeq ($(TORCH_INDEX),)
	$(PIP) '$(TORCH)'
else
	$(PIP) --force-reinstall --index-url '$(TORCH_INDEX)' '$(TORCH)'
endif
	@rm -f $(VENV)/.torch-*
	@touch $@

$(VENV)/.run: $(TORCH_STAMP) pyproject.toml setup.py constraints.txt
	$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(TORCH_STAMP) pyproject.toml setup.py constraints.txt
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@
