# The only entry points. `make help` tells what there is; everything else sets itself up at the first call.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Any Python of 3.11 or later makes the environment: make PYTHON=python3.13 setup
PYTHON ?= python3
# How many tests run at once. Much of their time is waiting, so more than a small machine has cores.
WORKERS ?= 4

BIN := .venv/bin
STAMP := .venv/.regie-installed
NPM := .tools/node_modules/.package-lock.json
CLIENTS := .tools/clients/bin/openapi-python-client
UV = $$(command -v uv || echo .tools/bin/uv)
SERVICES := $(notdir $(patsubst %/pyproject.toml,%,$(wildcard services/*/pyproject.toml)))
PROJECTS := contracts chassis networks local $(addprefix services/,$(SERVICES))
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
# So that the first start is as fast as the second.
export UV_COMPILE_BYTECODE := 1
# The project's own interpreter, whatever environment the caller is in.
unexport VIRTUAL_ENV

.PHONY: help setup run demo shell hostile late test test-networks check lint format protos services baseline lock bench clean proto-check openapi-check deploy-check

help: ## Tell what there is
	@awk -F ':.*## ' '/^[.a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv (done by the other targets on their own)
	@:

run: $(STAMP) ## Start everything on this machine until Ctrl-C; REGIE_PORT=8000 REGIE_SANDBOX_PORT=8090
	@exec $(BIN)/python tools/run.py

demo: $(STAMP) ## Take one post from the REST call to its numbers, and show its trace
	@exec $(BIN)/python tools/demo.py

shell: $(STAMP) ## Open a shell beside a service of `make run`: its settings, python, psql; SERVICE=gateway ARGS="psql -l"
	@exec $(BIN)/python tools/shell.py $(SERVICE) $(ARGS)

hostile: $(STAMP) ## Attack an installation of its own, and print what its neighbour felt; ARGS="H4 M2" for some
	@exec $(BIN)/python tools/hostile/hostile.py $(ARGS)

test: $(STAMP) ## Run the tests, side by side; WORKERS=4, ARGS=one_file.py
	@$(BIN)/python -m pytest -m "not networks" --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

test-networks: $(STAMP) ## Install real servers of networks and run the tests against them
	@$(BIN)/python tests/networks/install.py
	@$(BIN)/python -m pytest tests/networks -m networks $(ARGS)

late: $(STAMP) ## Lose answers and hand calls on late, on stand-ins of networks; ARGS="--posts 200 --quiet 120"
	@$(BIN)/python tools/late/late.py $(ARGS)

check: lint proto-check openapi-check deploy-check ## Check everything that needs no running service
	@$(BIN)/python tools/locks.py check

lint: $(STAMP) ## Check form, types and imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy tools bench tests $(wildcard */src */tests services/*/src services/*/tests)
	@$(BIN)/lint-imports

format: $(STAMP) ## Put the code into form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

protos: $(STAMP) ## Generate contracts/, docs/asyncapi.yaml and the tables of docs/networks.md
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/protos.py
	@$(BIN)/python tools/asyncapi.py
	@$(BIN)/python tools/networks.py

services: $(STAMP) ## Render services.toml into compose, the import rules, the workspace and the users of NATS
	@$(BIN)/python tools/services.py
	@$(BIN)/python tools/nats_conf.py

proto-check: $(STAMP) $(NPM) ## Check the form of the protos, and that they only grow
	@$(BIN)/python tools/buf.py

openapi-check: $(STAMP) $(NPM) $(CLIENTS) ## Check the form of the OpenAPI document, and that it only grows
	@$(BIN)/python tools/openapi/check.py

deploy-check: $(STAMP) ## Check that the files of a deployment can be read
	@$(BIN)/python tools/deployment.py
	@for script in .ci/run $(wildcard deploy/*.sh); do bash -n "$$script"; done

baseline: $(STAMP) $(NPM) ## Decide that others build against the contracts as they are now (contracts/baseline)
	@$(BIN)/python tools/buf.py baseline
	@$(BIN)/python tools/openapi/check.py baseline

lock: $(STAMP) ## Resolve the dependencies anew and write all requirements.lock
	@$(BIN)/python tools/locks.py write

.env: .env.example $(STAMP) ## Make up the secrets that docker-compose.yml asks for, as far as they are missing
	@$(BIN)/python tools/secrets_of_compose.py

bench: $(STAMP) .tools/celery/.installed .tools/redis/redis-server ## Measure, beside a reference in the same run, and write bench/RESULTS.md
	@$(BIN)/python bench/run.py

clean: ## Remove what was installed and cached; the data of `make run` stay
	@rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .schemathesis

.tools/bin/uv: tools/uv.requirements.lock
	@$(PYTHON) -c 'import pip' 2>/dev/null || { echo "pip is missing for $(PYTHON); on Debian: apt-get install python3-pip" >&2; exit 1; }
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools --root-user-action=ignore \
		--upgrade --require-hashes -r tools/uv.requirements.lock
	@touch $@

.tools/celery/.installed: tools/celery.requirements.lock
	@$(UV) venv --quiet --clear --python "$$($(BIN)/python -c 'import sys; print(sys.executable)')" .tools/celery
	@$(UV) pip install --quiet --python .tools/celery/bin/python --require-hashes -r tools/celery.requirements.lock
	@touch $@

.tools/redis/redis-server:
	@$(BIN)/python tests/networks/install.py --redis .tools/redis

$(NPM): tools/npm/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing; it installs what checks proto/ and the OpenAPI document: https://nodejs.org" >&2; exit 1; }
	@mkdir -p .tools && cp tools/npm/package.json tools/npm/package-lock.json .tools/
	@npm ci --silent --no-fund --no-audit --ignore-scripts --prefix .tools
	@touch $@

$(CLIENTS): tools/clients.requirements.lock $(STAMP)
	@$(UV) venv --quiet --clear --python $(BIN)/python .tools/clients
	@$(UV) pip install --quiet --python .tools/clients/bin/python --require-hashes -r tools/clients.requirements.lock
	@touch $@

$(STAMP): requirements.lock $(addsuffix /pyproject.toml,$(PROJECTS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Régie needs Python 3.11 or later; choose one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@command -v uv >/dev/null || $(MAKE) .tools/bin/uv
	@[ -x $(BIN)/python ] || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	@echo "Installing the dependencies into .venv"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(addprefix -e ./,$(PROJECTS))
	@touch $@
