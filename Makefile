# Two commands are all a newcomer needs: `make run` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: run test check format bench docs pictures kill-test clean

run: $(STAMP)
	@$(BIN)/python scripts/quickstart.py

test: $(STAMP)-test
	@PYTHON=$(PYTHON) $(BIN)/python scripts/engines.py
	$(BIN)/python -m pytest $(TEST_ARGS)

check: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/reference.py --check

format: $(STAMP)-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)-test
	$(BIN)/python -m benchmarks

kill-test: $(STAMP)-test
	$(BIN)/python -m tests.system.kill_harness --kills 100

docs: $(STAMP)-test
	$(BIN)/python scripts/reference.py
	$(BIN)/mkdocs build --strict

pictures: $(STAMP)-test
	$(BIN)/python scripts/screenshots.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; $(PYTHON) is older or not there. Use: make PYTHON=/path/to/python3.12 run"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[singleuser]'
	@touch $@

$(STAMP)-test: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check,docs]'
	@touch $@ $(STAMP)

clean:
	rm -rf $(VENV) .run build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
