# Relayer: the one list of commands. `make` alone prints it.

CARGO ?= cargo
IMAGE ?= moltrade-relayer
TAG   ?= latest
# Arguments for the program: make run ARGS="--config my.toml"
ARGS  ?=
# What to fuzz: frame, event, relay_message, client_message, filter, websocket
TARGET ?= frame
# How long make soak takes
MINUTES ?= 30
# The gateway that make screenshots shows
URL ?= http://127.0.0.1:8080
# The package that make test-deb tests
DEB ?= $(lastword $(sort $(wildcard $(TARGET_DIR)/debian/*.deb)))
TARGET_DIR = $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

# rustup's cargo, for shells that were started before its installation. It precedes the system's.
export PATH := $(if $(findstring $(HOME)/.cargo/bin,$(PATH)),$(PATH),$(HOME)/.cargo/bin:$(PATH))

# Folders in which distributions keep links to ccache that are named like the compilers. With
# ccache, a second profile and every later clean build take RocksDB from its cache. Missing folders
# have no effect, and cargo does not rebuild anything because PATH has changed.
empty :=
CCACHE_PATH := /usr/lib/ccache /usr/lib64/ccache /usr/lib/ccache/bin /opt/homebrew/opt/ccache/libexec \
	/usr/local/opt/ccache/libexec
export PATH := $(subst $(empty) ,:,$(CCACHE_PATH)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help build dev run debug test bench fuzz demo soak ci fmt lint comment-width deny schemathesis smoke release \
        clean setup-env config-template requirements rocksdb-debug rocksdb-release python node postgres nginx haproxy prometheus chromium \
        vendor-assets screenshots deb test-deb check-deploy tools docker-build docker-run docker-push

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: requirements rocksdb-release ## Build the release version
	$(CARGO) build --release

dev: requirements rocksdb-debug ## Build the debug version
	$(CARGO) build

run: requirements rocksdb-release ## Run the release version (ARGS="--config my.toml")
	$(CARGO) run --release -- $(ARGS)

debug: requirements rocksdb-debug ## Run the debug version
	$(CARGO) run -- $(ARGS)

test: requirements python node postgres nginx haproxy prometheus chromium rocksdb-debug ## Run all tests, with cargo-nextest if it is installed
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		echo "$(CARGO) nextest run --workspace"; $(CARGO) nextest run --workspace; \
	else \
		echo "$(CARGO) test --workspace (cargo-nextest is not installed)"; $(CARGO) test --workspace; \
	fi

bench: requirements rocksdb-release ## Measure and print each figure beside its limit
	$(CARGO) bench -p moltrade-relayer -p relayer-wire

fuzz: requirements ## Fuzz a parser for a minute (TARGET=frame; cargo install cargo-fuzz)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is not installed: cargo install cargo-fuzz"; exit 1; }
	cd crates/wire && mkdir -p fuzz/corpus/$(TARGET) fuzz/seeds/$(TARGET) && RUSTC_BOOTSTRAP=1 \
		$(CARGO) fuzz run -s none $(TARGET) fuzz/corpus/$(TARGET) fuzz/seeds/$(TARGET) -- \
		-max_total_time=60 -dict=fuzz/json.dict -max_len=4096

demo: requirements rocksdb-release ## Run simulated relays, the gateway and two clients for a minute; needs no network
	$(CARGO) build --release
	$(CARGO) run --release -p relayer-demo

soak: requirements rocksdb-release ## Run under faults, attacks, kills and full disks (MINUTES=30; as root)
	$(CARGO) build --release -p moltrade-relayer --bin moltrade-relayer --example soak
	"$${CARGO_TARGET_DIR:-target}/release/examples/soak" --minutes $(MINUTES)

ci: ## Run what the CI runs: test, lint, smoke
	.ci/run

fmt: requirements ## Format the code
	$(CARGO) fmt --all

lint: requirements rocksdb-debug comment-width ## Check formatting, clippy and comments; a warning is an error
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

comment-width: ## Check that comments and Markdown wrap at 100 columns
	@scripts/comment-width

deny: ## Check licences, sources and advisories of dependencies (cargo install cargo-deny)
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "cargo-deny is not installed: cargo install cargo-deny"; exit 1; }
	$(CARGO) deny --locked check bans licenses sources
	@if $(CARGO) deny fetch db; then echo "$(CARGO) deny --locked check advisories"; \
		$(CARGO) deny --locked check advisories; \
	else echo "the advisory database cannot be reached: advisories are not checked"; fi

schemathesis: dev ## Test the debug version with requests made from its API description (Python)
	scripts/schemathesis

smoke: dev ## Start the debug version, query its API, stop it
	scripts/smoke

release: build ## Build the release version and print its path
	@echo "$${CARGO_TARGET_DIR:-$(CURDIR)/target}/release/moltrade-relayer"

clean: ## Delete build results
	$(CARGO) clean

setup-env: requirements ## Install requirements, and create config.toml from the template
	@if [ -e config.toml ]; then echo "config.toml exists and was not changed"; \
	else cp config.template.toml config.toml && echo "created config.toml from config.template.toml"; fi

config-template: requirements rocksdb-debug ## Generate config.template.toml from the defaults in the code
	$(CARGO) run --quiet -- config-template > config.template.toml.new
	mv config.template.toml.new config.template.toml

requirements: ## Check for Rust, a C++ compiler, clang, libclang and ccache; install them if possible
	@scripts/requirements

# Reports that RocksDB is about to be compiled, if so.
rocksdb-debug rocksdb-release: rocksdb-%: | requirements
	@scripts/rocksdb $*

python: ## Create the Python environment for the tests of the examples
	@scripts/python >/dev/null

node: ## Install the npm packages for the tests of the JavaScript examples and of the live page
	@scripts/node >/dev/null

postgres: ## Check for PostgreSQL, which tests of the registry start; install it if possible
	@scripts/postgres

nginx: ## Check for nginx, which tests start; install it if possible
	@scripts/proxy nginx

haproxy: ## Check for HAProxy, which a test of the PROXY protocol starts; install it if possible
	@scripts/proxy haproxy

prometheus: ## Check for Prometheus, with which tests check alerts and dashboard; install it if possible
	@scripts/prometheus

chromium: ## Check for Chromium, in which tests drive the live page; install it if possible
	@scripts/chromium

vendor-assets: ## Fetch the libraries of the live page again, and compare them with their checksums
	scripts/vendor-assets

screenshots: node chromium ## Take the pictures in docs/images of a running gateway (URL=http://127.0.0.1:8080)
	scripts/screenshots $(URL)

deb: build ## Build the Debian package (cargo install cargo-deb)
	@$(CARGO) deb --version >/dev/null 2>&1 || { echo "cargo-deb is not installed: cargo install cargo-deb"; exit 1; }
	scripts/licences > $(TARGET_DIR)/release/third-party-licences
	$(CARGO) deb --locked --no-build --package moltrade-relayer

test-deb: ## Install, start, upgrade, remove and purge the package in a clean Debian system (DEB=...)
	$(if $(filter 0,$(shell id -u)),,sudo )scripts/test-deb $(DEB)

check-deploy: ## Check the unit, the workflow, the compose file and the Dockerfile with their tools
	@scripts/check-deploy

tools: requirements ## Install the cargo commands that test, deny and deb use
	$(CARGO) install --locked cargo-nextest cargo-deny cargo-deb

docker-build: ## Build the Docker image
	docker build --tag $(IMAGE):$(TAG) .

docker-run: ## Run the image in the background, with its data in a volume
	docker run --detach --rm --name moltrade-relayer --env RELAY_URLS --env RELAYER_API__ADMIN_TOKEN \
		--env RELAYER_API__PUBLIC_URL="$${RELAYER_API__PUBLIC_URL:-http://127.0.0.1:8080}" --env RELAYER_POSTGRES__DSN \
		--publish 127.0.0.1:8080:8080 --publish 127.0.0.1:9090:9090 \
		--volume moltrade-relayer-data:/data $(IMAGE):$(TAG)

docker-push: ## Push the image (IMAGE=registry/name TAG=...)
	docker push $(IMAGE):$(TAG)
