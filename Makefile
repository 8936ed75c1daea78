# make demo   export, track and time two untrained networks and the packaged one, on a clip drawn here
# make test   the whole test suite (make test ARGS="--slow" for the minutes-long ones too)
# make lint   ruff and mypy
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := export,cpu,train,bench,calib,dev
ARGS ?=

.PHONY: env demo test lint clean

env: $(VENV)/.installed

# torch first and pinned: a plain range would take the newest build, gigabytes of CUDA with it.
$(VENV)/.installed: pyproject.toml CMakeLists.txt __init__.py $(wildcard runtime/native/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	touch $@

test: env
	$(BIN)/python -m pytest $(ARGS)

# mypy does not see through an editable install with mapped folders: it is given a package made of links.
PACKAGES := runtime export bench calib train
lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/typing/jntrt
	for p in __init__.py py.typed $(PACKAGES); do ln -sfn ../../../$$p build/typing/jntrt/$$p; done
	cd build/typing && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml --namespace-packages --explicit-package-bases -p jntrt

demo: env
	$(BIN)/python examples/demo.py

clean:
	rm -rf build demo .pytest_cache .mypy_cache .ruff_cache
