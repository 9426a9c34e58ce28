# Two commands: `make bench` measures and gates real engines; `make test` tests the suite itself.
# ARGS goes to pytest: make bench ARGS="--precision int8_wo --batch-size 8"
PYTHON ?= python3
RUN := .venv/bin/python -m
ARGS ?=

.PHONY: bench test lint format clean

bench:
	@$(PYTHON) scripts/install.py openvino
	$(RUN) pytest tests_perf tests_quality $(ARGS)

test: lint
	$(RUN) pytest tests_harness $(ARGS)

lint:
	@$(PYTHON) scripts/install.py openvino,dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

format:
	@$(PYTHON) scripts/install.py openvino,dev
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
