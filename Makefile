# Every target has one line of help behind `##`; `make` alone prints them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
PROFILE := --release
export CARGO_TARGET_DIR ?= $(CURDIR)/target
BIN := $(CARGO_TARGET_DIR)/release/trefoil
CONFIG ?=
DATA ?= data

# The bench and the conformance data stand beside the project; tests that miss them say so and pass.
SHARED ?= $(abspath $(CURDIR)/../shared)
export TREFOIL_CONFORMANCE ?= $(SHARED)/conformance
export TREFOIL_DASHBOARDS ?= $(SHARED)/dashboards-corpus
export TREFOIL_BENCH ?= $(SHARED)/bench
export TREFOIL_BIN := $(BIN)

UI_SOURCES := $(shell find ui -path ui/node_modules -prune -o -path ui/dist -prune -o -type f -print 2>/dev/null)

.PHONY: help run demo build ui test test-peers check bench bench-queries torture tools clean

help: ## Lists the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 12

run: build ## Builds and starts the server on the embedded store in ./data (CONFIG=file for a configuration).
	$(BIN) serve $(if $(CONFIG),--config.file=$(CONFIG)) --storage.tsdb.path=$(DATA)

demo: build ## Starts the server with a simulated shop that sends metrics, logs and traces.
	$(BIN) demo

build: ui/dist/index.html
	$(CARGO) build $(PROFILE) --locked -p trefoil

ui: ui/dist/index.html ## Builds the page into ui/dist.

ui/node_modules/.package-lock.json: ui/package.json ui/package-lock.json
	cd ui && npm ci --no-audit --no-fund
	touch $@

ui/dist/index.html: ui/node_modules/.package-lock.json $(UI_SOURCES)
	cd ui && npm run build

tools: ## Installs what the tests need beyond Rust, Node and Python (Debian packages, SDKs into tests/peers).
	tests/install-tools

test: ui/dist/index.html tools ## Installs what tests need and runs them all.
	cd ui && npm test && npm run size
	# One selection of packages for building and testing, so that no dependency is compiled twice with other features.
	$(CARGO) build $(PROFILE) --locked --workspace --bins --tests
	$(CARGO) test $(PROFILE) --locked --workspace --no-fail-fast

test-peers: build tools ## Builds Prometheus 3.14 and logcli where Go is there, then compares queries with it (TREFOIL_FUZZ=count).
	tests/install-peers
	$(CARGO) test $(PROFILE) --locked --workspace --test it -- promql_fuzz prometheus::api logcli

check: ui/dist/index.html ## Formats, lints and audits; warnings fail.
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --locked --workspace --all-targets -- -D warnings
	if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; else echo "skipped: cargo-deny is not installed"; fi

bench: build ## Measures Trefoil beside Prometheus and VictoriaMetrics with signalbench, in the same run (FULL=1: 48.8 M samples).
	tests/bench/run

bench-queries: build ## Measures queries the same way: cold, refreshed, over everything, while writing (FULL=1: 144 M samples).
	tests/bench/queries

torture: build ## Runs the long forms of the crash and fault tests, random queries (TREFOIL_FUZZ=count, TREFOIL_FUZZ_MINUTES=10) and fuzz targets.
	TREFOIL_TORTURE=1 $(CARGO) test $(PROFILE) --locked -p trefoil-journal -p trefoil-parts -p trefoil-tsdb -p trefoil-events
	TREFOIL_TORTURE=1 $(CARGO) test $(PROFILE) --locked -p trefoil-tests -- --test-threads=1 crash disk_full
	TREFOIL_FUZZ=$${TREFOIL_FUZZ:-1000000000} TREFOIL_FUZZ_MINUTES=$${TREFOIL_FUZZ_MINUTES:-10} TREFOIL_FUZZ_SEED=$${TREFOIL_FUZZ_SEED:-random} \
	$(CARGO) test $(PROFILE) --locked -p trefoil-tests -- --nocapture random_queries
	tests/fuzz/run 60

clean: ## Removes what the build made; ./data stays.
	$(CARGO) clean
	rm -rf ui/dist ui/node_modules tests/peers/node/node_modules tests/peers/.venv tests/peers/debian
