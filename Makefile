# make demo and make test need nothing but Python 3.11 or newer and this folder.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# torch comes first and pinned, so that no other package pulls in a second build.
TORCH := torch==2.13.0
# Extra arguments for installing torch, such as the index of another build.
TORCH_PIP_ARGS ?=
PIP := $(BIN)/python -m pip install --quiet --no-input

DEMO := $(BIN)/remora optimize model=gpt2 model.values.sequence=256 model.values.batch=4 \
	hardware=local memory=range:0.5 verify=true out=outputs/demo

# Test workers share the cores; one thread each also keeps results reproducible. Each begins with
# half of the tests and keeps neighbours together, so that what they share is mostly made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Nothing is fetched; a link that leads nowhere ends it. The variable silences an announcement.
DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint docs pictures format bench wheel test-wheel clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Remora needs Python 3.11 or newer; name one with PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH_PIP_ARGS) $(TORCH)
	$(PIP) -c constraints.txt -e ".[zoo,solvers,loops,lowbit,docs,dev]"
	$(BIN)/python -m remora.simulator.compiled
	$(BIN)/python -m remora.envs
	$(BIN)/python -m remora.agents.exact
	@touch $@

install: $(STAMP) ## create .venv and install everything into it

demo: $(STAMP) ## plan, run and verify GPT-2 small at half of its memory range
	$(DEMO)

test: $(STAMP) ## run the tests, without the slow ones
	$(PYTEST)

test-slow: $(STAMP) ## run the slow tests
	$(PYTEST) -m slow

lint: $(STAMP) ## style, format, types, import direction, and the documentation builds without a warning
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(DOCS)

docs: $(STAMP) ## build the documentation into build/site, which opens offline
	$(DOCS)
	@echo "open build/site/index.html"

pictures: $(STAMP) ## draw the pictures of the documentation anew
	$(BIN)/python -m docs.draw_pictures

format: $(STAMP) ## reformat and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## list the commands of the benchmarks
	@grep -l __main__ benchmarks/*.py | sed 's|/|.|; s|\.py$$||; s|^|$(BIN)/python -m |'

wheel: $(STAMP) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

test-wheel: wheel ## install the wheel into an environment of its own, elsewhere, and use it there
	tests/wheel/try_wheel.sh $(PYTHON) "$(TORCH_PIP_ARGS) $(TORCH)" dist/remora-*.whl

clean: ## remove .venv, build products, outputs and caches
	rm -rf $(VENV) build dist outputs multirun .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache .hypothesis
	find remora tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
