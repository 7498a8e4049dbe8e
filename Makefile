# One command for each habit; `make` lists them.
PYTHON ?= $(if $(wildcard .venv/bin/python),$(CURDIR)/.venv/bin/python,python)
export PYTHON

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Create .venv with the tested versions and everything for development
	python3 -m venv .venv
	.venv/bin/pip install -c constraints.txt -e '.[dev]'

.PHONY: check
check: ## Lint, formatting, types and architecture
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	.ci/types
	$(PYTHON) -m pytest tests/test_architecture.py

.PHONY: test
test: ## The tests, without the long ones
	$(PYTHON) -m pytest

.PHONY: slow
slow: ## The long property tests
	$(PYTHON) -m pytest -m slow

.PHONY: mutants
mutants: ## Plant bugs in a copy of the package and see that the tests find each of them
	$(PYTHON) -m pytest -m slow tests/testing/test_mutations.py

.PHONY: bench
bench: ## Time attention against dense attention on this machine
	$(PYTHON) -m bench

.PHONY: wheel
wheel: ## Build the wheel, install it elsewhere and use it
	.ci/wheel

.PHONY: golden
golden: ## Rewrite the golden files of the tests; review the difference before committing
	$(PYTHON) -m pytest --update-golden

.PHONY: gallery
gallery: ## Analyse and draw the bundled patterns anew: docs/gallery
	$(PYTHON) -m attnloom.library docs/gallery

.PHONY: ci
ci: ## All that must hold before a change goes in, from an empty environment
	.ci/run
