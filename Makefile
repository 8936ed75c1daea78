# make demo   export, track and time two untrained networks and the packaged one, on a clip drawn here
# make test   the whole test suite (make test ARGS="--slow" for the minutes-long ones too)
# make test-pythons   the tests that need no torch, with the newest release of every dependency, on other Pythons
# make lint   ruff and mypy
# make help-texts   the commands' help, anew into docs/help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := export,cpu,train,bench,calib,dev
ARGS ?=

.PHONY: env demo test test-pythons lint help-texts clean

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

# What is listed is all that runs there, and nothing of it is skipped: a module that comes to need torch fails.
WITHOUT_TORCH := tests/runtime/bundle tests/runtime/command tests/runtime/video tests/runtime/test_crop.py \
	tests/runtime/test_geometry.py tests/runtime/trtrun/test_cli.py tests/runtime/trtrun/results \
	tests/runtime/trtrun/test_run.py tests/runtime/trtrun/test_several.py tests/runtime/view/test_address.py \
	tests/runtime/view/test_server.py tests/runtime/view/test_session.py tests/test_package.py tests/bench/sequences
find_python = $(shell for p in $(HOME)/.pyenv/versions/$(1).*/bin/python python$(1); do \
	$$p --version >/dev/null 2>&1 && echo $$p && break; done)
OTHER_PYTHONS ?= $(foreach version,3.12 3.13,$(if $(call find_python,$(version)),$(version)))

.PRECIOUS: build/python-%/.installed

test-pythons: $(OTHER_PYTHONS:%=test-python-%)
	@echo "tests without torch passed on other Pythons: $(or $(OTHER_PYTHONS),none found)"

test-python-%: build/python-%/.installed
	build/python-$*/bin/python -m pytest $(WITHOUT_TORCH)

build/python-%/.installed: pyproject.toml CMakeLists.txt $(wildcard runtime/native/*)
	$(or $(call find_python,$*),$(error no Python $* here)) -m venv build/python-$*
	build/python-$*/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager \
		--editable ".[cpu,bench]" pytest hypothesis got10k six motmetrics pycocotools onnx
	touch $@

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

# What tests/test_help.py compares with the commands.
help-texts: env
	$(BIN)/python docs/help/write.py

clean:
	rm -rf build demo .pytest_cache .mypy_cache .ruff_cache
