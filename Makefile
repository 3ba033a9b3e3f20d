# `make help` lists the targets. PYTHON, VENV and TORCH_INDEX can be set on the command line.
ifeq ($(origin PYTHON),undefined) # the first that runs and is supported
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null && { command -v $$p; break; }; done)
endif
VENV ?= .venv
BIN := $(VENV)/bin
BOOK_VENV ?= .venv-book
# CPU-only users: make run TORCH_INDEX=URL, with PyTorch's own CPU package index (pytorch.org, "Get Started", shows it).
TORCH_INDEX ?=
ARGS ?=
SECONDS ?= 600
STAMP := $(VENV)/.installed
NOTEBOOKS := $(sort $(wildcard nbs/*.ipynb))

.PHONY: help setup run test test-browser fuzz check lab notebooks book bench export readme clean lock hooks
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## make the virtual environment and install the locked dependencies

$(STAMP): requirements.lock setup.py settings.ini
	@test -n "$(PYTHON)" || { echo "no Python found: install Python 3.11, 3.12 or 3.13, or name one with PYTHON=..."; exit 1; }
	@echo "installing the locked dependencies into $(VENV) (several GB; minutes the first time)"
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f'Python {v[0]}.{v[1]} is not supported: set PYTHON to one of 3.11, 3.12 or 3.13')"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(TORCH_INDEX),)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
else
	@grep -vE '^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==' requirements.lock > $(VENV)/cpu.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/cpu.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --index-url $(TORCH_INDEX) $$(grep -oE '^(torch|torchvision)==[^ ;]+' requirements.lock)
endif
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) ## the main job on the built-in data: table, report (ARGS="--reviews FILE ..." for your own)
	@$(BIN)/mmrec run $(ARGS)

test: $(STAMP) $(BOOK_VENV)/.installed ## everything that must hold: notebooks clean and in step, nbdev_test, pytest, the book
	@$(MAKE) --no-print-directory check
	MMREC_PROGRESS=0 OPENBLAS_NUM_THREADS=1 $(BIN)/python dev/test_notebooks.py # nbdev_test, two notebooks at a time, one core each
	MMREC_PROGRESS=0 MMREC_BOOK_PYTHON=$(abspath $(BOOK_VENV))/bin/python $(BIN)/python -m pytest -q -rs -n 2 --dist loadfile --no-loadscope-reorder tests

test-browser: $(STAMP) ## run every notebook in JupyterLab, driven by Chromium (20 minutes; ARGS="-k ratings" for some)
	@$(BIN)/python -c "import playwright" 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[browser]"
	@$(BIN)/python -m pytest -q -m slow -rs tests/browser $(ARGS)

fuzz: $(STAMP) ## spoil inputs for all readers for SECONDS=600 and look for what is no error of ours (SEED=n CASE=files-17: one again)
	@MMREC_PROGRESS=0 OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/fuzz.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(CASE),--case $(CASE)) $(ARGS)

check: $(STAMP) ## are notebooks clean, is mmrec/ in step with nbs/, README.md with nbs/index.ipynb; what do ruff and mypy say?
	@$(BIN)/python dev/check.py
	@$(BIN)/ruff check --quiet nbs mmrec tests bench dev book
	@$(BIN)/mypy --no-error-summary mmrec

lab: $(STAMP) ## open JupyterLab on the notebooks
	@cd nbs && $(abspath $(BIN))/jupyter lab --LabApp.default_url=/lab/tree/index.ipynb $(if $(filter 0,$(shell id -u)),--allow-root)

notebooks: $(STAMP) ## execute all notebooks in place, top to bottom, then clean them
	@cd nbs && for nb in $(notdir $(NOTEBOOKS)); do echo "$$nb"; \
	  MMREC_PROGRESS=0 $(abspath $(BIN))/jupyter nbconvert --log-level WARN --to notebook --execute --inplace --ExecutePreprocessor.timeout=900 $$nb || exit 1; done
	@$(BIN)/nbdev_clean
	@$(MAKE) --no-print-directory readme

book: $(BOOK_VENV)/.installed ## make the book, book/_build/html/index.html, from the notebooks as they stand (ARGS=--fresh: from nothing)
	@$(BOOK_VENV)/bin/python book/build.py $(ARGS)

$(BOOK_VENV)/.installed: book/requirements.lock # an environment of its own: the book reads the package and does not import it
	@test -n "$(PYTHON)" || { echo "no Python found: install Python 3.11, 3.12 or 3.13, or name one with PYTHON=..."; exit 1; }
	@test -x $(BOOK_VENV)/bin/python || $(PYTHON) -m venv $(BOOK_VENV)
	@$(BOOK_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench: $(STAMP) ## measure what README and chapters claim, into bench/results/ (about an hour and a half; the machine should be idle)
	@for b in first_run full_size downloads encoders false_alarms verdicts claims; do echo "bench/$$b.py"; MMREC_PROGRESS=0 $(BIN)/python bench/$$b.py || exit 1; done

export: $(STAMP) ## write mmrec/ from nbs/
	@$(BIN)/nbdev_clean && $(BIN)/nbdev_export

readme: $(STAMP) ## write README.md from nbs/index.ipynb
	@$(BIN)/python dev/readme.py

clean: ## remove what runs have made (data/ and runs/); the environment stays
	rm -rf data runs

lock: $(STAMP) ## resolve settings.ini into requirements.lock (for Python 3.11 to 3.13, all platforms); pins stay where they can (ARGS=--upgrade: the newest)
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile setup.py --extra dev --extra offline --extra fast --universal --python-version 3.11 --no-annotate --no-header --constraint dev/constraints.txt $(ARGS) -q -o requirements.lock
	@sed -n 's/^book_requirements = //p' settings.ini | tr ' ' '\n' | $(BIN)/uv pip compile - --universal --python-version 3.11 --no-annotate --no-header $(ARGS) -q -o book/requirements.lock

hooks: $(STAMP) ## install the git hooks that keep notebooks clean and mergeable
	@$(BIN)/nbdev_install_hooks
