# The front door. Everything here works in a fresh clone: each target brings what it needs into this folder.
#
#   make demo    the example shop on a real PostgreSQL and Valkey, with traffic (Ctrl-C ends it)
#   make test    the whole suite against the built wheel, as CI runs it
#   make quick   the tests that take less than five seconds each
#   make lint    ruff, mypy, pyright, import-linter
#   make docs    every Python block and every link of the documentation
#   make bench   the benchmarks (minutes); one of them: make bench BENCH=benchmarks/breaker.py
#   make clean   remove what the targets above made

PYTHON ?= python3
BIN := .venv-test/bin
# `worksteal`: the slow tests are few and long.
PYTEST := $(BIN)/pytest -n auto --dist worksteal

.PHONY: demo test quick lint docs bench clean environment binaries

demo: environment
	@exec $(BIN)/python examples/shop/demo.py $(ARGS)

test: environment binaries
	@TESTS_EXPECT_WHEEL=1 $(PYTEST) $(ARGS)

quick: environment binaries
	@$(PYTEST) -m "not slow and not nightly" $(ARGS)

docs: environment
	@$(PYTEST) tests/docs $(ARGS)

bench:
	@$(PYTHON) scripts/environment.py bench
	@set -e; for one in $(or $(BENCH),benchmarks/[a-z]*.py); do .venv-bench/bin/python $$one $(ARGS); done

lint:
	@$(PYTHON) scripts/environment.py lint
	@.venv-lint/bin/ruff check .
	@.venv-lint/bin/ruff format --check .
	@.venv-lint/bin/mypy
	@.venv-lint/bin/pyright --pythonpath .venv-lint/bin/python
	@.venv-lint/bin/lint-imports

environment:
	@$(PYTHON) scripts/environment.py test

binaries: environment
	@$(PYTHON) scripts/debian_binaries.py prometheus promtool prometheus-alertmanager >/dev/null

clean:
	rm -rf .cache .grafana-schema .tox .venv-test .venv-bench .venv-lint .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
