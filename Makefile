# `make bench` measures and gates real engines; `make test` tests the suite itself, `make test-all` with what is heavy
# (full installs and the like), before a change is called done.
# ARGS goes to pytest: make bench ARGS="--precision int8_wo --batch-size 8"
PYTHON ?= python3
RUN := .venv/bin/python -m
ARGS ?=

.PHONY: bench-trtllm bench demo site test test-all lint format clean

bench:
	@$(PYTHON) scripts/install.py openvino
	$(RUN) pytest tests_perf tests_quality $(ARGS)

# The notebook docs/demo.ipynb, run from top to bottom; its outputs go to runs/demo.ipynb.
demo:
	@$(PYTHON) scripts/install.py openvino,demo
	.venv/bin/python scripts/demo.py $(ARGS)

# The documentation as a site, in build/site; it needs no network and no server.
site:
	@$(PYTHON) scripts/install.py openvino,site
	.venv/bin/python scripts/site/build.py

test: lint
	$(RUN) pytest tests_harness -n 2 --dist loadfile -m "not heavy" $(ARGS)

test-all: lint
	@$(PYTHON) scripts/install.py openvino,dev,site
	$(RUN) pytest tests_harness -n 2 --dist loadfile -m "not alone" $(ARGS)
	$(RUN) pytest tests_harness -m alone

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

# For a GPU with TensorRT-LLM installed (docs/tensorrt-llm.md); uses that Python, as its wheels pin torch. Not run here.
TRTLLM_PYTHON ?= python3
bench-trtllm:
	$(TRTLLM_PYTHON) -m enginegate doctor
	$(TRTLLM_PYTHON) -m enginegate trtllm verify-contract
	$(TRTLLM_PYTHON) -m pytest tests_trtllm --require-trtllm
	$(TRTLLM_PYTHON) -m enginegate engines build --config configs/tinyllama_int8.yaml
	$(TRTLLM_PYTHON) -m pytest tests_perf tests_quality --config configs/tinyllama_int8.yaml $(ARGS)
