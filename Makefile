# `make fast` and `make test` need nothing but Python >= 3.11 and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUTCOMES ?= outcomes
LIMIT ?= 4
ONLY ?=
BUDGET ?= 8h
TIER ?= nightly
DEVICE ?= cuda
BOARD ?= site
INPUTS ?= 100000
STAMP := $(VENV)/.installed

.PHONY: bench lock audit licences sbom release-check fast mini test fuzz beyond night board health processors dummies mutants lint types docs browser clean help
help:
	@echo "make fast   install, attack every defence on the embedded CLIP, render site/index.html (minutes, offline)"
	@echo "make test   install, test our own code"
	@echo "make processors   do other instruction sets give the same tests and the same outcomes? (minutes)"
	@echo "make dummies      does any defence that cheats rank above its worth? the whole catalogue (minutes)"
	@echo "make mutants      are the tests able to fail? small wrong changes, one by one, in a copy (half an hour)"
	@echo "make fuzz         do the parsers stand bad files? 100,000 of them (minutes)"
	@echo "make beyond       does a run on Ray give the same bits, and S3 keep them? a node is killed (installs 500 MB)"
	@echo "make mini   the matrix at the papers' eps on natural images (needs GAUNTLET_DATA; most of an hour)"
	@echo "make night  what settles most in BUDGET=8h of TIER=nightly on DEVICE=cuda; board in site/, report in report/"
	@echo "make board  site/ from outcomes/;  make health BOARD=https://...  is a published board whole and young?"
	@echo "make bench        what our attacks and cells cost beside torchattacks, foolbox and the official code (minutes)"
	@echo "make lock audit licences sbom release-check   what we stand on: pinned, known faults, licences; does a wheel work?"
	@echo "make docs   the documentation of the code in build/docs"
	@echo "make lint types browser clean"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,dev]"
	touch $(STAMP)

fast: $(STAMP)
	$(BIN)/python -m pytest suites/ -m fast --outcomes $(OUTCOMES)
	$(BIN)/gauntlet board --outcomes $(OUTCOMES) --out site --text

mini: $(STAMP)
	$(BIN)/python -m pytest suites/ -m mini --outcomes $(OUTCOMES)
	$(BIN)/gauntlet board --outcomes $(OUTCOMES) --out site --text

night: $(STAMP)
	$(BIN)/gauntlet night --budget $(BUDGET) --tier $(TIER) --device $(DEVICE) --outcomes $(OUTCOMES) --out site --report report

board: $(STAMP)
	$(BIN)/gauntlet board --outcomes $(OUTCOMES) --out site

health: $(STAMP)
	$(BIN)/gauntlet health $(BOARD)

# Three workers on two processors: many a test waits for a process of its own.
test: $(STAMP)
	$(BIN)/python -m pytest tests/ -n 3

# The numeric tests and the fast tier's cells with the kernels of other processors; LIMIT samples of each cell;
# ONLY='--only default --cells-only' leaves the rest out.
processors: $(STAMP)
	$(BIN)/python -m tests.processors --limit $(LIMIT) $(ONLY)

# Defences that cheat, hide or mask: none may rank above what it is worth.
dummies: $(STAMP)
	GAUNTLET_DUMMIES=1 $(BIN)/python -m pytest tests/suites/test_dummies.py -rA

mutants: $(STAMP)
	$(BIN)/python -u -m tests.mutants

# Spoiled files for every parser; only a GauntletError may come out.
fuzz: $(STAMP)
	$(BIN)/python -u -m tests.fuzz --inputs $(INPUTS)

# The documentation in build/docs: what a defence may use, every command, how things are added.
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --quiet

# Peers without their own requirements: torchattacks wants a `requests` of 2021.
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  --no-deps torchattacks foolbox eagerpy GitPython gitdb smmap requests urllib3 charset-normalizer idna certifi
	$(BIN)/python -u -m tests.benchmarks.speed --out build/speed.csv

# The tools that look at what we stand on, apart from it. `lock` writes every version with its hashes, for
# `pip install --require-hashes`; of constraints.txt it takes the versions.
TOOLS := build/tools/bin
LICENCES := MIT;BSD;Apache;ISC;Python Software Foundation;PSF-2.0;Mozilla Public License 2.0;MPL-2.0
# CUDA comes with PyPI's torch under NVIDIA's own terms, and nothing of it goes into a wheel of ours; axe-playwright-python
# is MIT and tells its installer nothing.
TOLD := $(shell sed -n 's/^\(nvidia-[a-z0-9-]*\|cuda-[a-z]*\)==.*/\1/p' constraints.txt) axe-playwright-python
$(TOOLS)/uv: pyproject.toml constraints.txt
	$(PYTHON) -m venv build/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["release"])')
	touch $@

lock: $(TOOLS)/uv
	$(TOOLS)/uv pip compile pyproject.toml --extra test --extra dev -c constraints.txt --generate-hashes --universal \
	  --python-version 3.11 --no-annotate --no-header --no-emit-index-url --no-emit-find-links --quiet -o requirements.lock

# --strict: what the advisories could not be asked about is a failure, not a silence.
audit: $(TOOLS)/uv
	$(TOOLS)/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

licences: $(STAMP) $(TOOLS)/uv
	$(TOOLS)/pip-licenses --python $(BIN)/python --from mixed --partial-match --allow-only "$(LICENCES)" \
	  --ignore-packages vlm-gauntlet $(TOLD) > build/licences.txt

sbom: $(TOOLS)/uv
	$(TOOLS)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --validate \
	  --of JSON -o build/sbom.json

release-check: $(STAMP) $(TOOLS)/uv
	.ci/release-check $(TOOLS)/python $(BIN)/python

# Several machines: the extras are too large for every install.
beyond: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,beyond]"
	$(BIN)/python -m pytest tests/suites/test_on_ray.py tests/suites/test_shared_store.py -n 0 -rs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/zizmor --offline --quiet .github

types: $(STAMP)
	$(BIN)/mypy -p vlm_gauntlet
	$(BIN)/pyright --pythonpath $(BIN)/python

# Chromium for the tests of the rendered pages (Debian and Ubuntu).
browser:
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

clean:
	rm -rf $(VENV) site outcomes .pytest_cache .mypy_cache .ruff_cache
