# Every target does its own set-up: a virtual environment, pinned dependencies, the package itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# PyTorch's OpenMP threads spin; beside another busy process that costs far more than the second core gives.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint format docs clean

demo: $(VENV)/.installed
	$(BIN)/graphvae demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[plot,flows,molecules,docs]"
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[plot]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[plot,flows,molecules,dev]"
	touch $@

clean:
	rm -rf $(VENV) docs/_build build *.egg-info .pytest_cache .ruff_cache .mypy_cache graphvae-demo
