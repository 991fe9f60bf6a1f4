# make demo     restores a photograph, then trains a small network for at most 3 minutes (DEMO_ARGS=--no-train: only the first)
# make test     lint, types and all tests, as CI runs them
# make fast     the fast tests: less than a minute
# make install  the environment in .venv, which the others create too

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin
TORCH ?= torch torchvision
DEMO_ARGS ?=
PYTEST = OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n 2 --dist loadgroup

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
	$(PYTEST)

fast: $(VENV)/installed
	$(PYTEST) -m 'not slow'

# torch and torchvision together: a torch without its own torchvision fails with "torchvision::nms does not exist"
$(VENV)/installed: setup.py scripts/install/install_basicsr.py
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet setuptools wheel
	$(RUN)/python -m pip install --quiet $(TORCH)
	$(RUN)/python scripts/install/install_basicsr.py --quiet
	$(RUN)/python -m pip install --quiet -e '.[test,demo,dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info
