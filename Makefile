# run:       the hub on http://127.0.0.1:8000
# test:      all checks, as CI runs them
# test-fast: two fifths of the tests, in less than a minute
# lock:      write requirements.txt and tests/requirements.txt; LOCK="--upgrade-package flask" upgrades a package
# bench:     the benchmark, with other servers; BENCH="--repeat 3 --picture bench.svg" has its options
# bench-50000: 50,000 subscribers, as CROWD="--subscribers 5000 --hold 15"; needs 20,000 files a process and five minutes
# bench-topics: reads by topic of 1,000,000 kept events, as TOPICS="--events 100000"; some minutes
# bench-transactions: apps that publish in their transactions in PostgreSQL, as TRANSACTIONS="--rounds 1"; two minutes
# bench-retention: ten minutes of 500 events a second to PostgreSQL; RETENTION="--seconds 60" is shorter
# fuzz:      send random and broken input for FUZZ_SECONDS (300); FUZZ="--only http" selects a fuzzer
#
# PYTHON=python3.12 chooses the Python. Without it, an environment that works is kept.
ifeq ($(PYTHON),)
CHOSEN =
PYTHON = python3
else
CHOSEN = yes
endif
VENV = .venv
BIN = $(VENV)/bin
RUN_READY = $(VENV)/.run
TEST_READY = $(VENV)/.test
LOCK_UV = $(VENV)/lock/bin/uv
SUPPORTED = import sys; sys.exit(sys.version_info < (3, 11))
WHICH = import sys; print(sys.version)

.PHONY: run test test-fast coverage bench bench-50000 bench-topics bench-transactions bench-retention fuzz lint bytecode lock clean FORCE

run: $(RUN_READY)
	$(BIN)/gunicorn wsgi:app

# Four files of tests at a time: most of them wait. In the order of their folders, so that the quick
# tests of unit/ come last, and no process waits long for another. A process that crashed is not
# replaced: its replacement would wait for a second test for ever if one was left.
PROCESSES = --numprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# Else each process of pytest would rewrite what its plugins import, for a second of CPU.
unexport PYTHONDONTWRITEBYTECODE

test: $(TEST_READY)
	$(MAKE) --no-print-directory --jobs=2 --output-sync lint bytecode
	$(BIN)/python -m pytest $(PROCESSES)

test-fast: $(TEST_READY)
	$(BIN)/python -m pytest $(PROCESSES) -m "not browser and not slow and not stress"

# The same tests with every process measured, which takes half as long again.
coverage: $(TEST_READY)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

bench: $(TEST_READY)
	$(BIN)/python tests/bench $(BENCH)

bench-50000: $(TEST_READY)
	PYTHONPATH=. $(BIN)/python tests/bench/crowd.py $(CROWD)

bench-topics: $(TEST_READY)
	PYTHONPATH=. $(BIN)/python tests/bench/by_topic.py $(TOPICS)

bench-transactions: $(TEST_READY)
	$(BIN)/python tests/bench/transactions.py $(TRANSACTIONS)

bench-retention: $(TEST_READY)
	PYTHONPATH=.:tests $(BIN)/python tests/bench/retention.py $(RETENTION)

fuzz: $(TEST_READY)
	PYTHONPATH=.:tests $(BIN)/python tests/fuzz/campaign.py $(FUZZ)
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-100} $(BIN)/python -m pytest tests/server/test_openapi.py

# pytest rewrites each file of tests once, so that each of its processes need not. It needs one core,
# as mypy does.
bytecode: $(TEST_READY)
	-$(BIN)/python -m pytest --collect-only --quiet --quiet >/dev/null

lint: $(TEST_READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Pins that still fit stay as they are. A hub that runs from the repository has all extras.
lock: COMPILE = $(LOCK_UV) pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-header --no-annotate $(LOCK)
lock: $(LOCK_UV)
	$(COMPILE) --all-extras --output-file requirements.txt pyproject.toml
	$(COMPILE) --constraint requirements.txt --output-file tests/requirements.txt tests/requirements.in

clean:
	rm -rf $(VENV)

# Make the environment again if it is broken, too old, or has another Python than PYTHON=.
$(VENV)/pyvenv.cfg: FORCE
	@if $(BIN)/python -c 'import pip; $(SUPPORTED)' 2>/dev/null && { [ -z "$(CHOSEN)" ] || \
	    [ "$$($(BIN)/python -c '$(WHICH)')" = "$$($(PYTHON) -c '$(WHICH)' 2>/dev/null)" ]; }; \
	then exit 0; fi; \
	if ! $(PYTHON) -c '$(SUPPORTED)' 2>/dev/null; then \
	  version=$$($(PYTHON) -c 'import sys; print("is %d.%d.%d" % sys.version_info[:3])' 2>/dev/null); \
	  echo "Tidings needs Python 3.11 or newer, and $(PYTHON) $${version:-cannot be run}." >&2; \
	  echo "Say which Python to use: make $(firstword $(MAKECMDGOALS) run) PYTHON=python3.12" >&2; \
	  exit 1; \
	fi; \
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "The environment could not be made. Debian and Ubuntu need: apt install python3-venv" >&2; \
	  exit 1; \
	}

$(RUN_READY): requirements.txt $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt
	printf '#!%s\nimport sys\nsys.path.insert(0, "%s")\nfrom webapp.cli import main\nmain()\n' \
	  "$(CURDIR)/$(BIN)/python" "$(CURDIR)" > $(BIN)/tidings && chmod +x $(BIN)/tidings
	touch $@

$(TEST_READY): tests/requirements.txt tests/package-lock.json $(RUN_READY)
	$(BIN)/python -m pip install --quiet --require-hashes -r tests/requirements.txt
	! command -v npm >/dev/null || npm ci --prefix tests --silent --no-audit --no-fund
	touch $@

# uv has its own environment: that of the hub has only the locked packages.
$(LOCK_UV): $(VENV)/pyvenv.cfg
	$(BIN)/python -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet "uv==0.13.9"
	touch $@
