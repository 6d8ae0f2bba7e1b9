# run: the hub on http://127.0.0.1:8000    test: all checks, as CI runs them
# bench: beside other servers; BENCH="--repeat 3 --picture bench.svg" says how
# fuzz: inputs that nobody would think of, for FUZZ_SECONDS (300) in all; FUZZ="--only http" says which
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
RUN_READY = $(VENV)/.run
TEST_READY = $(VENV)/.test

.PHONY: run test coverage bench fuzz lint clean

run: $(RUN_READY)
	$(BIN)/gunicorn wsgi:app

# Two files of tests at a time: most of them wait.
test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# The same tests with every process measured, which takes half as long again.
coverage: $(TEST_READY)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

bench: $(TEST_READY)
	$(BIN)/python tests/bench $(BENCH)

fuzz: $(TEST_READY)
	PYTHONPATH=.:tests $(BIN)/python tests/fuzz/campaign.py $(FUZZ)
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-100} $(BIN)/python -m pytest tests/test_openapi.py

lint: $(TEST_READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

$(RUN_READY): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt
	printf '#!%s\nimport sys\nsys.path.insert(0, "%s")\nfrom webapp.cli import main\nmain()\n' \
	  "$(CURDIR)/$(BIN)/python" "$(CURDIR)" > $(BIN)/tidings && chmod +x $(BIN)/tidings
	touch $@

$(TEST_READY): tests/requirements.txt tests/package-lock.json $(RUN_READY)
	$(BIN)/python -m pip install --quiet --require-hashes -r tests/requirements.txt
	! command -v npm >/dev/null || npm ci --prefix tests --silent --no-audit --no-fund
	touch $@
