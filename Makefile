# Everything runs in .venv, built once from requirements.lock by the Python of your choice: make PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
export MPLBACKEND := Agg
# File names and texts are UTF-8, whatever the locale.
export PYTHONUTF8 := 1
# Snakemake does not start without a cache folder, which it looks for in the home folder.
ifneq ($(shell test -w "$$HOME" && echo writable),writable)
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache
endif

.DEFAULT_GOAL := help
CONFIG ?= config/full.yaml

.PHONY: help replicate figures report readme plan compare reference check-reproducible bench bench-small validate docs test test-lowest test-wheel fuzz mutants check

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 20

replicate: .venv/ready ## Run the whole pipeline; fails if a claim of the paper fails
	@$(BIN)/snakemake --quiet rules host
	@cat results/verdict.txt
	@echo "claims:   results/claims.md"
	@echo "figures:  figures/"
	@echo "report:   results/report.html"

figures: .venv/ready ## Redraw the figures from cached artifacts
	@$(BIN)/snakemake figures --quiet rules host

report: .venv/ready ## Write results/report.html, one file to send: claims, figures, sources, run times
	@$(BIN)/snakemake results/report.html --quiet rules host
	@echo "report:   results/report.html"

readme: replicate ## Put the measured tables into the README and the page on the landing law
	@$(BIN)/python tools/update_readme.py results/claims.json README.md --benchmark results/benchmark.parquet \
	  --landings results/studies/landing/escape_survey.parquet docs/landing_law.md

plan: .venv/ready ## What the large sweep takes, without running it; CONFIG=... for another
	@$(BIN)/python tools/plan.py "$(CONFIG)"

compare: .venv/ready ## Put your run beside the reference run in results/reference/, row by row
	@$(BIN)/python tools/compare.py

reference: replicate ## Replace the reference run by the run in this folder, for a release
	@$(BIN)/python tools/compare.py --record

check-reproducible: .venv/ready ## 1 core, 2 cores, Slurm if there is one: the same results? FULL=1 for all experiments
	@$(BIN)/python tools/check_reproducible.py $(if $(FULL),config,tests/workflow/smoke)

bench: .venv/bench ## Time the pipeline, and the engine beside other tools; a line of benchmarks/history.jsonl (BENCH=--billion for a billion parameters)
	@$(BIN)/python benchmarks/pipeline.py --speedup
	@$(BIN)/python benchmarks/points.py
	@$(BIN)/python benchmarks/sharpness.py results/benchmark.parquet $(BENCH)
	@$(BIN)/python workflow/scripts/render_figure.py benchmark figures/benchmark --benchmark results/benchmark.parquet
	@cat results/benchmark.md
	@$(BIN)/python benchmarks/history.py results/benchmark.parquet --keep
	@$(BIN)/python benchmarks/scaling.py results/scaling.parquet
	@$(BIN)/python workflow/scripts/render_figure.py benchmark_scaling figures/benchmark_scaling --benchmark results/scaling.parquet
	@cat results/scaling.md
	@test ! -f results/claims.json || $(BIN)/python tools/update_readme.py results/claims.json README.md --benchmark results/benchmark.parquet \
	  --scaling results/scaling.parquet docs/speed.md

bench-small: .venv/ready ## A minute of the benchmark: a warning where the engine lost a fifth of its lead since the last make bench
	@$(BIN)/python benchmarks/sharpness.py results/benchmark_small.parquet --problems small square --tools "autograd + eigsh" \
	  --repeats 3 --budget 3 --limit 20
	@$(BIN)/python benchmarks/history.py results/benchmark_small.parquet

.venv/bench: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[bench]' \
	  || echo "some of the other tools could not be installed: they are reported as absent"
	@touch $@

validate: .venv/ready ## The engine against independent Hessians: thousands of minimizers of every kind, depths 2 to 20
	@$(BIN)/python benchmarks/validate.py results/validation.parquet

docs: .venv/ready ## The site: tutorials, results, mathematics and the library, as pages that need no network
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/sphinx-build -E -W --keep-going -q -d build/doctrees docs build/site
	@echo "site:     build/site/index.html"

test: .venv/ready ## Run the test suite, on two cores; WORKERS=... for another number
	$(BIN)/python -m pytest -n $(or $(WORKERS),2) --dist loadfile --no-loadscope-reorder

