# make ui: the web page, at http://127.0.0.1:8675
# make demo: teach a tiny FLUX.2 a new thing on the CPU, and measure that it learned it
# make quick: the tests that take a moment each, in under two minutes on two cores: while you work
# make test: lint, type check, spelling, all tests, in twenty minutes on two cores: before you push; CI runs it
# make ui-test: of `make test`, what is about the web page
# make torture: the long form of tests/reliability, and what is marked so; up to an hour; SHARE=0.1 does a tenth of it
# make tiers: measure which tests are not quick, of FILES or all, and write tests/slow.txt
# make bench: speed, memory and growth of a step beside a plain loop of diffusers and peft, on a CPU, in ten minutes
# make bench-gpu: step, offloading, 8-bit products and whole runs on a CUDA card; nine minutes a call, and the next goes on
# make hooks: let git run the quick checks before each commit
# make clean: remove the virtual environment and what the tools left behind

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

# processes of `make quick` and `make test`; each takes up to 2 GB
WORKERS ?= 3
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: ui demo quick tiers test lint page ui-test torture bench bench-gpu hooks clean
.DEFAULT_GOAL := demo
SHARE := 1
FILES := tests

ui:
	@sh .ci/environment requirements.txt
	$(BIN)/python run.py ui

demo:
	@sh .ci/environment requirements.txt
	$(BIN)/python run.py config/examples/train_lora_flux2_tiny.yaml
	$(BIN)/python -m scripts.flux2_tiny.proof output/flux2_tiny_zorbo

quick: WORKERS := 2
quick:
	@sh .ci/environment requirements.txt requirements-gradio.txt requirements-modal.txt requirements-optimizers.txt requirements-trackers.txt requirements-dev.txt
	$(PYTEST) -m "not slow" -p no:schemathesis

tiers:
	@sh .ci/environment requirements.txt requirements-gradio.txt requirements-modal.txt requirements-optimizers.txt requirements-trackers.txt requirements-dev.txt
	$(PYTEST) --write-tiers $(FILES)

test:
	$(MAKE) --jobs=2 lint page
	$(PYTEST)

lint:
	@sh .ci/environment requirements.txt requirements-gradio.txt requirements-modal.txt requirements-optimizers.txt requirements-trackers.txt requirements-dev.txt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python scripts/write_config_docs.py --check
	$(BIN)/python scripts/write_vram_docs.py --check
	$(BIN)/python scripts/write_hardware_docs.py --check
	$(BIN)/python scripts/write_network_docs.py --check
	$(BIN)/python scripts/write_performance_docs.py --check
	$(BIN)/python scripts/write_optimizer_docs.py --check
	$(BIN)/python scripts/write_quality_docs.py --check
	$(BIN)/python scripts/write_ui_files.py --check

page:
	@sh .ci/browser
	cd ui && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm run build
	git diff --exit-code --stat ui/dist

ui-test: page
	@sh .ci/environment requirements.txt requirements-gradio.txt requirements-modal.txt requirements-optimizers.txt requirements-trackers.txt requirements-dev.txt
	$(PYTEST) tests/ui

torture:
	@sh .ci/environment requirements.txt requirements-gradio.txt requirements-modal.txt requirements-optimizers.txt requirements-trackers.txt requirements-dev.txt
	TORTURE=$(SHARE) $(BIN)/python -m pytest tests/reliability
	TORTURE=$(SHARE) $(PYTEST) -m torture

bench:
	@sh .ci/environment requirements.txt requirements-dev.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.lean --out benchmarks/results/lean.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.growth --out benchmarks/results/growth.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.startup --out benchmarks/results/startup.json
	$(BIN)/python scripts/write_performance_docs.py

bench-gpu:
	@sh .ci/environment requirements.txt requirements-dev.txt
	$(BIN)/python -m benchmarks.gpu

hooks:
	@sh .ci/environment requirements.txt requirements-gradio.txt requirements-modal.txt requirements-optimizers.txt requirements-trackers.txt requirements-dev.txt
	$(BIN)/pre-commit install

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
