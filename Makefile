# every target prepares all that it needs in .venv; a supported torch that PYTHON already has is used instead of another one
PYTHON ?= python3
VENV ?= .venv
# what to install where PYTHON has no torch, or one that is too old; for another build: make TORCH="torch --index-url ..."
TORCH ?= torch==2.13.0
DEMO ?=
# more options for every run of the benchmarks, and where their results go
BENCH ?=
RESULTS ?= benchmarks/results
JOBS ?= 2

BIN = $(VENV)/bin
SOURCES = $(shell find csrc build_tools -type f -not -name '*.pyc') setup.py pyproject.toml
CPP = $(shell find csrc tests/support -name '*.cpp' -o -name '*.h' -o -name '*.cu')

.PHONY: install environment demo test cuda aot sanitize bench lint format clean

install: $(VENV)/.built

# Python and torch alone, nothing compiled
environment: $(VENV)/.torch

$(VENV)/.torch:
	@$(PYTHON) build_tools/environment.py $(VENV) $(TORCH)
	@touch $@

$(VENV)/.tools: $(VENV)/.torch
	@$(BIN)/python -c 'import setuptools, pybind11, sys; sys.exit(int(setuptools.__version__.split(".")[0]) < 77)' 2>/dev/null \
	  || $(BIN)/pip install -q --disable-pip-version-check 'setuptools>=77' 'pybind11>=2.13'
	@touch $@

# building in place keeps the demo and the tests on the sources of this folder
$(VENV)/.built: $(VENV)/.tools $(SOURCES)
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.built
	@$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation -e '.[test,dev]'
	@touch $@

demo: $(VENV)/.built
	$(BIN)/efcn demo $(DEMO)

test: $(VENV)/.built
	$(BIN)/python -m pytest -n $(JOBS) tests

# the CUDA library in place, whatever torch is there; needs nvcc but no GPU. tests/build_tools/test_cuda_build.py then reads the compiler's report
cuda: $(VENV)/.built
	EFCN_CUDA=1 $(BIN)/python setup.py -q build_ext --inplace
	$(BIN)/python -m pytest -q tests/build_tools/test_cuda_build.py

# every Triton kernel for three GPUs, without one: spills, shared memory, matrix units, loads
aot: $(VENV)/.built
	$(BIN)/python -m pytest -n $(JOBS) -m aot tests/ops/test_triton_aot.py

# needs g++ with libasan and libubsan; builds into build/sanitize and leaves the installed libraries alone
sanitize: $(VENV)/.built
	.ci/sanitize $(BIN)/python

# what is committed in benchmarks/results; a machine without AVX2 leaves that run out
bench: $(VENV)/.built
	$(BIN)/efcn bench table --against conv,linear,unfold --contiguous $(BENCH) --json $(RESULTS)/cpu-table.json
	$(BIN)/efcn bench table --batch 1 --batch 8 --batch 32 --against none $(BENCH) --json $(RESULTS)/cpu-table-small.json
	-$(BIN)/efcn bench table --isa avx2 --against none $(BENCH) --json $(RESULTS)/cpu-table-avx2.json
	$(BIN)/efcn bench alexnet skinny --contiguous $(BENCH) --json $(RESULTS)/cpu-alexnet-skinny.json
	$(BIN)/efcn bench alexnet skinny wide14 dilated --dtype bfloat16 --against float32 $(BENCH) --json $(RESULTS)/cpu-bfloat16.json
	$(BIN)/python -m benchmarks.report $(RESULTS)/cpu-table*.json --markdown $(RESULTS)/cpu-table.md --figures $(RESULTS)
	$(BIN)/python -m benchmarks.network --json $(RESULTS)/cpu-network.json
	$(BIN)/python -m benchmarks.sweep --json $(RESULTS)/cpu-sweep.json --figure $(RESULTS)/cpu-sweep.png
	$(BIN)/python benchmarks/limits.py --json $(RESULTS)/cpu-limits.json
	$(BIN)/python benchmarks/memory.py --json $(RESULTS)/cpu-memory.json
	mkdir -p bench-output
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-json bench-output/pytest-benchmark.json

lint: $(VENV)/.dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	PATH="$(BIN):$$PATH" clang-format --dry-run -Werror $(CPP)
	@cuda=1; $(BIN)/python -m build_tools.cuda || { cuda=0; echo "CUDA: not compiled, there is no nvcc"; }; \
	  EFCN_CUDA=$$cuda EFCN_CUDA_ARCHS=sm_80 EFCN_WERROR=1 $(BIN)/python setup.py -q build --build-base build/werror
	@if command -v aarch64-linux-gnu-g++ >/dev/null; then \
	  aarch64-linux-gnu-g++ -std=c++17 -O3 -Wall -Wextra -Werror -c csrc/cpu/isa_base.cpp -o build/werror/isa_neon.o && echo "NEON: compiled"; \
	else echo "NEON: not compiled, there is no aarch64-linux-gnu-g++"; fi

format: $(VENV)/.dev
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .
	PATH="$(BIN):$$PATH" clang-format -i $(CPP)

clean:
	rm -rf build dist *.egg-info efcn_kernels/*.so $(VENV)/.built $(VENV)/.dev bench-output
