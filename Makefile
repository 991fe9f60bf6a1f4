# make demo    from a fresh clone to a restored photograph at once, then minutes of training (DEMO_ARGS=--no-train: without)
# make test    lint, types and tests in their own environment, as CI does
# make fast    the tests that take less than a minute together
# make install the environment in .venv, for everything else

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin
TORCH ?= torch torchvision
DEMO_ARGS ?=

.PHONY: demo test fast install lint types unit clean

demo: $(VENV)/installed
	$(RUN)/python scripts/demo.py $(DEMO_ARGS)

test: lint types unit

install: $(VENV)/installed

lint: $(VENV)/installed
	$(RUN)/ruff check .

types: $(VENV)/installed
	@if [ -x $(RUN)/mypy ]; then $(RUN)/mypy; else echo 'types are not checked: mypy needs Python 3.10 or newer'; fi

unit: $(VENV)/installed
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest

fast: $(VENV)/installed
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -m 'not slow'

# torch and torchvision together first: a torch without its own torchvision fails with "torchvision::nms does not exist"
$(VENV)/installed: setup.py scripts/install/install_basicsr.py
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet setuptools wheel
	$(RUN)/python -m pip install --quiet $(TORCH)
	$(RUN)/python scripts/install/install_basicsr.py --quiet
	$(RUN)/python -m pip install --quiet -e '.[test,demo,dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info
