# `make` alone lists what there is. Each target prepares what it needs.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
PRESET ?= quick
OUT ?= runs/demo
# Notebooks for `make check` and `make render`.
NB ?=
# Processes that run tests/, one more than cores: some tests wait for a browser, or for the disk.
TESTERS := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 8 ? cores + 1 : 8)))
# Further words for JupyterLab, for example --no-browser.
LAB_FLAGS ?=
# Further words for pip, for example the address of an index with CPU builds of torch.
PIP_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
LAB_PAGE := /lab/tree/nbs/walkthroughs/00_start.ipynb

.PHONY: help install data demo lab docs bench check test export render clean

help:
	@echo 'make demo     distil a student on movie reviews, table and report   PRESET=$(PRESET) OUT=$(OUT)'
	@echo 'make lab      open the start page of the walkthroughs in JupyterLab'
	@echo 'make docs     make the site of the book in _docs/, to be read without a kernel'
	@echo 'make data     fetch all material of walkthroughs and tests, sizes first'
	@echo 'make check    in sync, lint, types, form, changed notebooks   NB=nbs/01_data/15_batches.ipynb'
	@echo 'make test     run every notebook that changed since it passed, then tests/'
	@echo 'make bench    measure speed and memory'
	@echo 'make render   run notebooks whose outputs are stale, and keep the outputs   NB=...'
	@echo 'make export   notebooks to modules, clean notebooks, README, ARCHITECTURE'
	@echo 'make install  only prepare $(VENV)'
	@echo 'make clean    remove what was built (keeps $(VENV), data and runs)'

install: $(READY)

# The environment, made again only when a requirement changes. Where the venv module has no pip of
# its own (Debian without python3-venv), the pip of $(PYTHON) puts one in.
$(READY): settings.ini setup.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo 'No $(PYTHON) found. Install Python 3.10 or newer, or: make PYTHON=/path/to/python3' >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed, this is $$($(PYTHON) -V): make PYTHON=/path/to/python3" >&2; \
	  exit 1; }
	@echo 'Preparing $(VENV) (a few minutes the first time) ...'
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || { \
	    $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	    $(PYTHON) -m pip --python $(BIN)/python install -qq pip; }; fi
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS) \
	  -c constraints.txt -e '.[notebooks,dev,docs]'
	@touch $@

data: $(READY)
	@$(BIN)/tinybert-nb data

demo: $(READY)
	@$(BIN)/tinybert-nb demo --preset $(PRESET) --out $(OUT)

# The root is the repository, so that links between notebooks work. JupyterLab refuses to run as
# root unless it is allowed to. Where there is no browser, the address that it prints opens the same
# page.
lab: $(READY)
	@$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=$(LAB_PAGE) \
	  $$(test "$$(id -u)" -ne 0 || echo --allow-root) $(LAB_FLAGS)

# Pages of the notebooks as committed, and the API reference; nothing is executed.
docs: $(READY)
	@$(BIN)/python scripts/make_docs.py

bench: $(READY)
	@$(BIN)/tinybert-nb bench

# What to do after each change, in a minute; NB names notebooks, else those that differ from the
# last commit.
check: $(READY)
	@$(BIN)/python scripts/check.py $(NB)

# Every notebook that changed since it passed, through nbdev_test; then pytest, which also reads
# what the notebooks left as proof of execution. Both always run; either can fail the target. What
# they need is fetched first, so from there on no hub is asked.
test: export HF_HUB_OFFLINE := 1
test: export TQDM_DISABLE := 1
test: export TOKENIZERS_PARALLELISM := false
test: export PYTHONUNBUFFERED := 1
test: $(READY)
	@env -u HF_HUB_OFFLINE -u TQDM_DISABLE $(BIN)/tinybert-nb data
	@$(BIN)/python scripts/system_packages.py
	@status=0; \
	$(BIN)/python scripts/run_notebooks.py || status=1; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -q -n $(TESTERS) --dist loadfile \
	  --no-loadscope-reorder || status=1; \
	exit $$status

export: $(READY)
	@$(BIN)/nbdev_clean
	@$(BIN)/nbdev_export
	@$(BIN)/python scripts/make_readme.py
	@$(BIN)/python scripts/make_architecture.py

# Outputs that code hosts and the site show; NB names notebooks, else those whose sources changed.
render: $(READY)
	@$(BIN)/tinybert-nb data
	@$(BIN)/python scripts/system_packages.py --font
	@$(BIN)/python scripts/render_notebooks.py $(NB)

clean:
	@rm -rf build dist ./*.egg-info .pytest_cache _proc _docs
	@find nbs tinybert_nb tests scripts -name __pycache__ -prune -exec rm -rf {} +
