# `make demo` needs make, python3 (3.11 or later) and its venv module; nothing else has to be there.
# PYTHON=python3.12 picks another interpreter. TORCH_INDEX=<URL of an index> takes PyTorch from there: on Linux the
# usual PyTorch brings gigabytes for GPUs, the one of PyTorch's own CPU index does not.
PYTHON ?= python3
TORCH_INDEX ?=
TORCH := torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MILVUS := $(VENV)-milvus
RAY := $(VENV)-ray
S3 := $(VENV)-s3
SCHEMATHESIS := $(VENV)-schemathesis

.DEFAULT_GOAL := help
.PHONY: help install demo serve test milvus ray s3 schemathesis lint docs image clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' Makefile | while IFS='|' read -r target what; do printf '%-14s %s\n' "$$target" "$$what"; done

install: $(STAMP)  ## Make .venv with everything in it (once)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Codewell needs Python 3.11 or later; $(PYTHON) is missing or older. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "== making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "== installing PyTorch (the largest part)"
	@$(BIN)/python -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@echo "== installing Codewell and the rest"
	@$(BIN)/python -m pip install --quiet -e ".[text,dev,docs]"
	@touch $(STAMP)

demo: install  ## Run a server, ingest 12,000 texts, train, search and measure (minutes)
	@$(BIN)/python examples/demo.py

serve: install  ## Run the server on the data folder ./codewell-data
	@$(BIN)/codewell serve

test: install  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

milvus: install  ## Run the tests of copies in Milvus, in a venv of its own beside .venv, whose packages it sees
	@test -d $(MILVUS) || $(BIN)/python -m venv $(MILVUS)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		$$($(MILVUS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	@$(MILVUS)/bin/python -m pip install --quiet "pymilvus>=2.6,<3" "milvus-lite>=2.5,<3"
	OMP_NUM_THREADS=1 $(MILVUS)/bin/python -m pytest tests/test_milvus.py

ray: install  ## Run the tests of builds and searches on a Ray cluster, likewise
	@test -d $(RAY) || $(BIN)/python -m venv $(RAY)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		$$($(RAY)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	@$(RAY)/bin/python -m pip install --quiet "ray[serve]>=2.55,<3"
	OMP_NUM_THREADS=1 $(RAY)/bin/python -m pytest tests/test_ray.py

s3: install  ## Run the tests of builds in S3, likewise
	@test -d $(S3) || $(BIN)/python -m venv $(S3)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		$$($(S3)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	@$(S3)/bin/python -m pip install --quiet "s3fs>=2025.3" "moto[server]>=5"
	OMP_NUM_THREADS=1 $(S3)/bin/python -m pytest tests/test_s3.py

schemathesis: install  ## Run Schemathesis over the OpenAPI document of a real server, likewise; minutes
	@test -d $(SCHEMATHESIS) || $(BIN)/python -m venv $(SCHEMATHESIS)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		$$($(SCHEMATHESIS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	@$(SCHEMATHESIS)/bin/python -m pip install --quiet "schemathesis>=4,<5"
	OMP_NUM_THREADS=1 $(SCHEMATHESIS)/bin/python -m pytest -s tests/test_schemathesis.py

lint: install  ## Check format, lint, types, the arrows between packages, Docker files, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	@if docker compose version >/dev/null 2>&1; then docker compose config -q; \
		else echo "docker compose is not here: docker-compose.yml was not checked"; fi
	$(BIN)/python -m mkdocs build --quiet

docs: install  ## Build the documentation site into build/site
	$(BIN)/python -m mkdocs build

image:  ## Build the Docker image and print its size
	docker build --build-arg TORCH_INDEX -t codewell .
	@docker image inspect --format '{{.Size}}' codewell | awk '{printf "codewell: %.2f GB\n", $$1 / 1e9}'

clean:  ## Remove .venv, caches and builds; ./codewell-data stays
	rm -rf $(VENV) $(MILVUS) $(RAY) $(S3) $(SCHEMATHESIS) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
