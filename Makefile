# On a fresh machine with python3 and make, each of `make demo` and `make test` is enough alone.

PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest
PY := $(VENV)/bin/python

.PHONY: demo test test-browser test-oldest lint docs clean

demo: $(VENV)/.demo
	$(PY) benchmarks/demo.py

test: lint docs
	$(PY) -m pytest -q

# The manual, as a site that loads nothing from outside. Not --quiet: then no warning would count.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# Needs a Chromium on this machine.
test-browser: $(VENV)/.dev
	$(PY) -m pip install --quiet -e '.[browser]'
	$(PY) -m pytest -q -m browser

# With the oldest versions that pyproject.toml allows. Their torch may bring CUDA libraries: 6 GB.
test-oldest:
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet uv
	$(OLDEST)/bin/uv pip install --python $(OLDEST) --resolution lowest-direct -e '.[dev]'
	$(OLDEST)/bin/python -m pytest -q

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m mypy

# What is installed depends on pyproject.toml alone; running either target again installs nothing.
$(VENV)/.dev: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet -e '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.demo: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet -e '.[demo]'
	touch $@

$(PY):
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

clean:
	rm -rf $(VENV) $(OLDEST) build dist demo site .mypy_cache .pytest_cache .ruff_cache .hypothesis
