# One command for each habit. The first target that needs it makes .venv.
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCS := $(VENV)/.docs
RUN ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,timm,dev]'
	@touch $@

$(DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

demo: $(INSTALLED)  ## train a small CNN on digits and compress it under a budget (RUN=runs/demo)
	$(BIN)/secateur demo --out $(RUN)

test: $(INSTALLED)  ## the test suite (JOBS=2)
	$(BIN)/python -m pytest -q -n $(JOBS)

check: $(INSTALLED)  ## style, types, direction of the imports, and the rules of the project
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_project.py

format: $(INSTALLED)  ## rewrite the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## the benchmarks (long; DATA=folder with the CIFAR files, or the zoo alone)
	$(BIN)/python benchmarks/zoo.py
	$(if $(DATA),$(BIN)/python benchmarks/cifar_resnet.py --data $(DATA))

docs: $(DOCS)  ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## caches and built files; .venv and runs stay
	rm -rf build dist site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis .coverage
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
