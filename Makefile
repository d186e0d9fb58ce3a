# Two commands for a fresh machine: `make demo` and `make test`. Both build .venv in this folder first.
PYTHON ?= python3
VENV := .venv
BRAINSCORE := .venv-brainscore
PIP_LOG := pip.log
# tests run side by side, each on one thread
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: help demo test test-brainscore lint types imports benchmarks benchmarks-brainscore clean

help:
	@echo "make demo             build .venv and relate a network to a simulated brain; prints the report's path"
	@echo "make test             build .venv with the peers and run every check and test"
	@echo "make test-brainscore  the same tests beside Brain-Score, in .venv-brainscore"
	@echo "make benchmarks       agreement and speed against the peers, quick sizes"
	@echo "make benchmarks-brainscore  the same against Brain-Score"
	@echo "make clean            remove what these commands built"

# the commas of extras stay out of the arguments of $(call …)
TEST := .[dev,generate,media,peers,scale,spikes,topology,zoo]
BESIDE := .[brainscore,dev,generate,media,zoo]

# torch first, with the pin: any other one may bring gigabytes of CUDA libraries
define install
	$(PYTHON) -m venv $(1)
	@echo "installing into $(1) (log: $(1)/$(PIP_LOG))"
	@$(1)/bin/pip install -q -c $(2) torch > $(1)/$(PIP_LOG) 2>&1 || { tail -n 20 $(1)/$(PIP_LOG); exit 1; }
	@$(1)/bin/pip install -q -c $(2) -e "$(3)" >> $(1)/$(PIP_LOG) 2>&1 || { tail -n 20 $(1)/$(PIP_LOG); exit 1; }
endef

$(VENV)/.demo: pyproject.toml constraints.txt
	$(call install,$(VENV),constraints.txt,.)
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	$(call install,$(VENV),constraints.txt,$(TEST))
	@touch $@ $(VENV)/.demo

$(BRAINSCORE)/.test: pyproject.toml constraints-brainscore.txt
	$(call install,$(BRAINSCORE),constraints-brainscore.txt,$(BESIDE))
	@touch $@

demo: $(VENV)/.demo
	$(VENV)/bin/cerebridge demo --out demo

test: $(VENV)/.test lint types imports
	$(call PYTEST,$(VENV))

test-brainscore: $(BRAINSCORE)/.test
	$(call PYTEST,$(BRAINSCORE))

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# the checkout's folder is the package, whatever it is called: check it through a link of the right name
MYPY = "$(CURDIR)/$(VENV)/bin/mypy" --config-file cerebridge/pyproject.toml
types: $(VENV)/.test
	@link=$$(mktemp -d) && ln -s "$(CURDIR)" $$link/cerebridge && cd $$link \
	&& $(MYPY) cerebridge/exports.py cerebridge/neuro cerebridge/models cerebridge/encoding \
	&& $(MYPY) --strict --follow-imports=silent cerebridge/encoding/engine cerebridge/neuro/assembly.py; \
	status=$$?; rm -r $$link; exit $$status

imports: $(VENV)/.test
	$(VENV)/bin/lint-imports

benchmarks: $(VENV)/.test
	for name in ridge banded trf glm families permutation rsa crossnobis inference searchlight representations extraction gram sae; do $(VENV)/bin/python -m benchmarks $$name --quick || exit 1; done

benchmarks-brainscore: $(BRAINSCORE)/.test
	for name in brainscore wrapper; do $(BRAINSCORE)/bin/python -m benchmarks $$name --quick || exit 1; done

clean:
	rm -rf $(VENV) $(BRAINSCORE) build dist demo *.egg-info
