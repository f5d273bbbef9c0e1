# Everything here sets itself up: Python 3.11 or newer with pip, git and make are all it takes. `make` lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# What the environment is made with; `make PYTHON=python3.13 ...` takes another.
PYTHON ?= python3
PORT ?= 8000
# As they were typed: make would expand a dollar sign in them.
override DEST := $(value DEST)
override DATA := $(value DATA)
export DEST DATA PORT PYTHON

# uv trusts what the system trusts, also where no variable tells it to.
export UV_SYSTEM_CERTS := 1
export PATH := $(PATH):$(CURDIR)/.tools/bin

TOOLING := requirements/tooling.txt
BIN := .venv/bin
SOURCES := tests tools $(wildcard bench)

.PHONY: help demo test validate test-containers lint format typecheck bench render-diff release requirements needs

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: .venv/.ready ## Render a service and run it: DEST=folder PORT=8000 DATA="key=value ..."
	@PATH="$$PATH:$(CURDIR)/$(BIN)" exec $(BIN)/python tools/demo.py --dest="$$DEST" --port="$$PORT" --data="$$DATA"

test: .venv/.ready ## Test the template, and what it renders: ARGS="-k words -n 0 ..."
	@exec $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal --ignore=tests/containers \
		-m "not validate" $(or $(ARGS),--whole)

validate: .venv/.ready ## Run all tests but those of containers, and write report.html and report.json: REPORT=folder
	@exec $(BIN)/python -m tools.validate --report="$${REPORT:-report}" $(ARGS)

test-containers: .venv/.ready ## Test the containers of what it renders, for which Docker has to run: ARGS="..."
	@exec $(BIN)/python -m pytest tests/containers $(ARGS)

lint: .venv/.ready ## Check style and formatting
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

format: .venv/.ready ## Mend style and formatting
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

typecheck: .venv/.ready ## Check types, strictly
	@$(BIN)/pyrefly check

bench: .venv/.ready ## Measure the rendered service and its tests: ARGS="..."
	@exec $(BIN)/python -m bench $(ARGS)

render-diff: override export FROM := $(value FROM)
render-diff: .venv/.ready ## Show what a change does to the renders since a release: FROM=v1.2.3 ARGS=--stat
	@exec $(BIN)/python -m tools.render_diff --from="$$FROM" $(ARGS)

release: .venv/.ready ## Tag this checkout as a release, if everything is in order: CHECK=1 only says whether it is
	@exec $(BIN)/python -m tools.release $(if $(CHECK),--check)

requirements: .venv/.ready ## Pin the newest tooling that pyproject.toml allows, with hashes
	@echo "--- Resolving the tooling"
	@$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url \
		--python-version 3.11 --group tooling --output-file $(TOOLING)

# Made anew when the pins change; the mark is written last, so half an environment is never taken for a whole one.
.venv/.ready: $(TOOLING) | needs
	@if ! uv --version >/dev/null 2>&1; then \
		echo "--- Fetching uv into .tools/"; \
		"$$PYTHON" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --upgrade --target .tools "$$(sed -n "s/^\(uv==[0-9.]*\).*/\1/p" $(TOOLING))"; \
	fi
	@echo "--- Setting up the tooling in .venv/"
	@rm -rf .venv
	@uv venv --quiet --no-project --python "$$("$$PYTHON" -c 'import sys; print(sys.executable)')" .venv
	@uv pip sync --quiet --require-hashes --python $(BIN)/python $(TOOLING)
	@touch $@

needs:
	@command -v git >/dev/null || { echo "git is missing: install it and run make again." >&2; exit 1; }
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Python 3.11 or newer is needed, and $$PYTHON is not: make PYTHON=python3.13 ... names another." >&2; exit 1; }
