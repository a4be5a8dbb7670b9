# Two commands are all the set-up there is: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# What the embedded cluster needs of the system, command:package; installed only when missing and only by root.
NEEDED := runc:runc nft:nftables ip:iproute2
test proof: NEEDED += curl:curl

.PHONY: demo test proof proof-judge proof-matrix lint clean tools

demo: $(STAMP) tools
	$(BIN)/sharedfate run --modes none,sidecar,node --scenarios proxy-killed,noisy-neighbour

test: $(STAMP) tools lint
	$(BIN)/pytest tests -q -m "not slow"

proof: $(STAMP) tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[proof]'
	mkdir -p sharedfate-proof && rm -f sharedfate-proof/faults.jsonl
	SHAREDFATE_PROOF_LOG=$(CURDIR)/sharedfate-proof/faults.jsonl $(BIN)/pytest tests -q -m slow
	$(BIN)/python -m proof.faults --log sharedfate-proof/faults.jsonl
	$(MAKE) proof-judge

# How often the judge errs, and what the loader costs: an hour, of a machine that has nothing else to do. Writes docs and benchmarks/results.
proof-judge: NEEDED += wrk:wrk
proof-judge: $(STAMP) tools
	$(BIN)/python -m proof.judge --workers $$(nproc) --out docs/judge-error-rates.md
	$(BIN)/python benchmarks/load.py --write
	$(BIN)/python -m proof.live --out sharedfate-proof --page docs/judge-live.md

# How often a trial of the suite is wrong: the default matrix ten times, three times on busy cores, and everything once. Three hours.
proof-matrix: $(STAMP) tools
	$(BIN)/python -m proof.matrix --out sharedfate-proof/matrix

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

tools:
	@missing=""; for pair in $(NEEDED); do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
