# Every job sets up what it needs and redoes only what is stale. Options: PYTHON=python3.12, PROFILE=smoke, JOBS=2.
PYTHON ?= python3
PROFILE ?= auto
JOBS ?= 1
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.PHONY: course test lab model setup gguf lint bench newest

course: model  ## set up, then run all notebooks into build/ on the detected profile
	$(BIN)/lorakit run --profile $(PROFILE) --jobs $(JOBS)

test: model  ## set up, then all tests: lint, units, notebooks on the smoke profile
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify $(STRIP) notebooks/*.ipynb
	$(BIN)/codespell $(PROSE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not notebook" --ignore tests/test_browser.py -n 2 --dist loadfile
	$(BIN)/python -m pytest -m "notebook or browser" tests/test_notebooks.py tests/test_browser.py

lab: model  ## open JupyterLab on the first notebook
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

setup:
	@$(PYTHON) scripts/bootstrap.py

gguf:  ## set up, and llama.cpp's parts for notebook 10 (compiled: 2 to 5 minutes)
	@$(PYTHON) scripts/bootstrap.py gguf

model: setup
	@$(BIN)/lorakit model

lint: setup  ## mend what ruff and nbstripout can mend
	$(BIN)/python scripts/colab.py
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
	$(BIN)/nbstripout $(STRIP) notebooks/*.ipynb

bench: model  ## training speed of both engines, with the ratio
	$(BIN)/python -m lorakit_helpers.bench

newest: setup  ## what would break with the newest libraries: a table, never a failure
	$(BIN)/python scripts/newest.py

STRIP := --extra-keys "metadata.language_info metadata.papermill cell.metadata.papermill cell.metadata.execution"
PROSE := README.md data/*/README.md notebooks lorakit_helpers scripts
