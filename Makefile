# Everything a fresh machine with Python 3.11, make and pip needs:
#   make eval    set up, run the lab benchmark side by side on local Ray (experts, then trained policies), write reports
#   make test    set up, check style and types, run the tests
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    ?= results/lab
# Where torch comes from. A machine without a GPU avoids gigabytes of CUDA with
#   make eval TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Suites whose simulators `make test-sims` covers; each must be set up (memvla setup SUITE).
SIMS ?= libero libero_plus calvin mikasa simpler

.PHONY: eval test test-sims setup lint clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or say make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[models,serve,train,docs,dev]' --config-settings editable_mode=compat
	touch $@

eval: setup
	$(BIN)/memvla run suite=lab_general,lab_memory,lab_imagination policy=expert,expert_memoryless,random \
	  run.trials=10 run.dir=$(RUN)
	$(BIN)/memvla run suite=lab_memory run.tasks=[remember_colour_3,remember_colour_5,press_order_marked] \
	  policy=cogact_lab,memoryvla_lab,memoryvla_pp_lab run.trials=20 run.dir=$(RUN)_memory
	$(BIN)/memvla run suite=lab_imagination run.tasks=[catch_puck] policy=cogact_lab,memoryvla_lab,memoryvla_pp_lab \
	  run.trials=20 run.dir=$(RUN)_imagination

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -q

test-sims: setup
	for sim in $(SIMS); do $(BIN)/python -m harness.simtests $$sim || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
