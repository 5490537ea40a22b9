# Every target sets up what it needs; a new machine has Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
SUDO := $(shell test "$$(id -u)" = 0 || command -v sudo)
READY := $(VENV)/.ready
LOWEST := .venv-lowest

# What the whole suite covers today, in percent of lines and branches.
COVERED := 94

.PHONY: help demo test lowest matrix beside coverage faults simulate bench fleet load check docs package format lock clean

help:
	@echo "make demo    three instances, one revocation, and when each of them refused it"
	@echo "             (ARGS=--serve leaves them running)"
	@echo "make test    the whole test suite, on real servers that it starts and stops"
	@echo "             (ARGS=tests/unit chooses, ARGS='-n 0' runs one test after the other)"
	@echo "make lowest  the same, with the lowest versions of what it needs"
	@echo "make matrix  the same with the lowest and the newest, on every Python >= 3.11 that is found"
	@echo "make beside  whether it can be installed beside popular packages"
	@echo "make coverage  the same, and how much of the code it runs; less than before is an error"
	@echo "make faults  faults done to real servers under load, and which promises held"
	@echo "             (SEED=n repeats a run, ONLY=word chooses, SECONDS=n goes on with random"
	@echo "             ones, BINARY=redis-server takes another server)"
	@echo "make simulate  histories of a simulated fleet with drawn faults, on all cores, for a minute"
	@echo "             (SECONDS=n goes on for longer, SEED=n replays one with its trace)"
	@echo "make bench   what everything costs, beside what people use instead, and which bars are met"
	@echo "             (ONLY=word chooses, PUBLISH=1 puts the figures on the page)"
	@echo "make fleet   what a fleet of thousands costs Redis, and what becomes of it in an overload"
	@echo "             (ONLY=word chooses, PUBLISH=1 puts the figures on the page)"
	@echo "make load    users who read, refresh, sign out and in, and whether each is answered as he must"
	@echo "             (ARGS='--users 200 --run-time 5m' goes to Locust)"
	@echo "make docs    the documentation as a site, in site/"
	@echo "make package wheel and sdist in dist/, tried on every Python >= 3.11 that is found"
	@echo "make check   formatting, lint, types, direction of imports, spelling, the site"
	@echo "make format  mend the formatting"
	@echo "make clean   remove what the others have made"
	@echo "make lock    renew requirements.lock, and that of the lowest versions, from pyproject.toml"

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up $(VENV) ..."
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)
	@$(BIN)/python -m revokebus.demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

$(LOWEST)/.ready: pyproject.toml requirements-lowest.lock
	@echo "Setting up $(LOWEST) ..."
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --require-hashes --requirement requirements-lowest.lock
	$(LOWEST)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest $(ARGS)

matrix:
	@failed=0; for version in 3.11 3.12 3.13 3.14; do \
	  python$$version -c '' 2>/dev/null || { echo "Python $$version is not on this machine"; continue; }; \
	  for lock in requirements-lowest.lock requirements.lock; do \
	    tests="$(ARGS)"; [ $$lock = requirements.lock ] || tests="$${tests:-tests/unit tests/integration}"; \
	    folder=$$(mktemp -d) && python$$version -m venv $$folder && \
	    $$folder/bin/python -m pip install --quiet --require-hashes --requirement $$lock && \
	    $$folder/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable . && \
	    $$folder/bin/python -m pytest $$tests && \
	    echo "Python $$version, $$lock: passed" || { echo "Python $$version, $$lock: FAILED"; failed=1; }; \
	    rm -rf $$folder; \
	  done; \
	done; exit $$failed

beside: $(READY)
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/python -m tests.beside

coverage: $(READY)
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=$(COVERED)
	$(BIN)/python -m tests.own_coverage

faults: $(READY)
	@SEED="$(SEED)" ONLY="$(ONLY)" SECONDS="$(SECONDS)" BINARY="$(BINARY)" $(BIN)/python -m tests.faults

simulate: $(READY)
	@SECONDS="$(SECONDS)" FIRST="$(FIRST)" SEED="$(SEED)" MUTANT="$(MUTANT)" \
		$(BIN)/python -m tests.simulation

# The peers and the plots have an environment of their own: they are no part of the project.
$(BENCH)/.ready: requirements.lock load_tests/requirements.txt
	@echo "Setting up $(BENCH) ..."
	$(PYTHON) -m venv --clear $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BENCH)/bin/python -m pip install --quiet --requirement load_tests/requirements.txt
	$(BENCH)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

bench: $(BENCH)/.ready
	@command -v wrk >/dev/null || { echo "Installing wrk ..."; \
	  $(SUDO) apt-get update -qq && $(SUDO) apt-get install -qq --yes --no-install-recommends wrk; } || \
	  { echo "wrk could not be installed; put it on the PATH"; exit 1; }
	@$(BENCH)/bin/python -m load_tests $(ONLY) $(if $(PUBLISH),--publish)

fleet: $(BENCH)/.ready
	@$(BENCH)/bin/python -m load_tests --fleet $(ONLY) $(if $(PUBLISH),--publish)

load: $(BENCH)/.ready
	@$(BENCH)/bin/python -m load_tests.load $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $$(mktemp -d)

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "The site is in site/; open site/index.html"

# Each Python gets an empty environment and the wheel with its extras from there.
package: $(READY)
	rm -rf dist && $(BIN)/python -m hatchling build
	@for version in 3.11 3.12 3.13 3.14; do \
	  python$$version -c '' 2>/dev/null || { echo "Python $$version is not on this machine"; continue; }; \
	  folder=$$(mktemp -d) && python$$version -m venv $$folder/venv && \
	  for file in dist/*.whl dist/*.tar.gz; do \
	    $$folder/venv/bin/pip install --quiet --disable-pip-version-check --force-reinstall "$$file[cli,metrics]" && \
	    (cd $$folder && PYTHONPATH= venv/bin/python -I $(CURDIR)/tests/package_smoke.py) || exit 1; \
	  done; \
	  rm -rf $$folder; \
	done

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --upgrade --all-extras --group dev pyproject.toml \
	  --output-file requirements.lock
	$(BIN)/python -m tests.lowest | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --all-extras --group dev --constraint - \
	  pyproject.toml --output-file requirements-lowest.lock

clean:
	rm -rf $(VENV) $(BENCH) $(LOWEST) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
