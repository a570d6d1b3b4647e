# make app    set up what is missing and open the dashboard
# make test   set up what is missing and run the tests
# make test-slow  the tests that make test leaves out: more networks, longer trainings; before a release
# make lint   ruff and mypy
# make clean  remove tool caches; data, runs and .venv stay
#
# PYTHON=/path/to/python chooses the interpreter, TESTS="tests/test_spec.py -x" what make test runs.

VENV := .venv
RUN := $(VENV)/bin/python
TESTS ?=

# A version is tried out rather than looked up: a version manager's shim may stand there for a Python it does not have.
CHECK := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
CANDIDATES := $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3)

.PHONY: app test test-slow lint clean
.DELETE_ON_ERROR:

app: $(VENV)/.app
	@$(RUN) -m streamlit run dashboard.py

PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev
	@$(RUN) -m pytest $(if $(TESTS),$(TESTS),$(PARALLEL))

test-slow: $(VENV)/.dev
	@$(RUN) -m pytest -m slow $(if $(TESTS),$(TESTS),$(PARALLEL))

lint: $(VENV)/.dev
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# The stamps are written last: an installation that was interrupted is taken up again by the next call.
$(VENV)/.app: requirements.txt
	@$(call virtual_environment)
	@echo "Installing what KD Lens runs on (once; several gigabytes, most of it torch) ..."
	@$(RUN) -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.app requirements-dev.txt requirements-shap.txt requirements-ray.txt requirements-nncf.txt
	@echo "Installing what the tests need ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

define virtual_environment
found=; if ! $(RUN) -c '$(CHECK)' 2>/dev/null || ! $(RUN) -m pip --version >/dev/null 2>&1; then \
  for candidate in $(CANDIDATES); do \
    if "$$candidate" -c '$(CHECK)' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
  done; \
  if [ -z "$$found" ]; then \
    echo "KD Lens needs Python 3.11, 3.12 or 3.13 with its venv module, and none of these is one: $(CANDIDATES)." >&2; \
    echo "Install one (on Debian and Ubuntu: apt-get install python3-venv), or name it: make app PYTHON=/path/to/python3.12" >&2; \
    exit 1; \
  fi; \
  echo "Making $(VENV) with $$found ..."; \
  "$$found" -m venv --clear $(VENV); \
fi
endef
