# Every task of this repository. `make help` lists them.
#
# A target fetches the tools that it needs into .tools/ the first time, and not again. ENVOY_BIN, REDIS_BIN and
# PROMETHEUS_BIN choose other binaries; WASM_TOOLCHAIN=rustup|debian chooses the Rust that compiles the filter.
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
ifdef PROMETHEUS_BIN
export PROMETHEUS_BIN
else
export PROMETHEUS_BIN := $(CURDIR)/.tools/prometheus
TOOLS += .tools/prometheus
endif

# What looks at deploy/, releases and containers.
CHECKERS := .tools/kubernetes .tools/packing .tools/registry

.PHONY: help
help: ## list all targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

.PHONY: setup
setup: $(TOOLS) $(CHECKERS) .tools/chromium .tools/mdbook ## fetch all tools (other targets fetch what they need)

# They share a virtual environment, so scripts/setup makes one after the other. A release needs only what packs it.
.tools/clients: tests/clients/node/package-lock.json
.tools/kubernetes: | .tools/clients
.tools/release: | .tools/packing
FETCHED := wasm envoy clients redis-server prometheus chromium mdbook kubernetes packing registry release
$(FETCHED:%=.tools/%): .tools/%:
	@scripts/setup $(subst redis-server,redis,$*)

.PHONY: wasm
wasm: .tools/wasm ## build the filter: target/wasm32-wasip1/release/llm_rate_limit.wasm
	@echo "building the filter"
	@scripts/cargo-wasm build

.PHONY: build
build: wasm ## build the filter, and the sidecar and commands: target/release/llm-rate-limit
	@echo "building llm-rate-limit"
	@cargo build --release --locked --package llm-rate-limit-cli

.PHONY: release
release: .tools/wasm .tools/release ## everything that a release has, into dist/: reproducible, and offline once fetched
	@cargo fetch --locked --quiet
	@scripts/release/make

.PHONY: publish
publish: .tools/packing ## push dist/'s images and chart to REGISTRY (ghcr.io/owner), and read them back
	@.tools/venv/bin/python scripts/release/publish $(or $(REGISTRY),$(error REGISTRY: expected a host and a path))

.PHONY: reproduce
reproduce: .tools/wasm .tools/release ## build the last commit's release twice, in two folders, and compare the files
	@cargo fetch --locked --quiet
	@scripts/release/reproduce

.PHONY: fmt
fmt: ## format the code
	cargo fmt --all

.PHONY: check
check: $(TOOLS) $(CHECKERS) wasm ## formatting, lints for both targets, oldest Rust, shipped configurations
	cargo fmt --all --check
	scripts/line-width
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --no-deps --quiet
	scripts/cargo-wasm clippy
	cargo clippy --locked --manifest-path fuzz/Cargo.toml --no-default-features --target-dir target/fuzz -- -D warnings
	scripts/msrv
	.tools/venv/bin/check-jsonschema --builtin-schema vendor.compose-spec envoy/compose.yaml compose.yaml
	.tools/venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.tools/venv/bin/hadolint envoy/Dockerfile
	$(ENVOY_BIN) --mode validate --log-level warning -c envoy/envoy.yaml
	.tools/venv/bin/python tests/kubernetes/check.py

.PHONY: unit
unit: ## the filter's own tests, in seconds: no Envoy, no Redis; CASE=window runs those with this in their names
	cargo test --locked --package llm-rate-limit --lib -- $(CASE)

.PHONY: e2e
e2e: $(TOOLS) wasm ## the end-to-end tests on real Envoy and Redis; CASE=streams runs those with this in their names
	cargo test --locked --package llm-rate-limit-tests --test e2e -- $(CASE)

.PHONY: test
test: $(TOOLS) $(CHECKERS) .tools/chromium .tools/mdbook wasm ## all tests, with real Envoy and Redis
	cargo test --locked --workspace

.PHONY: soak
soak: $(TOOLS) wasm ## all kinds of traffic and faults for MINUTES (1), then the books and memory are compared
	SOAK_MINUTES=$(or $(MINUTES),1) cargo test --locked --package llm-rate-limit-tests --test soak

# QUICK=1 takes a quarter of the time. PEERS=1 also measures LiteLLM, which takes half a gigabyte in .tools/.
ifdef PEERS
export LITELLM_BIN ?= $(CURDIR)/.tools/litellm/bin/litellm
PEERS_TOOLS := $(LITELLM_BIN)
endif
$(CURDIR)/.tools/litellm/bin/litellm:
	@scripts/setup litellm

.PHONY: bench
bench: export SIDECAR_BIN ?= $(CURDIR)/target/release/llm-rate-limit
bench: $(TOOLS) build $(PEERS_TOOLS) ## what the filter costs, into benches/results.md; CASE="8 KB" prints a part
	@echo "building the filters that it is compared with"
	@scripts/cargo-wasm floor
	cargo bench --locked --package llm-rate-limit-bench --bench gateway -- $(if $(CASE),'$(CASE)')
	cargo bench --locked --package token-count --bench count -- $(if $(CASE),'$(CASE)')

.PHONY: compat
compat: $(TOOLS) build ## play many Envoys, Redises and clients: docs/compatibility.md; PART=envoys, CASE=1.38 play some
	@SIDECAR_BIN=$(CURDIR)/target/release/llm-rate-limit python3 scripts/compat/run.py $(PART) $(CASE)

.PHONY: truth
truth: ## how close counts are to recorded usage: PAIRS=file of exchanges, as scripts/truth describes them
	@cargo build --release --locked --quiet --package llm-rate-limit-cli
	@scripts/truth $(PAIRS)

.PHONY: fuzz
fuzz: ## fuzz parsers, the tokenizer, edits of streams, the stores and their wire, FUZZ_SECONDS (30) each
	@scripts/fuzz

.PHONY: demo
DEMO_TOOLS := $(filter-out .tools/clients .tools/prometheus,$(TOOLS))
demo: $(DEMO_TOOLS) wasm ## try it: Envoy and a mock LLM; STORE=redis adds sidecar and Redis
	@scripts/demo $(or $(STORE),local)

.PHONY: site
site: .tools/mdbook ## the documentation as a site: target/site/html/index.html
	@scripts/site

.PHONY: deny
deny: ## check the dependencies' licences, sources and advisories (needs cargo-deny)
	@scripts/deny

.PHONY: msrv
msrv: ## check that the oldest Rust in Cargo.toml compiles this, as far as the installed toolchains can
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@scripts/msrv

.PHONY: clean
clean: ## remove all that was built and fetched
	cargo clean
	rm -rf .tools
