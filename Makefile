# `make run` and `make test` do all the set-up themselves; both are quick the second time.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

SEEDS  ?= 1000

.PHONY: help run test test-long e2e e2e-short e2e-full check format benchmarks reference crd chart golden servers simulate demo-reality-check clean clean-data

help:            ## What there is
	@grep -hE '^[a-z0-9-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | expand -t 14

run: $(STAMP)    ## The quick start: five agents trade three weeks of real candles on paper
	@$(BIN)/tradingbot run examples/quickstart.yaml $(ARGS)

test: $(STAMP)   ## The everyday tests
	@$(BIN)/python -m pytest $(ARGS)

test-long: $(STAMP) ## The tests that take minutes: the operator's whole life, its faults, the chart on a cluster
	@$(BIN)/python -m pytest -m minutes $(ARGS)

e2e: $(STAMP)    ## The whole stack on a real node, or on the cluster of TRADINGBOT_E2E_KUBECONFIG
	@$(BIN)/python -m pytest -m 'e2e and not storms' tests/e2e $(ARGS)

e2e-short: $(STAMP) ## Of these, what CI runs: the quick start's page, and two bots that trade
	@$(BIN)/python -m pytest -m 'e2e and short' tests/e2e $(ARGS)

e2e-full: $(STAMP) ## The same, and storms: everything is killed again and again while two bots trade
	@$(BIN)/python -m pytest -m e2e tests/e2e $(ARGS)

simulate: $(STAMP) ## The deterministic simulation: SEEDS=10000 lives of a bot, and what they met
	@$(BIN)/python scripts/simulate.py --seeds $(SEEDS) $(ARGS)

demo-reality-check: $(STAMP) ## A running bot is broken and mended, and what the reality check says of each (2 min)
	@$(BIN)/python scripts/demo_reality_check.py

servers:         ## Real servers for the tests; InfluxDB, Kubernetes and Helm are built: 12 to 25 min, once
	@bash scripts/servers/postgresql.sh
	@bash scripts/servers/pgbouncer.sh
	@bash scripts/servers/rabbitmq.sh
	@bash scripts/servers/influxdb.sh
	@bash scripts/servers/kubernetes.sh
	@bash scripts/servers/helm.sh
	@bash scripts/servers/promtool.sh

check: $(STAMP)  ## ruff, mypy strict, the import contract, and that generated files are current
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/generate_crd.py --check
	@$(BIN)/python scripts/generate_chart.py --check

format: $(STAMP) ## Format and sort imports
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

benchmarks: $(STAMP) ## The programs behind docs/performance.md
	@for program in benchmarks/*.py; do echo "== $$program"; $(BIN)/python $$program || exit 1; done

reference: $(STAMP)  ## Generate docs/reference from the types
	@$(BIN)/python scripts/generate_reference.py

crd: $(STAMP)    ## Generate crds/tradingbots.yaml from the types
	@$(BIN)/python scripts/generate_crd.py

chart: $(STAMP)      ## Generate what the chart takes over: the CRD, and its page of values
	@$(BIN)/python scripts/generate_chart.py

golden: $(STAMP)     ## Write the golden reports anew: only with a reason, which goes into the commit
	@TRADINGBOT_WRITE_GOLDEN=1 $(BIN)/python -m pytest -q tests/integration/test_golden.py -k golden_replay

clean-data:      ## Forget what the quick start wrote
	@rm -rf .tradingbot

clean: clean-data ## … and the virtual environment
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": name another with make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)
