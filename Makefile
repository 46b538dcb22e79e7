# One command a workflow. Each first sets up what it needs (scripts/setup), which is quick when nothing is
# missing. `make run ARGS="--port 8080"` hands flags on to the program.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
ARGS ?=
MODEL ?= build/models/SmolLM2-135M-Instruct.Q4_1.gguf

# ThreadSanitizer cannot start where the kernel randomises addresses widely.
FIXED_LAYOUT = $(shell setarch -R true 2>/dev/null && echo setarch -R)

define compile
@test -f build/$(1)/build.ninja || cmake --preset $(1) >/dev/null
@cmake --build --preset $(1) $(if $(2),--target $(2))
endef

# Rooms whose unit tests run under a sanitizer; threads matter in five of them.
ASAN_ROOMS = base platform quant gguf kernels_cpu ops moe models engine tokenizer chat scheduler server fuzz
TSAN_ROOMS = platform ops moe scheduler server
empty :=
space := $(empty) $(empty)
one_of = '^($(subst $(space),|,$(1)))$$'

FUZZ_TARGETS = gguf jinja json_body http encode output records
FUZZ_SECONDS ?= 120

.PHONY: help run build test bench asan tsan gpu fuzz soak nightly docs format setup clean

help:  ## this list
	@sed -nE 's/^([a-z ]+):.*  ## (.*)/  make \1\t\2/p' Makefile | expand -t 20

run: build  ## build, then serve the default model on port 10002
	@exec build/release/tandem serve $(ARGS)

build: setup  ## the release build, in build/release
	$(call compile,release)

test:  ## unit tests, then the API and model tests against the real program
	@scripts/setup --tests
	$(call compile,release)
	@ctest --preset release
	@build/venv/bin/python -m pytest tests

bench: build  ## measure the speed of the default model
	@exec build/release/tandem bench --gguf_path $(MODEL) $(ARGS)

asan:  ## unit tests, a short server run and a short soak under AddressSanitizer
	@scripts/setup --tests
	$(call compile,asan,tandem $(ASAN_ROOMS:=_test))
	@$(FIXED_LAYOUT) ctest --preset asan -R $(call one_of,$(ASAN_ROOMS))
	@$(FIXED_LAYOUT) .ci/server_smoke build/asan/tandem
	@$(FIXED_LAYOUT) build/venv/bin/python tests/soak/soak.py --sanitized --requests 1500 --program build/asan/tandem

tsan:  ## unit tests of the rooms with threads under ThreadSanitizer
	@scripts/setup --tests
	$(call compile,tsan,$(TSAN_ROOMS:=_test))
	@$(FIXED_LAYOUT) ctest --preset tsan -R $(call one_of,$(TSAN_ROOMS))

docs: build  ## renew docs/options.md from the program
	@build/release/tandem help --markdown >docs/options.md

gpu:  ## on a machine with a GPU: kernels, engine and models there, and memory errors
	@scripts/setup --tests
	$(call compile,release,tandem kernels_cuda_test engine_test)
	@.ci/gpu_check build/release

fuzz:  ## each fuzzer for FUZZ_SECONDS (120); what they learn stays in build/fuzz/corpus
	@scripts/setup --tests --fuzz
	$(call compile,fuzz,$(FUZZ_TARGETS:%=fuzz_%))
	@for name in $(FUZZ_TARGETS); do .ci/fuzz $$name $(FUZZ_SECONDS); done

soak:  ## 100 000 requests of all kinds, then: is anything left behind?
	@scripts/setup --tests
	$(call compile,release)
	@build/venv/bin/python tests/soak/soak.py --requests 100000

nightly: soak fuzz  ## what takes too long for every change: the long soak, short ones under sanitizers, fuzzers, kills
	@TANDEM_KILLS=200 build/venv/bin/python -m pytest tests/api/test_prefix_cache.py -k kill
	$(call compile,asan,tandem)
	@$(FIXED_LAYOUT) build/venv/bin/python tests/soak/soak.py --sanitized --requests 2000 --program build/asan/tandem
	$(call compile,tsan,tandem)
	@$(FIXED_LAYOUT) build/venv/bin/python tests/soak/soak.py --sanitized --requests 2000 --program build/tsan/tandem

format:  ## clang-format every source in place
	@scripts/setup --lint
	@find src tests -regex '.*\.\(h\|cc\|cu\|cuh\)' -exec clang-format-14 -i {} +

setup:  ## install what is missing: packages, the default model
	@scripts/setup

clean:  ## remove the builds; keeps the model and the Python packages
	@rm -rf build/release build/debug build/asan build/tsan build/fuzz
