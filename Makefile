# Plain commands only: whatever a target does can be typed by hand.
# `make help` lists the targets. ARGS="..." goes on to pytest and to single processes.
MAKEFLAGS += --no-print-directory
PY := .muster/venv/bin/python
EMBEDDED := $(PY) -m orchestrator.embedded
PACKAGES := orchestrator agents_app costs tenants
ON_TEST_SERVERS := DJANGO_SETTINGS_MODULE=orchestrator.settings.test $(EMBEDDED) with-servers

.DEFAULT_GOAL := help
.PHONY: help install setup demo up down status worker control web flower migrate \
        test test-all unit explore e2e browser load check lint format types imports migrations schema bench \
        chaos

help: ## What can be made
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 14

install: ## Fill .muster/venv with what running needs
	@sh orchestrator/embedded/bootstrap.sh

setup: ## ... and with what checks and tests need
	@sh orchestrator/embedded/bootstrap.sh --dev

# --- run ---

demo: install ## Everything on this machine, with a first run shown live (ONCE=1: then stop)
	@$(EMBEDDED) demo $(if $(filter-out 0,$(ONCE)),--once)

up: install ## Everything in the background
	@$(EMBEDDED) up

down: ## Stop it, and whatever a crash left behind
	@if [ -x $(PY) ]; then $(EMBEDDED) down; else echo "Nothing was running."; fi

status: install ## What runs, and where
	@$(EMBEDDED) status

worker: install ## One process that runs agents
	@$(PY) -m orchestrator.embedded.commands worker $(ARGS)

control: install ## One process that advances runs and sweeps
	@$(PY) -m orchestrator.embedded.commands control $(ARGS)

web: install ## The API and the admin
	@$(PY) -m orchestrator.embedded.commands web $(ARGS)

flower: install ## Celery's monitor; needs FLOWER_BASIC_AUTH=user:password
	@$(PY) -m orchestrator.embedded.commands flower $(ARGS)

migrate: install ## Bring the database to the newest tables
	@$(PY) manage.py migrate

# --- test ---

# What does not watch the clock goes side by side. The others go two at a time: they mostly wait for
# their worker processes, which each module has for itself.
SIDE_BY_SIDE = -n auto --maxprocesses 8 tests/unit tests/property tests/integration
TWO_AT_A_TIME = -n auto --maxprocesses 2 --dist loadscope tests/e2e tests/browser

test: ## Every test that is not load, on servers of its own
	@sh orchestrator/embedded/bootstrap.sh --dev --browser
	@$(if $(ARGS),:,$(PY) -m pytest -m "not load" -q --durations=10 $(SIDE_BY_SIDE))
	@$(PY) -m pytest -m "not load" $(or $(ARGS),-q --durations=10 $(TWO_AT_A_TIME))

test-all: ## ... and the load tests
	@sh orchestrator/embedded/bootstrap.sh --dev --browser
	@$(PY) -m pytest $(ARGS)

unit: setup ## Seconds: no database, no socket
	@$(PY) -m pytest tests/unit tests/property $(ARGS)

explore: setup ## The property tests with examples that nobody has tried yet
	@$(PY) -m pytest tests/property --hypothesis-profile=explore $(ARGS)

e2e: setup ## Real worker processes
	@$(PY) -m pytest tests/e2e $(ARGS)

browser: ## The pages in a real browser
	@sh orchestrator/embedded/bootstrap.sh --dev --browser
	@$(PY) -m pytest tests/browser $(ARGS)

load: setup ## Prints figures
	@$(PY) -m pytest tests/load -s $(ARGS)

bench: setup ## All benchmarks (BENCH=name: one)
	@$(PY) -m benchmarks $(BENCH)

chaos: setup ## A storm over money, one over everything, a verdict each (ARGS="--short --seed 7")
	@$(PY) manage.py chaos $(filter-out --money,$(ARGS)) --money
	@$(if $(filter --money,$(ARGS)),:,$(PY) manage.py chaos $(ARGS))

# --- check ---

check: lint types imports migrations schema ## What every change has to pass

lint: setup ## Style, and whether the code is formatted
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: setup ## Format the code and mend what can be mended
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

types: setup ## Static types
	@$(PY) -m mypy $(PACKAGES) benchmarks

imports: setup ## Who may import whom
	@$(PY) -c "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"

migrations: setup ## No model without its migration
	@$(ON_TEST_SERVERS) manage.py makemigrations --check --dry-run

schema: setup ## The OpenAPI schema is valid
	@$(ON_TEST_SERVERS) manage.py spectacular --validate --fail-on-warn --file .muster/openapi.yaml
