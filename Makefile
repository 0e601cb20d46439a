# Everything runs in .venv, into which is installed anew whenever pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# where this file is there, the demo adds LPIPS
TRUNK := $(NEUROSUPER_TEST_DATA)/nets/alexnet_features_fp16.npz

.PHONY: help demo test lint schema bench validate fuzz mutate clean

help:
	@echo "make demo   install into .venv and run the main job offline: a report in demo_output/"
	@echo "make test   install into .venv and run the whole test-suite"
	@echo "make lint   style, types, import contracts"
	@echo "make schema JSON schema of manifests, for editors"
	@echo "make bench  ours against the peers, ratios measured in one run"
	@echo "make validate   simulated studies: error rates of tests, coverage of intervals (minutes)"
	@echo "make fuzz       damaged files, kills and full disks, five times as many as in make test (an hour)"
	@echo "make mutate     small changes of the code, one at a time: how many do the tests notice? (hours)"
	@echo "make clean  remove .venv and what was generated"

$(READY): pyproject.toml
	@echo "-- installing neurosuper and its tests into .venv (a few minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "neurosuper needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(READY)
	@echo "-- running the main job offline (under a minute)"
	@$(BIN)/neurosuper demo demo_output $(if $(wildcard $(TRUNK)),--lpips-weights $(TRUNK))

test: $(READY)
	@echo "-- running the test-suite"
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(READY)
	@echo "-- style, types, import contracts"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

schema: $(READY)
	@$(BIN)/python -c 'import json; from neurosuper.datasets.manifest import Manifest; print(json.dumps(Manifest.model_json_schema(), indent=1))' > data_manifests/schema.json

bench: $(READY)
	@echo "-- ours against the peers"
	@$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	@$(BIN)/python benchmarks/finders.py
	@$(BIN)/python benchmarks/streaming.py
	@$(BIN)/python benchmarks/index.py
	@$(BIN)/python benchmarks/psychophysics.py
	@$(BIN)/python benchmarks/spikes.py
	@$(BIN)/python benchmarks/nsd_memory.py

mutate: $(READY)
	@echo "-- small changes of the code that the tests should notice (hours)"
	@$(BIN)/python -m pip install --quiet 'cosmic-ray>=8.7'
	@$(BIN)/python benchmarks/mutate.py

fuzz: $(READY)
	@echo "-- some 3,000 damaged files, 60 kills, full disks (an hour)"
	@NEUROSUPER_FUZZ=5 $(BIN)/python -m pytest tests/fuzz

validate: $(READY)
	@echo "-- simulated studies, into benchmarks/VALIDATION.md"
	@TQDM_DISABLE=1 $(BIN)/python benchmarks/validate.py > benchmarks/VALIDATION.new
	@mv benchmarks/VALIDATION.new benchmarks/VALIDATION.md

clean:
	rm -rf .venv build *.egg-info demo_output .mypy_cache .pytest_cache .ruff_cache
