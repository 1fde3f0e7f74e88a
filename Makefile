# The two commands: `make run` answers the question on this machine, `make test` checks the project.
PYTHON ?= python3
BIN := .venv/bin
CORES ?= all

.PHONY: run test test-all mutants lint docs format bench gpu-reference ui wheelhouse clean

run: .venv/installed
	$(BIN)/python -m snakemake --cores $(CORES)
	@echo "The MLflow UI: make ui"

# Two processes of tests; a file alone needs none of it: .venv/bin/pytest tests/compare
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Tests of every part, and one small experiment from its plan to its report
test: .venv/installed
	$(PYTEST) -m "not (browser or server or slow or slurm)"

# Also whole runs and all else that takes long, a browser, a server on Postgres, and a Slurm of three nodes
test-all: .venv/installed
	$(PYTEST)

# Faults that mutmut plants one at a time in the modules that decide, in all of them or where it is told: MUTANTS="…*"
mutants: .venv/installed
	rm -rf mutants
	PYTHONPATH=src $(BIN)/python -m mutmut run --max-children 2 $(MUTANTS)
	$(BIN)/python -m benchmarks.mutants

lint: .venv/installed docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow

# The documentation as a site, in build/docs; a link that leads nowhere fails
docs: .venv/installed
	PYTHONPATH=src $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs/site -d build/doctrees . build/docs

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

bench: .venv/installed
	$(BIN)/python -m benchmarks

# Everything that is wanted of a GPU, in one file to bring back: docs/gpu.md
gpu-reference: .venv/installed
	$(BIN)/python workflow/gpu_reference.py

# The wheels that a machine without a package index lacks, for its Python: docs/offline.md
wheelhouse: .venv/installed
	rm -rf wheelhouse
	$(BIN)/python workflow/wheelhouse.py $(or $(PYTHON_THERE),3.12) $(or $(MACHINE_THERE),x86_64) wheelhouse

ui: .venv/installed
	PYTHONPATH=src $(BIN)/python -m rnn_parity ui

# What a run made and what Python left; neither the environment nor reports/reference and reports/benchmarks.
clean:
	rm -rf results logs mlflow.db* mlartifacts .snakemake .pytest_cache .ruff_cache .mypy_cache .hypothesis build mutants
	find reports -mindepth 1 -maxdepth 1 ! -name reference ! -name benchmarks ! -name README.md -exec rm -rf {} +
	find src tests -name __pycache__ -prune -exec rm -rf {} +

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
