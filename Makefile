# Two commands are all the set-up there is: `make demo` and `make test`. Needs Linux, Python, pip and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# What the embedded cluster needs of the system, command:package; installed only when missing and only by root.
NEEDED := runc:runc nft:nftables ip:iproute2
test proof: NEEDED += curl:curl

# The parts that are pure functions, and the tests that hold them; the tests that start processes and servers.
PURE       := verdict model history report
PURE_TESTS := $(PURE:%=tests/%)
STARTING   := $(addprefix tests/,e2e embedded kube plugin proof repository stranger toolkit test_interrupts.py)
PYTEST     := $(BIN)/pytest -q
UNTIMED    := not slow and not live and not privileged
LIVE       := not slow and (live or privileged)
DURATIONS   = --durations=$(1) --durations-min=1
# Of what only computes, beside what waits for a cluster: such a cluster's processes come first.
BESIDE     := nice -n 10

# Where the environment forbids bytecode, each process of a test would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test quick pure rest live waiting judged lint lock docs proof proof-judge proof-matrix real kind real-kubernetes clean tools
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.run tools  ## an embedded cluster, three modes, two scenarios; reports in sharedfate-out/
	$(BIN)/sharedfate run --modes none,sidecar,node --scenarios proxy-killed,noisy-neighbour

# What waits leaves the cores to what computes; what is judged comes last, and alone.
test: $(VENV)/.test tools  ## all that CI runs: lint, types, import contracts, pure tests with coverage, the rest, live tests
	$(MAKE) --no-print-directory --jobs=4 --output-sync=target waiting rest lint pure
	$(MAKE) --no-print-directory judged

quick: $(VENV)/.test  ## the tests that start no processes, for the inner loop: under a minute, no root
	$(PYTEST) tests $(STARTING:%=--ignore=%) -m "$(UNTIMED)" -n logical -x

pure: $(VENV)/.test  ## the tests of the pure parts, with a floor under their coverage
	$(BESIDE) $(BIN)/coverage run -m pytest -q -m "not slow" $(PURE_TESTS) $(call DURATIONS,5)
	$(BIN)/coverage report

# A process a core: nothing here looks at the clock.
rest: $(VENV)/.test tools  ## the other tests that need no root
	$(BESIDE) $(PYTEST) tests $(PURE_TESTS:%=--ignore=%) -m "$(UNTIMED)" -n logical --dist loadfile $(call DURATIONS,20)

live:  ## the live tests; as root, or what needs root is skipped
	$(MAKE) --no-print-directory --jobs=1 waiting judged

waiting: $(VENV)/.test tools  ## the live tests that wait for a cluster more than they compute, beside each other
	$(PYTEST) tests -m "$(LIVE) and not judged" -n 4 --dist loadfile $(call DURATIONS,20)

judged: $(VENV)/.test tools  ## the live tests that judge, and have the machine for themselves
	$(PYTEST) tests -m "$(LIVE) and judged" $(call DURATIONS,20)

lint: $(VENV)/.test  ## ruff, mypy (tests, proof, benchmarks and examples too), import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet
	$(BESIDE) $(BIN)/mypy -p chaos -p sharedfate -p tests -p proof -p benchmarks
	$(BIN)/mypy --allow-untyped-defs examples  # as users write tests
	$(BIN)/lint-imports

docs: $(VENV)/.test  ## write docs/api.md and docs/toolkit-activities.md from the code
	$(BIN)/python -m proof.api
	$(BIN)/python -m proof.activities

lock: $(VENV)/.run  ## write constraints.txt from pyproject.toml's ranges, for every Python that is supported
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade --no-annotate --no-emit-index-url \
	  --custom-compile-command "make lock" --output-file constraints.txt pyproject.toml

proof: NEEDED += wrk:wrk
proof: $(VENV)/.test tools  ## what takes hours: whole runs, killed runners, the judge's error rates
	$(INSTALL) -e '.[lint,test,proof]'
	mkdir -p sharedfate-proof && rm -f sharedfate-proof/faults.jsonl
	SHAREDFATE_PROOF_LOG=$(CURDIR)/sharedfate-proof/faults.jsonl $(BIN)/pytest tests -q -m slow
	$(BIN)/python -m proof.faults --log sharedfate-proof/faults.jsonl
	$(BIN)/python -m proof.endings kills --count 200 --log sharedfate-proof/kills.jsonl
	$(BIN)/python -m proof.endings signals --count 100 --log sharedfate-proof/signals.jsonl
	$(BIN)/python -m proof.ratios
	$(MAKE) proof-judge

# An hour, of a machine that has nothing else to do. Writes docs and benchmarks/results.
proof-judge: NEEDED += wrk:wrk
proof-judge: $(VENV)/.test tools  ## how often the judge errs, and what the loader costs
	$(BIN)/python -m proof.judge --workers $$(nproc) --state sharedfate-proof/judge.json --out docs/judge-error-rates.md
	$(BIN)/python benchmarks/load.py --write
	$(BIN)/python -m proof.live --out sharedfate-proof --page docs/judge-live.md

# The default matrix ten times, three times on busy cores, and everything once. Three hours.
proof-matrix: $(VENV)/.run tools  ## how often a trial of the suite is wrong
	$(BIN)/python -m proof.matrix --out sharedfate-proof/matrix
	$(BIN)/python -m proof.busy --out sharedfate-proof/busy

# Go 1.26 and half an hour of one core the first time. Stays until it is interrupted, or runs RUN and goes.
real-kubernetes: NEEDED += buildah:buildah debootstrap:debootstrap
real-kubernetes: $(VENV)/.test tools  ## a real Kubernetes of three nodes on this machine, compiled from its public modules; root
	$(BIN)/python -m proof.kubernetes $(if $(RUN),-- $(RUN))

# On whatever cluster CLUSTER names: `make real CLUSTER=context:NAME`, or `make real PARTS=doctor,demo`.
CLUSTER ?= context:real-kubernetes
PARTS   ?= doctor,demo,matrix,faults,odd,meddled,killed,recordings
real: $(VENV)/.test  ## doctor, demo, default matrix, faults, meddlers, killed runs and recordings on a cluster that is there
	$(BIN)/python -m proof.real --cluster $(CLUSTER) --parts $(PARTS)

# The recordings look at the nodes' own processes, and are not for a container's.
kind: CLUSTER = kind:sharedfate-real
kind: PARTS   = doctor,demo,matrix,faults,odd,meddled,killed
kind: real  ## the same on a kind cluster, made and deleted: needs Docker and kind

# uv, which pip brings: the whole installation takes a quarter of pip's time, its own included. Nothing but ourselves is built.
# Certificates are the system's, as pip's are: a company has its own.
INSTALL := $(BIN)/uv pip install --quiet --system-certs --only-binary :all: --no-binary sharedfate --python $(BIN)/python -c constraints.txt

# Bytecode is compiled once, here, and not at the start of each pod, which cannot write it: of what our modules import, and not
# of the 1,900 modules of the Kubernetes client, of which that is forty.
COMPILE := $(BIN)/python -c 'import importlib, pkgutil, chaos; \
  [importlib.import_module(one.name) for one in pkgutil.walk_packages(chaos.__path__, "chaos.") if not one.name.endswith("__main__")]'

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(INSTALL) -e .
	$(BIN)/python -m compileall -q chaos sharedfate
	env -u PYTHONDONTWRITEBYTECODE $(COMPILE)
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(INSTALL) -e '.[lint,test]'
	touch $@

tools:
	@missing=""; for pair in $(NEEDED); do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

clean:  ## the environment, and what tools left
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
