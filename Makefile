# On a fresh machine with python3 and make, each of `make demo` and `make test` is enough alone.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo test test-browser lint docs clean

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
	rm -rf $(VENV) build dist demo site .mypy_cache .pytest_cache .ruff_cache .hypothesis
