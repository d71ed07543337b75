# The two commands that always work on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := protos agent coordinator trainer lab tests scripts
# Most tests wait for one process, so two files run at a time, the slow folders first. A trial fills two cores by itself.
# pytest-xdist makes the paths of temporary folders longer, and those of sockets end at 107 bytes: hence a short one, which
# stays where a test failed.
# The first process that crashes ends the run: pytest-xdist 3.8 waits for ever for files that a crashed one had finished.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 tests/integration tests/simulation tests/unit
ONE_BY_ONE := tests/e2e tests/gpu
# Where a test's own limit cannot end it (a thread that hangs in C code, say), the process does, with all stacks.
NOT_LONG := -m 'not long' -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true

.PHONY: help setup servers demo test test-all check stubs dashboard bench bench-peers clean
.DEFAULT_GOAL := help

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## a virtual environment with everything

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Ryzen needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	@# What an older pip writes into .venv/bin imports `re`, two thirds of what `ryzen-worker` then costs beside Python.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.2'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# As pip does for what it copies: where Python writes no bytecode by itself, each start of a rank would compile ours.
	$(BIN)/python -m compileall -q protos agent coordinator trainer lab
	@touch $@

servers: .servers/.installed  ## the real servers that telemetry is tested against (190 MB in .servers)

.servers/.installed: scripts/install_servers.py | setup
	$(BIN)/python scripts/install_servers.py
	@test -e .servers/why-not.txt || touch $@

demo: setup  ## a GPT on two nodes, one rank frozen in mid-run, and its recovery
	$(BIN)/ryzen-lab demo

check: setup  ## lint, types, layers
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy protos agent coordinator trainer lab scripts
	$(BIN)/lint-imports

test: check servers  ## every check and a representative set of tests
	folder=$$(mktemp -d /tmp/rz.XXXXXX) && $(BIN)/pytest $(NOT_LONG) $(SIDE_BY_SIDE) --basetemp=$$folder && { rm -rf $$folder || :; }
	$(BIN)/pytest $(NOT_LONG) $(ONE_BY_ONE)

test-all: check servers  ## the long trials too
	folder=$$(mktemp -d /tmp/rz.XXXXXX) && $(BIN)/pytest $(SIDE_BY_SIDE) --basetemp=$$folder && { rm -rf $$folder || :; }
	$(BIN)/pytest $(ONE_BY_ONE)

stubs: setup  ## compile the protocol buffers (pinned grpcio-tools, see scripts/stubs.py)
	$(BIN)/python scripts/stubs.py protos

dashboard: setup  ## write deploy/observability/ryzen-run.json anew
	$(BIN)/python scripts/dashboard.py

bench: setup  ## measure; writes docs/benchmarks.md
	$(BIN)/ryzen-lab bench

bench-peers: setup  ## the same faults under other tools: installs them into .peers (1 GB each), takes over an hour
	-$(BIN)/ryzen-lab install-peers torchrun nvrx torchft dlrover
	$(BIN)/ryzen-lab bench --peers torchrun,nvrx,torchft,dlrover --faults kill,stop,node-kill --repeat 5 --json peers.json

clean:  ## remove what setup and the tests made
	rm -rf $(VENV) .peers .servers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
