# Every command a person or CI runs.

TOOLS := $(or $(ENTRENOUS_TOOLS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/entrenous/tools)
export PATH := $(TOOLS)/bin:$(TOOLS)/cargo/bin:$(PATH):$(HOME)/.cargo/bin
export PORT ?= 8080
CARGO_TARGET_DIR ?= target

.DEFAULT_GOAL := help
.PHONY: help setup run test chaos fuzz-api check format generate docs bench microbench clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Find or install what is needed: PostgreSQL, nats-server, build tools
	@scripts/setup --tests

run: ## Run everything on this machine (PORT=8080, ARGS="--split --gateways 2")
	@exec scripts/run $(ARGS)

test: setup ## Run all tests, on a real PostgreSQL and nats-server that they start themselves
	@scripts/run-tests

# Not a release: what the code itself asserts is a promise too.
chaos: setup ## Harm a whole system while clients talk, and check every promise (ARGS="--seed 7 --seconds 300")
	cargo build --locked --workspace --bins
	@exec "$(CARGO_TARGET_DIR)/debug/entrenous-chaos" $(ARGS)

fuzz-api: setup ## Call a private system with what its OpenAPI document allows, and with what not (ARGS="--include-tag messages")
	@exec scripts/fuzz-api $(ARGS)

check: setup ## Format, lints, documentation, migrations, generated files
	@scripts/check

format: ## Format the code
	cargo fmt --all

generate: ## Write the files that are generated from the code
	@scripts/generate

docs: ## Build the documentation of the code
	cargo doc --locked --workspace --no-deps
	@echo "open $(CARGO_TARGET_DIR)/doc/entrenous_protocol/index.html"

bench: setup ## Measure everything; with ARGS one scenario against a running system (ARGS="one-to-one --rate 500")
	cargo build --release --locked -p entrenous -p entrenous-loadgen
	@$(if $(ARGS),exec "$(CARGO_TARGET_DIR)/release/entrenous-loadgen" $(ARGS),exec scripts/bench)

microbench: setup ## Measure small parts of the code (ARGS="append" picks by name)
	cargo bench --locked --workspace --features entrenous-gateway/bench --bench "*" -- $(ARGS)

clean: ## Remove what was built; data in .entrenous stay
	cargo clean
