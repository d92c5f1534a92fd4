# Every target prepares .venv itself, from the versions and digests in constraints/.

PYTHON ?=
BIN := .venv/bin
STAMP := .venv/installed
TOOLS := .venv/tools
# Of `make sbom`: those of the image.
EXTRAS := aws,gcp
VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"$$/\1/p' store/release.py)
SBOM := sbom.cdx.json

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test lint mutants bench-embed bench-index bench-update bench-reindex bench-serve image constraints sbom clean

# Draws the sample catalog, embeds it, indexes it and searches it, in ./demo.
demo: $(STAMP)
	@$(BIN)/shelfmark demo

test: $(STAMP)
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy --no-error-summary

# Changes the code a little, again and again, and counts the changes that no test sees: ARGS may name some, such as
# 'index_builder.search.engine*'.
mutants: $(STAMP)
	@$(BIN)/python constraints/install.py mutants
	@$(BIN)/python -m mutmut run $(ARGS)
	@$(BIN)/python -m tests.support.mutation_score

bench-embed: $(STAMP)
	@$(BIN)/python -m benchmarks.embed_throughput $(ARGS)

# hnswlib comes as source and needs a C++ compiler.
bench-index: $(STAMP)
	@$(BIN)/python constraints/install.py bench
	@$(BIN)/python -m benchmarks.index_search $(ARGS)

bench-update: $(STAMP)
	@$(BIN)/python -m benchmarks.index_update $(ARGS)

bench-reindex: $(STAMP)
	@$(BIN)/python -m benchmarks.reindex_cost $(ARGS)

# Needs k6, on PATH or named in SHELFMARK_K6.
bench-serve: $(STAMP)
	@$(BIN)/python -m benchmarks.serve_load $(ARGS)

image:
	@docker build -f deploy/Dockerfile -t shelfmark:$(VERSION) .

# Locks setup.py's requirements anew; versions stay unless ARGS='--upgrade-package NAME' (or --upgrade) says otherwise.
constraints: $(TOOLS)/installed
	@PYTHONPATH=. $(TOOLS)/bin/python -m constraints.compile $(TOOLS)/bin/uv $(ARGS)

# What an image is made of, as CycloneDX has it: Python 3.11, which is the image's.
sbom: $(TOOLS)/installed
	@$(TOOLS)/bin/python constraints/install.py --show --python 3.11 $(EXTRAS) >$(TOOLS)/requirements.txt
	@{ echo '[project]'; echo 'name = "shelfmark"'; echo 'version = "$(VERSION)"'; } >$(TOOLS)/pyproject.toml
	@$(TOOLS)/bin/cyclonedx-py requirements --output-reproducible --pyproject $(TOOLS)/pyproject.toml \
	    -o $(SBOM) $(TOOLS)/requirements.txt

clean:
	@rm -rf .venv build demo dist mutants $(SBOM) *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +

# A candidate is run, not only looked up: version managers leave names on PATH that do not start.
$(BIN)/pip:
	@found='no Python'; chosen=''; \
	for candidate in $(or $(PYTHON),python3.12 python3.11 python3.10 python3); do \
	    version=$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    case $$version in \
	        3.10|3.11|3.12) chosen=$$candidate; break;; \
	        *) found="$$version at $$(command -v "$$candidate")";; \
	    esac; \
	done; \
	if [ -z "$$chosen" ]; then \
	    echo "shelfmark needs Python 3.10-3.12; found $$found; set PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	"$$chosen" -m venv .venv

$(STAMP): setup.py constraints/install.py $(wildcard constraints/py3*.txt) | $(BIN)/pip
	@echo 'Installing the pinned set into .venv (a minute or more the first time, 2.7 GB)'
	@$(BIN)/python constraints/install.py dev
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

# In an environment of their own: they are no part of what is tested.
$(TOOLS)/installed: constraints/tools.txt | $(BIN)/pip
	@[ -x $(TOOLS)/bin/pip ] || $(BIN)/python -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install -q --require-hashes --only-binary :all: -r constraints/tools.txt
	@touch $@
