# What people and CI type. Each target says what it does; `make` alone lists them.

CARGO ?= cargo
# The product is one static binary: the last link takes the C library in; what it links needs no flag of its own.
STATIC = -- -C target-feature=+crt-static
BIN ?= target/release/tiphys
export TIPHYS_BIN ?= $(CURDIR)/target/e2e/tiphys

.PHONY: help run build packages test test-packages build-test lint unit e2e bench bench-api bench-controllers bench-node bench-store bench-engines soak install

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

run: packages build ## Install what is missing, build, and run a cluster with a first example
	$(BIN) up --apply examples/hello.yaml

build: ## Build the static release binary, target/release/tiphys
	$(CARGO) rustc --release --package tiphys --bin tiphys $(STATIC)

packages: ## Install what a node needs from the distribution's packages
	scripts/packages node

install: build ## Copy the binary to /usr/local/bin
	install -m 0755 $(BIN) /usr/local/bin/tiphys

test: test-packages lint build-test ## Everything CI checks: format, lints, unit and end-to-end tests
	$(CARGO) xtask test

lint: ## Format, clippy, and the house rules
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) xtask tidy

build-test: ## Build the binary that the end-to-end tests run
	$(CARGO) rustc --package tiphys --bin tiphys --features as-tested $(STATIC) -C strip=debuginfo
	@# A place of its own: a plain `cargo build` would put a dynamic binary where this one was.
	mkdir -p target/e2e && cp target/debug/tiphys target/e2e/tiphys

unit: ## Unit tests alone
	$(CARGO) test --workspace --exclude tiphys-tests

e2e: build-test ## End-to-end tests alone; they need root
	$(CARGO) test --workspace --test e2e

test-packages: ## Install what the tests need from the distribution's packages
	scripts/packages node test

bench: packages build ## Measure what docs/benchmarks.md records
	$(CARGO) run --release --package tiphys-bench

bench-api: packages build ## The same of the API alone
	$(CARGO) run --release --package tiphys-bench -- creates verbs list fanout forms crowd

bench-controllers: packages build ## The same of the controllers, on simulated nodes
	$(CARGO) run --release --package tiphys-bench -- scale steady

bench-node: packages build ## The same of a node: pods, Services, DNS
	$(CARGO) run --release --package tiphys-bench -- pods node services
	$(CARGO) bench --package tiphys-dns

bench-store: test-packages ## The state store beside etcd
	$(CARGO) bench --package tiphys-store --bench store

bench-engines: ## The embedded databases that the state store could be made of
	$(CARGO) run --release --manifest-path benches/engines/Cargo.toml --target-dir target

soak: test-packages ## Kill and damage the state store for about an hour
	TIPHYS_STORE_KILLS=10000 TIPHYS_STORE_DAMAGED=20000 TIPHYS_STORE_HISTORIES=500 TIPHYS_STORE_MODELS=20000 \
	$(CARGO) test --package tiphys-store --lib -- crash:: damage:: history:: model:: torn::
