# run: the hub on http://127.0.0.1:8000    test: all checks, as CI runs them
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
RUN_READY = $(VENV)/.run
TEST_READY = $(VENV)/.test

.PHONY: run test lint clean

run: $(RUN_READY)
	$(BIN)/gunicorn wsgi:app

test: lint
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

lint: $(TEST_READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

$(RUN_READY): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt
	touch $@

$(TEST_READY): tests/requirements.txt $(RUN_READY)
	$(BIN)/python -m pip install --quiet --require-hashes -r tests/requirements.txt
	touch $@
