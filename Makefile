# Everything runs in .venv; whenever pyproject.toml changes, neurosuper is installed there again. The demo needs less than
# the tests do, and CPU=1 leaves out what torch needs on a GPU.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
READY := .venv/.ready
FLOORS := .venv-floors
FLOORS_READY := $(FLOORS)/.ready
CPU_WHEELS := https://download.pytorch.org/whl/cpu
# The demo adds LPIPS if this file exists.
TRUNK := $(NEUROSUPER_TEST_DATA)/nets/alexnet_features_fp16.npz

# Tests of what calls other packages most: files of NWB and other formats, networks, all finders (with files, solvers and
# clusters), caches, downloads, manifests and a study. ALL=1 runs every test that is not slow.
FLOORS_TESTS := $(if $(ALL),,tests/loaders/nwb $(wildcard tests/loaders/test_array*.py) \
  $(addprefix tests/loaders/test_,file_contents.py free_viewing.py human.py in_memory.py neuroid.py suite2p.py) \
  tests/directions/test_dictionary.py tests/directions/test_distributed.py \
  tests/metrics/test_cache.py tests/datasets/test_fetch.py tests/datasets/test_manifest.py \
  tests/study/test_references.py tests/study/test_rerun.py)
# Old versions call names of others that are deprecated since, and NumPy itself ignores that its arrays have grown.
FLOORS_WARNINGS := -W ignore::DeprecationWarning -W "ignore:numpy.ndarray size changed:RuntimeWarning"
# One process per core, and so one thread per process: more of them would wait for each other.
IN_PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

PROSE := neurosuper data_manifests tutorials docs changes benchmarks .ci .github *.md *.toml *.cfg *.cff Makefile

.PHONY: help demo test floors lint schema bench validate fuzz mutate clean

help:
	@echo "make demo      install into .venv and run a complete analysis; the report is in demo_output/"
	@echo "               make demo CPU=1 installs torch without CUDA: a quarter of the disk"
	@echo "make test      install into .venv what the tests need, too, and run them in parallel on all cores"
	@echo "make floors    run the tests that depend most on other packages with the lowest versions that pyproject.toml allows,"
	@echo "               in .venv-floors; make floors ALL=1 runs all that are not slow"
	@echo "make lint      check style, types, imports between modules, docstrings, spelling and retired words"
	@echo "make schema    write the JSON schema of dataset manifests, which editors use"
	@echo "make bench     time neurosuper against other packages, side by side"
	@echo "make validate  measure error rates of tests and coverage of intervals in simulated studies (35 minutes)"
	@echo "               make validate PART=superposition prints one part of benchmarks/VALIDATION.md again"
	@echo "make fuzz      damaged files, killed processes and full disks, five times as many as in make test (an hour)"
	@echo "make mutate    change the code in one place at a time and count the changes that the tests notice (hours)"
	@echo "make clean     remove .venv, .venv-floors and generated files"

$(INSTALLED): pyproject.toml
	@echo "-- installing neurosuper into .venv ($(if $(CPU),1.7,6.3) GB on disk; minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "neurosuper needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(if $(CPU),$(BIN)/python -m pip install --quiet torch torchvision --index-url $(CPU_WHEELS))
	@$(BIN)/python -m pip install --quiet --editable '.[lpips]'
	@touch $@

$(READY): $(INSTALLED)
	@echo "-- installing what the tests need into .venv (another 0.5 GB)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	@echo "-- running a complete analysis (under a minute; 15 s more at the first time, to compile)"
	@$(BIN)/neurosuper demo demo_output $(if $(wildcard $(TRUNK)),--lpips-weights $(TRUNK))

test: $(READY)
	@echo "-- running all tests"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_PARALLEL)

$(FLOORS_READY): pyproject.toml
	@echo "-- installing the lowest versions that pyproject.toml allows into $(FLOORS) (7 GB on disk; minutes, once)"
	@rm -rf $(FLOORS)
	@$(PYTHON) -m venv $(FLOORS)
	@$(FLOORS)/bin/python -m pip install --quiet uv || { echo "make floors needs uv, which pip cannot install here: pip alone cannot choose the lowest versions; connect to a package index" >&2; exit 1; }
	@$(FLOORS)/bin/uv pip install --quiet --python $(FLOORS)/bin/python --resolution lowest-direct --editable '.[test]'
	@touch $@

floors: $(FLOORS_READY)
	@echo "-- tests with the lowest versions of other packages"
	@OMP_NUM_THREADS=1 $(FLOORS)/bin/python -m pytest -m "not slow" $(IN_PARALLEL) $(FLOORS_WARNINGS) $(FLOORS_TESTS)

lint: $(READY)
	@echo "-- style, types, imports between modules, docstrings, spelling, retired words"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell $(PROSE)
	@$(BIN)/python .ci/check_prose.py
	@$(BIN)/numpydoc lint --config . $$(find neurosuper -name '*.py')
	@$(BIN)/python .ci/check_docstrings.py

schema: $(READY)
	@$(BIN)/python -c 'import json; from neurosuper.datasets.manifest import Manifest; print(json.dumps(Manifest.model_json_schema(), indent=1))' > data_manifests/schema.json

bench: $(READY)
	@echo "-- neurosuper against other packages"
	@$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	@$(BIN)/python benchmarks/finders.py
	@$(BIN)/python benchmarks/streaming.py
	@$(BIN)/python benchmarks/index.py
	@$(BIN)/python benchmarks/psychophysics.py
	@$(BIN)/python benchmarks/spikes.py
	@$(BIN)/python benchmarks/superposition.py
	@$(BIN)/python benchmarks/selectivity.py
	@$(BIN)/python benchmarks/populations.py
	@$(BIN)/python benchmarks/nsd_memory.py

mutate: $(READY)
	@echo "-- small changes of the code, which the tests should notice (hours)"
	@$(BIN)/python -m pip install --quiet 'cosmic-ray>=8.7'
	@$(BIN)/python benchmarks/mutate.py

fuzz: $(READY)
	@echo "-- about 3,000 damaged files, 60 killed processes, full disks (an hour)"
	@NEUROSUPER_FUZZ=5 $(BIN)/python -m pytest tests/fuzz

validate: $(READY)
	@echo "-- simulated studies, into benchmarks/VALIDATION.md"
# one process per core, and so one thread per process
	@TQDM_DISABLE=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python benchmarks/validate.py $(if $(PART),--part $(PART)) > benchmarks/VALIDATION.new
	@mv benchmarks/VALIDATION.new benchmarks/VALIDATION.md

clean:
	rm -rf .venv $(FLOORS) build *.egg-info demo_output .mypy_cache .pytest_cache .ruff_cache
