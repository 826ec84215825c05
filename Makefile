# make run    builds what is missing and starts the gateway; ARGS="…" goes behind `sluicegate serve`
# make test   everything that must hold, cheapest first
# make help   the rest

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: run test fuzz bench profile package container build check plugins setup setup-test setup-bench setup-profile setup-package \
	setup-container release-and-bench clean help force

# cargo where rustup puts it, for a shell that has not been restarted since.
export PATH := $(PATH):$(HOME)/.cargo/bin
# The build scripts of host/plugin and host/gateway read components and pages from here, so this overrides the
# environment.
export CARGO_TARGET_DIR := $(CURDIR)/target
export SLUICEGATE_BIN := $(CURDIR)/target/debug/sluicegate
ifeq ($(origin CHROMIUM),undefined)
test: export CHROMIUM = $(firstword $(shell command -v chromium chromium-browser google-chrome google-chrome-stable))
endif

# When each stage of the tests began, in Unix time.
stages := target/stamps/test-stages
stage = mkdir -p $(dir $(stages)) && date '+%s $(1)' >>$(stages) && printf '\n== %s\n' '$(1)'

ARGS ?=
TIME ?= 3600
TARGETS ?=

## run: build and start the gateway on 127.0.0.1:8080, e.g. make run ARGS="--config examples/config/lan.toml"
run: build
	@exec target/release/sluicegate serve $(ARGS)

## build: the release binary, target/release/sluicegate
build: setup plugins target/stamps/web
	cargo build --release --locked -p sluicegate -p sluicegate-devices

## test: formatting, lints, docs, unit, end-to-end and browser tests
test: setup-test web/node_modules/.installed
	@rm -f $(stages)
	@$(call stage,pages: types and unit tests)
	cd web && npm run --silent check && npm test --silent
	@$(call stage,formatting)
	cargo fmt --all --check
	@$(call stage,components and pages)
	plugins/build brittle
	@$(MAKE) --no-print-directory plugins target/stamps/web
	@$(call stage,lints)
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(call stage,documentation)
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@$(call stage,build of the gateway and its tests)
	cargo build --locked --workspace --bin sluicegate --bin sluicegate-devices --bin sluicegate-link
	cargo test --workspace --locked --no-run
	@$(call stage,unit and end-to-end tests)
	cargo test --workspace --locked -- --test-threads=$$((3 * $$(nproc))) # they mostly wait
	cargo test --workspace --locked --features sluicegate-plugin/next-interface --test next_interface
	@$(call stage,a little fuzzing)
	SMOKE=1 tests/fuzz/run 3
	@$(call stage,browser)
	cd web && npm run --silent test:browser
	@$(call stage,time for each stage)
	@awk 'NR > 1 { printf "%5d s %s\n", $$1 - began, name } { began = $$1; $$1 = ""; name = $$0 }' $(stages)

## bench: compare the gateway with a baseline, into docs/benchmarks.md; QUICK=1 checks that it works; ONLY=nal,hls,…
bench: setup-bench release-and-bench
	@target/release/sluicegate-bench run $(if $(QUICK),--quick,--write docs/benchmarks.md) $(if $(ONLY),--only $(ONLY)) $(ARGS)

## profile: where processor time goes, into docs/benchmarks.md; ARGS="--transport mjpeg --viewers 1000" only prints it
profile: setup-profile release-and-bench
	@target/release/sluicegate-bench profile $(or $(ARGS),--write docs/benchmarks.md)

# Together, so that what both need is built once.
release-and-bench: plugins target/stamps/web
	cargo build --release --locked -p sluicegate -p sluicegate-devices -p sluicegate-bench

## package: a Debian package of the release binary in target/package, tested with dpkg and systemd in a container
package: setup-package build
	packaging/build
	packaging/test

## container: tests the container file, with that package; needs root
container: setup-container
	packaging/test-container

## check: formatting, lints and types only
check: setup-test plugins target/stamps/web
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cd web && npm run --silent check

## fuzz: hours of random input; TIME= seconds for each target, TARGETS= some of those in tests/fuzz/fuzz_targets
fuzz: setup-test plugins target/stamps/web
	tests/fuzz/run $(TIME) $(TARGETS)

## plugins: the WebAssembly components, target/plugins/*.wasm
plugins: setup
	plugins/build

setup:
	@.ci/setup run

setup-test:
	@.ci/setup test

setup-bench:
	@.ci/setup bench

setup-profile:
	@.ci/setup profile

setup-package:
	@.ci/setup package

setup-container:
	@.ci/setup container

# npm ci empties node_modules, the stamp with it, so it never claims what is not there.
web/node_modules/.installed: web/package.json web/package-lock.json | setup
	cd web && npm ci --no-audit --no-fund
	@touch $@

# The folders are among the sources because a removed file changes nothing else.
web_sources := $(shell find web -name node_modules -prune -o -path web/test -prune -o -path web -o -print)

# The documentation is part of the pages, with those files of the repository that it links to: the build notes which.
web_sources += $(if $(wildcard docs),$(shell find docs))
-include target/stamps/web.d

target/stamps/web: web/node_modules/.installed $(web_sources) $(if $(wildcard target/web/index.html),,force)
	cd web && npm run --silent build
	@mkdir -p $(@D) && touch $@

## clean: remove what was built and fetched
clean:
	rm -rf target web/node_modules

## help: this list
help:
	@sed -n 's/^## //p' Makefile

force:
