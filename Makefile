# `make` says what there is to make. Everything here also works as the plain command behind it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Outside the clone, so that a fresh clone finds what the last one built.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/foretime/target
# Statements are checked against crates/storage/.sqlx: no database is needed to compile.
export SQLX_OFFLINE ?= true

ARGS ?=

.PHONY: help setup demo test test-lightgbm lint fmt sqlx dashboards dashboards-preview bench-registry bench-features bench-online \
	bench-monitor bench-alarms bench-gpt bench-gpu bench-jobs bench-operations bench-serving bench-flights bench-plan sanitize soak soak-load

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing to run Foretime: a Postgres server
	@.ci/setup

demo: setup ## see it all at work on real flights; ARGS=--quick takes a minute and a half
	. .ci/env; cargo build --release --bin foretime
	. .ci/env; "$$CARGO_TARGET_DIR/release/foretime" demo $(ARGS)

# LightGBM's shared library, and the Python that has it.
with_lightgbm = . .ci/env; export FORETIME_TEST_LIGHTGBM="$$foretime_venv-lightgbm/bin/python"; \
	export FORETIME_LIGHTGBM="$$("$$FORETIME_TEST_LIGHTGBM" -c 'import lightgbm, pathlib; print(pathlib.Path(lightgbm.__file__).parent / "lib" / "lib_lightgbm.so")')";

test: ## run all tests, after installing what they need
	@.ci/setup tests
	@.ci/setup lightgbm
	$(with_lightgbm) cargo test -p boosting --features lightgbm
	. .ci/env; cargo test --workspace --no-fail-fast

test-lightgbm: ## test LightGBM's own trees, behind the feature `lightgbm`: beside Python's, equal to the byte, and as kinds of models
	@.ci/setup lightgbm
	$(with_lightgbm) cargo test -p boosting --features lightgbm && cargo test --workspace --lib --features foretime/lightgbm -- kinds::tests

# The sanitizer comes with stable Rust and asks for leave to use it; a target of its own keeps build scripts out of it. It brings its own
# allocator, so that what the C library's gives back is not its test.
SANITIZED ?= $(shell rustc -vV | sed -n 's/^host: //p')

sanitize: ## test the kernels and all of their crate under AddressSanitizer; a build of its own, some twenty minutes
	. .ci/env; RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR="$$CARGO_TARGET_DIR-sanitized" \
		cargo test -p gpt --lib --tests --target $(SANITIZED) -- --skip freed_memory_is_kept

bench-registry: ## measure the registry beside MLflow's own server, in one run; several minutes
	@.ci/setup bench
	. .ci/env; cargo build --release --bin foretime
	. .ci/env; cargo bench --workspace --bench beside_mlflow -- "$$CARGO_TARGET_DIR/release/foretime" "$$foretime_venv-mlflow/bin/mlflow" $(ARGS)

lint: ## what a change must pass besides its tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## lay out the code
	cargo fmt --all

sqlx: setup ## write crates/storage/.sqlx anew, after a change of SQL or a migration
	@.ci/sqlx

dashboards: ## write the boards in dashboards/grafana/boards anew, after a change of dashboards/source
	@.ci/setup tests
	. .ci/env; dashboards/build dashboards/grafana/boards

dashboards-preview: ## draw the boards with the data of a quick demo into dashboards/preview; some minutes
	@.ci/setup previews
	. .ci/env; cargo build --release --bin foretime
	. .ci/env; dashboards/preview/draw "$$CARGO_TARGET_DIR/release/foretime"

# LABELS and ROWS of 100,000 entities; the data is made once and takes 1.1 GB.
BENCH_LABELS ?= 1000000
BENCH_ROWS ?= 10000000
BENCH_ROUNDS ?= 3
BENCH_DATA ?= /tmp/foretime-bench/$(BENCH_LABELS)x$(BENCH_ROWS)

bench-features: ## join a million labels to ten million rows, beside DuckDB and polars
	@.ci/setup bench
	. .ci/env; cargo build --release --workspace --bins
	@. .ci/env; tests/bench/features/bench "$$CARGO_TARGET_DIR/release/foretime" $(BENCH_DATA) $(BENCH_LABELS) $(BENCH_ROWS) $(BENCH_ROUNDS)

# A Python with pyarrow and numpy; for ARGS=--feast also feast, psycopg[binary] and psycopg_pool.
BENCH_PYTHON ?= python3

