# Windowcast. `make` alone lists what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-emit-index-url --custom-compile-command "make requirements"
CODE := app training tests benchmarks tools examples
DEFAULT_MODEL := models/default/*/manifest.json
# Some shells and compilers put a HOST into the environment that is no address.
IS_ADDRESS = $(filter command% ,$(origin HOST))$(findstring .,$(HOST))$(findstring :,$(HOST))
ADDRESS = $(if $(IS_ADDRESS),WINDOWCAST_HOST=$(HOST)) $(if $(PORT),WINDOWCAST_PORT=$(PORT))

.DEFAULT_GOAL := help
.PHONY: help install serve train test format check-format lint types imports docs tests measure requirements image clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/development ## Make .venv with everything pinned in requirements/development.txt

serve: $(VENV)/training ## Serve the default model, trained first if there is none; PORT= and HOST= change the address
	@test -n "$$WINDOWCAST_MODEL$$WINDOWCAST_MODELS_DIR" || ls $(DEFAULT_MODEL) >/dev/null 2>&1 \
		|| $(MAKE) --no-print-directory train
	@$(ADDRESS) $(BIN)/python -m app

train: $(VENV)/training ## Train the default model: weekly CO2 at Mauna Loa, a year in, the next four weeks out
	$(BIN)/python -m training train --config training/default.toml

test: check-format lint types imports docs tests ## Everything that must hold before a commit

format: $(VENV)/development ## Format the code
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix-only $(CODE)

check-format: $(VENV)/development ## Check the format
	$(BIN)/ruff format --check $(CODE)

lint: $(VENV)/development ## Check style and docstrings
	$(BIN)/ruff check $(CODE)

types: $(VENV)/development ## Check the types
	$(BIN)/mypy

imports: $(VENV)/development ## Check that imports point one way
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/development ## Build the documentation into .cache/site, without a network; links and anchors are checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

tests: $(VENV)/development ## Run the tests
	$(BIN)/pytest --numprocesses auto --dist loadfile

measure: $(VENV)/development ## Measure the code; CHECKOUT=DIR measures another checkout
	@$(BIN)/python tools/measure.py $(CHECKOUT)

requirements: $(VENV)/development ## Pin the newest releases that pyproject.toml allows, with hashes
	$(COMPILE) --upgrade --extra dev --output-file requirements/development.txt >/dev/null
	$(COMPILE) --constraint requirements/development.txt --extra training --output-file requirements/training.txt >/dev/null
	$(COMPILE) --constraint requirements/development.txt --extra onnx --extra tensorflow --output-file requirements/tensorflow.txt >/dev/null
	$(COMPILE) --constraint requirements/development.txt --extra onnx --output-file requirements/onnx.txt >/dev/null
	$(COMPILE) --constraint requirements/development.txt --output-file requirements/serving.txt >/dev/null

image: ## Build the container image
	docker build --tag windowcast .

clean: ## Remove what the other targets made, except models
	rm -rf $(VENV) .cache

# One stamp per requirements file: nothing is installed again while the file stays the same.
$(VENV)/%: requirements/%.txt | $(BIN)/python
	@echo "Installing $<"
	@$(PIP_INSTALL) $<
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
		"Windowcast needs Python 3.11, 3.12 or 3.13; this is %d.%d. Name another: make PYTHON=python3.12 ..." % v)'
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
