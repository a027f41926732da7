# Thin: every target is one or two commands that can be typed by hand as well.

.PHONY: help demo demo-c docs test test-cuda bench bench-gpu bench-torch header ptx

# One folder of cargo's for everything that is built in release mode.
CARGO_FOLDER := $(abspath $(or $(CARGO_TARGET_DIR),target))

help:
	@echo "make demo    build examples/cpp/forecast with CMake, train with AdamW and with MetaAdamW, compare, log, draw"
	@echo "make demo-c  the same program in C, without the drawing"
	@echo "make test    format, lints, tests, documentation, the release library's exports, the demo in short"
	@echo "make test-cuda  the tests that run on any backend, on CUDA, whose driver is an emulator; part of make test"
	@echo "make docs    build the site of documentation into build/docs, and check its links"
	@echo "make bench   time the parts, and the step against PyTorch, which it installs into target/peers"
	@echo "make bench-gpu  on a machine with an NVIDIA device: the CUDA tests, then the step against PyTorch"
	@echo "make bench-torch  with libtorch: training steps with torch's AdamW and with the adapter of bindings/cpp"
	@echo "make header  refresh include/metaadamw.h, its copy in bindings/go and tests/exports.txt from the sources"
	@echo "make ptx     compile the CUDA kernels with a compiler that it downloads"

demo:
	scripts/setup.sh demo
	cmake -S examples/cpp/forecast -B build/demo -DMETAADAMW_CARGO_TARGET_DIR="$(CARGO_FOLDER)"
	cmake --build build/demo
	mkdir -p target/demo
	build/demo/forecast --svg target/demo/forecast.svg

demo-c:
	scripts/setup.sh demo
	cargo build --release --locked
	scripts/build-c.sh examples/c/forecast.c build/forecast
	build/forecast

docs:
	scripts/docs.sh

test:
	scripts/test.sh

test-cuda:
	scripts/test-cuda.sh

bench:
	scripts/bench.sh

bench-gpu:
	benches/gpu.sh

bench-torch:
	cmake -S benches/torch -B build/bench-torch -DMETAADAMW_CARGO_TARGET_DIR="$(CARGO_FOLDER)"
	cmake --build build/bench-torch
	OMP_WAIT_POLICY=passive build/bench-torch/training

header:
	METAADAMW_BLESS=1 cargo test --locked --test header the_committed_header
	cp include/metaadamw.h bindings/go/metaadamw.h
	METAADAMW_BLESS=1 cargo test --locked --test exports the_committed_list

ptx:
	scripts/ptx.sh
