# make demo: 64 prompts end to end.  make test: everything that is checked.
# make chaos: half an hour of kills, or MINUTES=n; SEED=n repeats a schedule.
# Each sets up .venv on its first run; later runs install nothing unless pyproject.toml changed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
MINUTES ?= 30
# Packages are compiled where they are first used: all of them would take two minutes.
unexport PYTHONDONTWRITEBYTECODE
RUN := HF_HUB_OFFLINE=1 PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: demo test chaos
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	$(RUN) python -m jobs.demo

test: $(VENV)/.installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) lint-imports
	$(RUN) mypy
	$(RUN) pytest -q -n 2 --dist loadfile --no-loadscope-reorder

chaos: $(VENV)/.installed
	$(RUN) python -m tests.chaos.schedule --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

$(VENV)/.installed: pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or later is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-compile -e '.[dev]'
	touch $@
