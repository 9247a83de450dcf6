# make book    the whole book: environment, chapters executed, site in _build/html
# make test    every test; make test-fast leaves out the slow ones
# make lint    layout and faults of the code (ruff, biome), types (mypy), who imports whom (import-linter), spelling (codespell), prose (proselint)
# make format  lays out the Python code as make lint wants it
# make serve   the site on http://localhost:8000
# make lab     JupyterLab on the notebooks (installed the first time)
# make links   checks the site's links (make book does so, too); with ARGS=--external also those to other hosts
# make pdf     the built book as one PDF in _build, printed by Chromium or Chrome (ARGS="--browser ..." names another)
# make bench   the benchmarks
# make clean   removes what was built (not the measurements in .store, nor .venv: see make distclean)
#
# Needs make and Python 3.11 or later, which PYTHON=... can name. What the notebooks take as parameters can be given as
#     make book PARAMS="MODELS=[mini-s,mini-m] DEVICE=cpu"      or, with spaces in them,
#     make book ARGS="-p 'MODELS=[mini-s, mini-m]'"             (see: python -m circuitbook build --help)

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV   ?= .venv
PORT   ?= 8000
PARAMS ?=
ARGS   ?=

PY    := $(VENV)/bin/python
READY := $(VENV)/ready
# a tool that is not at home in this environment must not slip in; and what is imported is compiled once, at its first import
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: book test test-fast lint format links pdf bench serve lab clean distclean
.DEFAULT_GOAL := book

book: $(READY)
	@$(PY) -m circuitbook build $(foreach p,$(PARAMS),-p '$(p)') $(ARGS)

# on up to four cores, each with files of its own, in their order; one after the other with ARGS="-n 0", and those with a browser
PARALLEL := $(if $(findstring -m browser,$(ARGS)),-n 0,-n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder)

test: $(READY)
	@$(PY) -m pytest $(PARALLEL) $(ARGS)

test-fast: $(READY)
	@$(PY) -m pytest -m "not slow" $(PARALLEL) $(ARGS)

CODE    := lib tests benchmarks book/_ext notebooks
SCRIPTS := lib/circuitbook/figures/js book/_static tests/pages biome.json

lint: $(READY)
	@$(VENV)/bin/ruff check $(CODE)
	@$(VENV)/bin/ruff format --check $(CODE)
	@$(VENV)/bin/mypy
	@PYTHONPATH=lib $(VENV)/bin/lint-imports
	@if test -x $(VENV)/bin/biome; then $(VENV)/bin/biome ci --error-on-warnings $(SCRIPTS); \
	  elif command -v npx >/dev/null; then npx --yes @biomejs/biome@2.3.11 ci --error-on-warnings $(SCRIPTS); \
	  else echo "JavaScript is not looked at: there is no biome for this machine on the package index, and no npx"; fi
	@$(VENV)/bin/codespell README.md CONTRIBUTING.md CHANGELOG.md book lib notebooks tests benchmarks
	@$(PY) tests/prose.py

format: $(READY)
	@$(VENV)/bin/ruff check --fix $(CODE)
	@$(VENV)/bin/ruff format $(CODE)

links: $(READY)
	@$(PY) -m circuitbook links $(ARGS)

pdf: book
	@$(PY) -m circuitbook pdf $(ARGS)

bench: $(READY)
	@set -e; ran=no; for script in benchmarks/*.py; do \
	  test -f "$$script" || continue; ran=yes; echo "== $$script"; $(PY) "$$script" $(ARGS); done; \
	  test $$ran = yes || echo "no benchmarks yet"

lab: $(READY)
	@$(PY) -c 'import jupyterlab' 2>/dev/null || $(PY) -m pip install -q jupyterlab -c requirements.lock
	@$(PY) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

serve:
	@test -f _build/html/index.html || { echo "there is no site yet: make book"; exit 1; }
	@$(PYTHON) -m http.server --directory _build/html --bind 127.0.0.1 $(PORT)

clean:
	rm -rf _build build lib/*.egg-info .pytest_cache
	find lib tests benchmarks book -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# The stamp is written last: an install that was stopped is taken up again, and one that is done costs nothing.
$(READY): requirements.txt requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: the book needs Python 3.11 or later, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { echo "[1/3] environment in $(VENV), with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); }
	@printf "[2/3] pinned packages (a few minutes the first time) "
	@rm -f $(VENV)/failed; { $(PY) -m pip install --no-compile --progress-bar off -r requirements.txt -c requirements.lock 2>&1 \
	  || touch $(VENV)/failed; } | tee $(VENV)/install.log | awk \
	  '/^Collecting /{if (++n % 5 == 0) printf "."; fflush()} /^Installing/{printf " unpacking"; fflush()} /^ERROR/{print "\n" $$0}'
	@test ! -e $(VENV)/failed || { echo; tail -n 5 $(VENV)/install.log; \
	  echo "error: the packages could not be installed; all pip said is in $(VENV)/install.log"; exit 1; }
	@echo; echo "[3/3] circuitbook"
	@$(PY) -m pip install -q -q --no-deps --no-build-isolation -e .
	@touch $(READY)
