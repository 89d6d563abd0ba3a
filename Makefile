# Everything happens in .venv of this folder; the first command installs, the later ones reuse it.
PYTHON ?= python3
BIN := .venv/bin
STUDY := digits
RUN := runs/digits
BASELINE := cifar10_16

.PHONY: demo test test-python lint docs baseline bench clean

# One thread: two train these small networks little faster, and 20 to 50 times slower where something else runs
# on one of two cores (docs/training.md, Speed). The same figures on every number of cores, too.
demo: export OMP_NUM_THREADS := 1
demo: .venv/.demo-installed
	$(BIN)/aspk train $(STUDY) --check 32
	$(BIN)/aspk search $(STUDY)
	$(BIN)/aspk search $(STUDY) --sampler nsga2
	$(BIN)/aspk search $(STUDY) --sampler evolutionary
	$(BIN)/aspk report $(STUDY)
	$(BIN)/aspk export $(STUDY)
	$(BIN)/aspk compare $(STUDY)
	$(BIN)/aspk evaluate $(RUN)/export-$(STUDY) --split test
	@echo
	@echo "The report:    $(RUN)/report-$(STUDY)/report.html"
	@echo "The dashboard: $(BIN)/aspk dashboard $(STUDY)"

# A process for each core; tests of one file stay together, since they share what is costly to make.
test: .venv/.test-installed
	$(BIN)/python -m pytest -n auto --dist loadfile

# The same on another Python, in an environment of its own: make test-python PYTHON=python3.13
test-python:
	bash .ci/test_python $(PYTHON) dashboard,grpc,postgres,dev $(TESTS)

lint: .venv/.test-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Warnings are errors; docs/_build/html/index.html is read without a network.
docs: .venv/.test-installed
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

# Found networks against hand-made ones: benchmarks/comparison/PLAN.md. Resumable: the same command goes on.
# BASELINE_OPTIONS=--quick only shows that everything runs.
baseline: .venv/.demo-installed
	$(BIN)/python -m benchmarks.comparison $(BASELINE) --device cpu $(BASELINE_OPTIONS)

bench: .venv/.test-installed
	$(BIN)/python benchmarks/training.py --quick
	$(BIN)/python benchmarks/counting.py --quick
	$(BIN)/python benchmarks/overhead.py --quick
	$(BIN)/python benchmarks/search.py --quick

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("aspk needs Python 3.11 or newer; make PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/.demo-installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --progress-bar off --editable '.[dashboard]'
	touch $@

.venv/.test-installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --progress-bar off --editable '.[dashboard,grpc,postgres,dev]'
	touch $@ .venv/.demo-installed

clean:
	rm -rf .venv .venv-* runs build dist *.egg-info