bench-online: ## ask for online features under load with wrk; ARGS=--feast puts Feast's server beside it
	. .ci/env; cargo build --release --bin foretime
	. .ci/env; "$(BENCH_PYTHON)" tests/bench/features/online.py "$$CARGO_TARGET_DIR/release/foretime" $(ARGS)

bench-jobs: setup ## measure the job loop: jobs a second through one worker, and how soon one starts when idle
	. .ci/env; cargo bench --workspace --bench jobs

bench-operations: setup ## measure starting, idling and the size of the program; two minutes
	. .ci/env; cargo build --release --bin foretime
	. .ci/env; python3 tests/bench/operations/operations.py "$$CARGO_TARGET_DIR/release/foretime" $(ARGS)

# How often the closed loop is killed, and for how many minutes everything goes on at once.
KILLS ?= 200
MINUTES ?= 120

soak: ## kill the closed loop at KILLS points of its way (200), the services in turn, Postgres and all at once; some minutes
	@.ci/setup tests
	. .ci/env; FORETIME_TEST_KILLS=$(KILLS) cargo test --workspace --test program -- closing:: --nocapture $(ARGS)

soak-load: ## mixed load for MINUTES (120): open files, threads and memory stay where they are
	@.ci/setup tests
	. .ci/env; FORETIME_TEST_MINUTES=$(MINUTES) cargo test --workspace --test program -- steady:: --nocapture $(ARGS)

bench-serving: ## ask a GPT about histories of 512 tokens, one client and sixteen, in batches and alone
	@.ci/setup
	. .ci/env; cargo build --release --bin foretime
	. .ci/env; python3 tests/bench/serving/serving.py "$$CARGO_TARGET_DIR/release/foretime" $(ARGS)

bench-flights: ## models of table, of history and of both on real flights, three seeds each, with intervals; hours on two slow cores
	@.ci/setup bench
	. .ci/env; cargo build --release --bin foretime
	. .ci/env; "$$foretime_venv-mlflow/bin/python" tests/bench/flights/flights.py "$$CARGO_TARGET_DIR/release/foretime" $(ARGS)

bench-plan: ## what a plan foretells beside what training takes; three minutes
	cargo bench -p gpt --bench plan -- $(ARGS)

# ROWS of COLUMNS, reference and current; a million of fifty take 700 MB.
BENCH_MONITOR_ROWS ?= 1000000
BENCH_MONITOR_COLUMNS ?= 50
BENCH_MONITOR_ROUNDS ?= 3
BENCH_MONITOR_DATA ?= /tmp/foretime-bench/monitor-$(BENCH_MONITOR_ROWS)x$(BENCH_MONITOR_COLUMNS)

bench-monitor: ## compare two files of a million rows, beside Evidently and NannyML; make and judge profiles
	@.ci/setup bench
	. .ci/env; cargo build --release --workspace --bins
	@. .ci/env; tests/bench/monitor/bench "$$CARGO_TARGET_DIR/release/foretime" $(BENCH_MONITOR_DATA) $(BENCH_MONITOR_ROWS) $(BENCH_MONITOR_COLUMNS) $(BENCH_MONITOR_ROUNDS)
	. .ci/env; cargo bench -p statistics --bench profiles

# Rounds, and seconds of each measurement; PRESETS such as `a b` for less.
BENCH_GPT_ROUNDS ?= 3
BENCH_GPT_SECONDS ?= 8
BENCH_GPT_PRESETS ?=

bench-gpt: ## train and embed with GPTs of three sizes, beside PyTorch; half an hour, and 4.4 GB for PyTorch
	@.ci/setup bench-gpt
	. .ci/env; cargo build --release --bin foretime
	@. .ci/env; python3 tests/bench/gpt/run.py "$$CARGO_TARGET_DIR/release/foretime" "$$foretime_cache/torch/bin/python" $(BENCH_GPT_ROUNDS) $(BENCH_GPT_SECONDS) $(BENCH_GPT_PRESETS)

# Where a GPU is, as ssh names it; here, if nowhere else.
HOST ?=

bench-gpu: ## build for GPUs here, and test and measure on HOST, which ssh reaches and where a GPU is
	@.ci/setup cuda
	@. .ci/env; tests/bench/gpt/on_gpu "$$foretime_cache/cuda" $(HOST)

bench-alarms: ## write the ledger of false and true alarms of the monitors' rule; some twenty minutes
	cargo bench -p statistics --bench alarms -- --out "$(CURDIR)/tests/bench/monitor/alarms.md"