# Each of these two runs with the lowest versions that pyproject.toml allows, and what the other leaves out.
test-lowest: .venv/ready .venv/lowest ## Run the pipeline's unit tests with the lowest versions of all packages
	PYTHONPATH=src .venv/lowest/bin/python -m pytest -n 2 --hypothesis-profile few -m "not pipeline" \
	  --ignore=tests/workflow --ignore=tests/network --ignore=tests/hessian --ignore=tests/minimizers

.venv/lowest: constraints-lowest.txt | .venv/ready
	$(BIN)/python -m venv --clear $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $< || { rm -rf $@; exit 1; }
	@touch $@

test-wheel: .venv/wheel/ready ## Run the library's tests on its wheel, without the packages of the pipeline
	env -u PYTHONPATH DMF_LIBRARY_ONLY=1 .venv/wheel/bin/python -m pytest -n 2 --hypothesis-profile few \
	  tests/network tests/hessian tests/minimizers tests/library \
	  --ignore=tests/library/test_fuzzed_api.py --ignore=tests/minimizers/test_data_sets.py

# The wheel is built from the archive of sources, so that this is complete, too.
.venv/wheel/ready: constraints-lowest.txt pyproject.toml setup.py $(wildcard src/dmf_sharpness/*.py* src/dmf_sharpness/*/*.py src/dmf_sharpness/compiled/_*.[ch]) | .venv/ready
	rm -rf .venv/build .venv/dist $(@D)
	$(BIN)/python -m venv .venv/build
	.venv/build/bin/python -m pip install --quiet --disable-pip-version-check build
	.venv/build/bin/python -m build --outdir .venv/dist . > .venv/build/log || { cat .venv/build/log; exit 1; }
	$(BIN)/python -m venv $(@D)
	env -u PYTHONPATH $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt \
	  .venv/dist/*.whl pytest pytest-xdist hypothesis
	@! env -u PYTHONPATH $(@D)/bin/python -c 'import pandas' 2>/dev/null || { echo "expected no package of the pipeline, got pandas" >&2; exit 1; }
	@env -u PYTHONPATH $(@D)/bin/python -c 'from dmf_sharpness.compiled.lanes import available; assert available()' \
	  || echo "the wheel has no compiled kernels: is there a C compiler?" >&2
	@touch $@

fuzz: .venv/ready ## 20,000 calls of the library with arguments nobody checked; CALLS=... for another number
	@$(BIN)/python -m tests.fuzz --calls $(or $(CALLS),20000)

mutants: .venv/mutants ## Change one symbol at a time: does a test notice? MUTANTS="hessian network" for some rooms, FULL=1 for every place
	@$(BIN)/python -m tests.mutants $(MUTANTS) $(if $(FULL),--sample 0)

.venv/mutants: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[mutants]'
	@touch $@

check: .venv/ready ## Linters, formatters, type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/snakemake --lint

# .venv is kept if it is whole and, where PYTHON was given, of that version; else it is made anew.
VERSION := import sys; print("%d.%d.%d" % sys.version_info[:3])
PRESENT := $(if $(wildcard .venv/ready),$(shell $(BIN)/python -c '$(VERSION)' 2>/dev/null))
ifeq ($(origin PYTHON),file)
CHOSEN := $(PRESENT)
else
CHOSEN := $(shell "$(PYTHON)" -c '$(VERSION)' 2>/dev/null)
endif

.venv/ready: requirements.lock pyproject.toml setup.py $(wildcard src/dmf_sharpness/compiled/_*.[ch])
	@rm -f $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

ifeq ($(and $(PRESENT),$(filter $(PRESENT),$(CHOSEN))),)
.venv/ready: new-environment
endif

.PHONY: new-environment
new-environment:
	@found=$$("$(PYTHON)" -c '$(VERSION)' 2>&1 | head -n 1); case "$$found" in \
	  3.1[1-9]*|3.[2-9][0-9]*) ;; \
	  *) echo "PYTHON: expected Python 3.11 or newer, got $$found; choose another: make PYTHON=python3.12" >&2; exit 1 ;; \
	esac
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "PYTHON: expected one with the modules venv and ensurepip, got $(PYTHON); on Debian: apt install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear .venv
