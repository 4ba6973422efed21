# microrec: `make` lists what there is. Each target creates what it needs (.venv included).
PYTHON ?= python3.11
WORLD ?= var/world
PORT ?= 8080
WORKERS ?= 2
MAKEFLAGS += --no-print-directory
export GX_ANALYTICS_ENABLED = false

.DEFAULT_GOAL := help
.PHONY: help night test test-cluster check format ui java clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "microrec needs Python 3.11: set PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

java:
	@command -v java >/dev/null || { test -n "$$JAVA_HOME" && test -x "$$JAVA_HOME/bin/java"; } || \
	  { echo "microrec needs Java 17 for Spark: install a JDK 17 (apt install openjdk-17-jre-headless) or set JAVA_HOME" >&2; exit 1; }

# Once per installation: what Spark loads at every start. Without it all works, more slowly.
.venv/.warm: .venv/.ready | java
	.venv/bin/microrec warm
	@touch $@

night: java .venv/.warm ## generate a planted world and run its last night through Airflow
	.venv/bin/microrec world --landing $(WORLD)/landing --seed 1 --users 400 --videos 800 --days 8
	.venv/bin/microrec night --day 2026-01-08 --landing $(WORLD)/landing --warehouse $(WORLD)/warehouse

test: java .venv/.warm check ## everything CI runs: style, types, import rules, tests
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-cluster: java .venv/.warm ## the Spark jobs on a standalone cluster that loses a worker
	.venv/bin/python -m pytest -m cluster tests/test_cluster.py

check: .venv/.ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m pip check

format: .venv/.ready ## let ruff rewrite what it can
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

ui: java .venv/.ready ## Airflow on http://localhost:$(PORT) with the nightly DAG in it
	.venv/bin/microrec ui --port $(PORT)

clean: ## remove what runs have written (not .venv)
	rm -rf var
