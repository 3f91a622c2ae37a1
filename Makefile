# Everything that is done with this repository. `make help` lists it.
#
# Tools are fetched into .tools/ the first time that something needs them, and not again. ENVOY_BIN and REDIS_BIN
# choose other binaries; WASM_TOOLCHAIN=rustup|debian chooses the Rust that compiles the filter.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TOOLS := .tools/wasm .tools/clients
ifdef ENVOY_BIN
export ENVOY_BIN := $(abspath $(ENVOY_BIN))
else
export ENVOY_BIN := $(CURDIR)/.tools/envoy
TOOLS += .tools/envoy
endif
ifdef REDIS_BIN
export REDIS_BIN
else
export REDIS_BIN := $(CURDIR)/.tools/redis-server
TOOLS += .tools/redis-server
endif

.PHONY: help
help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

.PHONY: setup
setup: $(TOOLS) ## fetch the tools that the rest needs (done by itself where it is needed)

# Envoy and the clients share a virtual environment: one after the other.
.tools/clients: tests/clients/node/package-lock.json | $(filter .tools/envoy,$(TOOLS))
.tools/wasm .tools/envoy .tools/clients .tools/redis-server: .tools/%:
	@scripts/setup $(subst redis-server,redis,$*)

.PHONY: wasm
wasm: .tools/wasm ## build the filter: target/wasm32-wasip1/release/llm_rate_limit.wasm
	@echo "building the filter"
	@scripts/cargo-wasm build

.PHONY: build
build: wasm ## build the filter, and the sidecar and commands: target/release/llm-rate-limit
	@echo "building llm-rate-limit"
	@cargo build --release --locked --package llm-rate-limit-cli

.PHONY: fmt
fmt: ## format the code
	cargo fmt --all

.PHONY: check
check: $(TOOLS) wasm ## formatting, lints for both targets, shipped configurations
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	scripts/cargo-wasm clippy
	cargo clippy --locked --manifest-path fuzz/Cargo.toml --no-default-features --target-dir target/fuzz -- -D warnings
	.tools/venv/bin/check-jsonschema --builtin-schema vendor.compose-spec envoy/compose.yaml
	$(ENVOY_BIN) --mode validate --log-level warning -c envoy/envoy.yaml

.PHONY: test
test: $(TOOLS) wasm ## all tests, with real Envoy and Redis
	cargo test --locked --workspace

.PHONY: bench
bench: $(TOOLS) wasm ## what the filter costs, as ratios to the same Envoy without it; CASE="8 KiB" measures part of it
	cargo bench --locked --package token-count --bench count -- $(if $(CASE),'$(CASE)')
	cargo bench --locked --package llm-rate-limit-tests --bench gateway -- $(if $(CASE),'$(CASE)')

.PHONY: fuzz
fuzz: ## fuzz the parsers, the tokenizer and the changes to streams, FUZZ_SECONDS (30) each
	@scripts/fuzz

.PHONY: demo
demo: $(filter-out .tools/clients,$(TOOLS)) wasm ## try it: Envoy and a mock LLM; with STORE=redis the sidecar and Redis too
	@scripts/demo $(or $(STORE),local)

.PHONY: deny
deny: ## check the dependencies' licences and advisories (needs cargo-deny)
	cargo deny check

.PHONY: clean
clean: ## remove what was built and fetched
	cargo clean
	rm -rf .tools
