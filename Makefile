# Every target makes what it needs: a virtual environment from the locks (hashes checked), then its work.
# Needs: python3 (3.11 to 3.13) with venv, and make. On Debian: apt-get install python3-venv make

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-installed
TEST := $(VENV)/.test-installed

.PHONY: install demo serve test check crash bench lock clean

install: $(RUN)

$(RUN): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 has no venv: apt-get install python3-venv"; exit 1; }
	@echo "Installing what Filmgate runs on into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(TEST): requirements-test.lock tests/sdk/openai-2.lock $(RUN)
	@echo "Installing what the tests run on …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-test.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade \
		--target $(VENV)/openai-2 -r tests/sdk/openai-2.lock
	@touch $@

demo: $(RUN)
	@mkdir -p out
	@$(BIN)/filmgate generate deploy/demo/valley.jpg "a slow dolly towards the mountains, wind" --dev \
		--model sandbox --seconds 5 --audio --size 1280x720 -o out/demo.mp4

serve: $(RUN)
	@$(BIN)/filmgate serve --dev

test: $(TEST)
	@$(BIN)/python -m pytest $(ARGS)

check: $(TEST)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest $(ARGS)

crash: $(TEST)
	@$(BIN)/python -m pytest -m crash --crash-rounds 20 tests/test_crash.py $(ARGS)

bench: $(TEST)
	@$(BIN)/python -m tests.bench

# Needs uv on the path. Universal: one lock serves every Python from 3.11 on.
lock:
	uv pip compile pyproject.toml --group build $(LOCKING) -o requirements.lock
	uv pip compile pyproject.toml --group test $(LOCKING) -o requirements-test.lock

LOCKING := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

clean:
	rm -rf $(VENV) out tests/sdk/js/node_modules
