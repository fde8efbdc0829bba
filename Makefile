# `make demo` shows it work, `make test` runs all that must hold; `make help` lists the rest.
# Needs Python 3.11 or newer with venv, and a package registry for the first run.
SHELL  := bash
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --constraint requirements.lock
WORKERS ?= 2
SIDE_BY_SIDE := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder  # see tests/conftest.py

MINUTES ?= 0
LONG    ?=

.PHONY: help demo test pytest test-all lint docs lock bench demo-model photo-model clean
.DEFAULT_GOAL := help

help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/base  ## install without torch, index the packaged photos, search them in several languages and by picture
	@$(BIN)/tuwen demo
	@echo "    . $(BIN)/activate    # first, so that the shell finds tuwen"

test: $(VENV)/dev  ## install everything, then lint and all tests but the long ones, side by side
	@$(MAKE) --no-print-directory --jobs 2 lint pytest

pytest: $(VENV)/dev
	@$(BIN)/pytest $(SIDE_BY_SIDE)

test-all: $(VENV)/dev  ## the long tests: full-size models, kills, fuzzing in depth; MINUTES=20 stops there, LONG=tests/cli takes these
	@$(BIN)/pytest $(LONG) -m "long and not hub and not cluster" --timeout 1800 --minutes $(MINUTES) $(SIDE_BY_SIDE)

lint: $(VENV)/dev  ## format, lint, types, directions of imports
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@said=$$($(BIN)/lint-imports --no-logo) || { echo "$$said"; exit 1; }

docs: $(VENV)/dev  ## build the documentation site, English and Chinese: build/docs/site/index.html
	@$(BIN)/python docs/site/build.py

lock: $(VENV)/dev  ## choose the newest versions that fit pyproject.toml and write requirements.lock
	@$(BIN)/uv pip compile --quiet --upgrade --universal --all-extras --no-header --annotation-style line pyproject.toml -o requirements.lock

PHOTOS := ../shared/data/flickr8k_200
BENCH  := encode ingest embed search write start
bench: $(VENV)/dev  ## every benchmark on this machine, each beside what people use today
	@set -e; for name in $(BENCH); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py; done
	@if [ -d $(PHOTOS) ]; then echo "== decode"; $(BIN)/python benchmarks/decode.py $(PHOTOS); else echo "== decode: skipped, it wants photos: no $(PHOTOS)"; fi

demo-model: $(VENV)/dev  ## draw, train, export and measure the packaged model and gallery anew (half an hour on 2 cores; see recipes/emoji)
	@$(PIP) resvg-py
	@$(BIN)/python -m recipes.emoji.build

photo-model: $(VENV)/dev  ## compute, export and measure the packaged model of photos anew (see recipes/photo)
	@$(PIP) msgpack
	@$(BIN)/python -m recipes.photo.build

clean:  ## remove the virtual environment and all that tools leave behind
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-output

# A stamp says what $(VENV) holds: the base package alone, or everything that the tests need.
$(VENV)/base: pyproject.toml requirements.lock | $(BIN)/python
	@start=$$SECONDS; $(PIP) --editable . && echo "installation: $$((SECONDS - start)) s"
	@touch $@

$(VENV)/dev: pyproject.toml requirements.lock | $(BIN)/python
	@start=$$SECONDS; $(PIP) --editable '.[dev]' && echo "installation: $$((SECONDS - start)) s"
	@touch $@ $(VENV)/base

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; make PYTHON=python3.x takes another" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
