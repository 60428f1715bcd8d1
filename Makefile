# `make help` says what each target does.

PYTHON ?= python3
# The system's own client first: a second one further up in PATH may lack the plugin that builds.
DOCKER ?= $(firstword $(wildcard /usr/bin/docker) docker)
IMAGE ?= abdomen-cascade
# Name of the archive that `make submission` writes.
TEAM ?= team
# Name a digest to build on the very same one again: python:3.11-slim-bookworm@sha256:...
BASE_IMAGE ?= python:3.11-slim-bookworm
# Index that holds PyTorch's CPU wheels; empty: pip's own configuration decides. See README.md.
TORCH_INDEX ?=
# The phantom that `make run` makes: voxels and mm along x, y and z.
PHANTOM ?= --size 256x256x120 --spacing 1.5x1.5x3
# Where `make evaluate` writes.
RESULTS ?= evaluation
# What `make benchmark` measures; `python -m app benchmark --help` lists the options.
BENCHMARK ?= --against reference
# Options for every `docker build`, for networks with rules of their own.
DOCKER_BUILD_OPTIONS ?=

# The container tests use the same client and base image.
export DOCKER BASE_IMAGE

BIN := .venv/bin
APP := $(BIN)/python -m app
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH_OPTIONS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' app/__init__.py)
REVISION := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

.DEFAULT_GOAL := help
.PHONY: help setup run test check audit sbom fuzz export evaluate image submission benchmark docs lock clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BIN)/.dev ## Make .venv with all that working on the code needs (torch included)

run: $(BIN)/.run ## Segment the scans in inputs/ (or a phantom, if there are none) into outputs/
	@mkdir -p inputs outputs; scans=inputs; \
	if [ -z "$$(ls inputs)" ]; then \
	    echo "No scans in inputs/: making a phantom"; scans=demo/scans; \
	    [ -e demo/scans/phantom_0000.nii.gz ] || { mkdir -p demo/scans demo/labels && $(APP) synthesize $(PHANTOM) \
	        --output demo/scans/phantom_0000.nii.gz --labels demo/labels/phantom.nii.gz; } || exit; \
	fi; \
	$(APP) predict --input $$scans --output outputs --preview

test: $(BIN)/.dev ## Run all tests; container tests too where a Docker engine answers
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

check: $(BIN)/.dev $(BIN)/.tools ## Run what CI runs before the tests: linter, format, types, import contracts, that tests load, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@echo $(BIN)/python -m pytest --collect-only # a test that cannot be loaded is found here, not after the image is built
	@found=$$($(BIN)/python -m pytest --collect-only --quiet) || { echo "$$found"; exit 1; }
	$(BIN)/mkdocs build --strict --quiet
	requirements/audit.sh .venv/tools/bin/pip-audit || [ $$? -eq 3 ] # offline is no fault of the code

docs: $(BIN)/.dev ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

fuzz: $(BIN)/.dev ## Read 100,000 damaged files: nothing may crash, hang or take memory beyond the cap
	$(BIN)/python tests/fuzz/fuzz_readers.py $(FUZZ_OPTIONS)

audit: $(BIN)/.tools ## Ask the package index about known vulnerabilities in what ships
	requirements/audit.sh .venv/tools/bin/pip-audit

sbom: $(BIN)/.tools ## Write sbom.json, a CycloneDX list of what running needs, the image's Debian packages too
	.venv/tools/bin/cyclonedx-py requirements --output-reproducible --of JSON \
	    --output-file sbom.json requirements/run.txt
	@if $(DOCKER) image inspect $(IMAGE):latest >/dev/null 2>&1; then \
	    $(DOCKER) run --rm --network none --entrypoint dpkg-query $(IMAGE):latest --show \
	        --showformat '$${Package}\t$${Version}\t$${Architecture}\n' \
	        | $(BIN)/python requirements/add_debian.py sbom.json; \
	else echo "WITHOUT Debian packages: no engine answers, or no image $(IMAGE); see make image"; fi

export: $(BIN)/.dev ## Convert the checkpoints in weights/ to OpenVINO IR, checked patch by patch
	$(APP) export

evaluate: $(BIN)/.run ## Score label maps: PREDICTIONS=dir REFERENCES=dir [SCANS=dir] [PROTOCOL=strict] [RESULTS=dir]
	@[ -n "$(PREDICTIONS)" ] && [ -n "$(REFERENCES)" ] || \
	    { echo "Say which: make evaluate PREDICTIONS=folder REFERENCES=folder" >&2; exit 2; }
	$(APP) evaluate --predictions "$(PREDICTIONS)" --references "$(REFERENCES)" \
	    --output "$(RESULTS)" $(if $(PROTOCOL),--protocol $(PROTOCOL)) $(if $(SCANS),--scans "$(SCANS)")

image: ## Build the container image (it converts the checkpoints again)
	@for wheel in $(foreach folder,$(PIP_FIND_LINKS),$(wildcard $(folder)/torch-*.whl)); do \
	    [ -e "wheels/$${wheel##*/}" ] || cp "$$wheel" wheels/; done
	DOCKER_BUILDKIT=1 $(DOCKER) build $(DOCKER_BUILD_OPTIONS) \
	    --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg TORCH_INDEX=$(TORCH_INDEX) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
	    $(if $(PIP_CERT),--secret id=ca$(comma)src=$(PIP_CERT)) \
	    --tag $(IMAGE):$(VERSION) --tag $(IMAGE):latest .

submission: image ## Write the image as TEAM.tar.gz (default: team), for `docker load`
	$(DOCKER) save $(IMAGE):latest | gzip > $(TEAM).tar.gz

benchmark: $(BIN)/.dev ## Measure the image beside the published pipeline, check budgets [BENCHMARK=options]
	@if $(DOCKER) info >/dev/null 2>&1; then $(MAKE) image; \
	    else echo "No Docker engine answers: timing this installation instead"; fi
	$(APP) benchmark --docker $(DOCKER) --image $(IMAGE):latest --phantoms demo/benchmark $(BENCHMARK)

lock: $(BIN)/.dev ## Pin the newest versions that pyproject.toml allows in requirements/
	$(PIP) pip-tools
	requirements/lock.sh $(BIN)/pip-compile --upgrade

clean: ## Remove all that the other targets made, results in outputs/ excepted
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	    benchmark.json benchmark demo site wheels/*.whl
	find app tests -name __pycache__ -type d -prune -exec rm -rf {} +

comma := ,

$(BIN)/python:
	$(PYTHON) -m venv .venv

# Empty marker files: an install is redone only when its requirements change.
$(BIN)/.run: requirements/run.txt | $(BIN)/python
	@echo "Installing what running needs into .venv (once; about 150 MB to download)"
	$(PIP) -r requirements/run.txt
	@touch $@

$(BIN)/.dev: requirements/dev.txt | $(BIN)/python
	@echo "Installing what working on the code needs into .venv (once; PyTorch is large)"
	$(PIP) $(TORCH_OPTIONS) -r requirements/dev.txt
	@touch $@ $(BIN)/.run

# Tools that look at the pins from outside, apart from what they look at.
$(BIN)/.tools: | $(BIN)/python
	@$(PYTHON) -m venv .venv/tools
	@.venv/tools/bin/python -m pip install --quiet --disable-pip-version-check \
	    pip-audit==2.10.1 cyclonedx-bom==7.5.0 \
	    && touch $@ || echo "NOT INSTALLED: pip-audit and cyclonedx-bom could not be fetched"
