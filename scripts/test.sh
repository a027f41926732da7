#!/bin/sh
# Everything that is checked, in one go; the first failure ends it. Needs nothing outside this repository but the
# tools of scripts/setup.sh and the crates of Cargo.lock.
set -eu
cd "$(dirname "$0")/.."

section() {
    printf '\n==== %s ====\n' "$1"
    shift
    "$@"
}

section "tools" scripts/setup.sh test
section "format" cargo fmt --check
section "lints, with everything that tests use" cargo clippy --all-targets --locked -- -D warnings
section "lints, as released" cargo clippy --locked -- -D warnings
section "tests" cargo test --locked
if command -v abidiff >/dev/null 2>&1; then
    section "C ABI, that of the last release or more" cargo test --locked --test abi -- --ignored
else
    section "C ABI against the last release, NOT checked: abidiff is missing (Debian: abigail-tools)" true
fi
if [ "$(uname -s)" = Linux ]; then
    if echo '#include <torch/csrc/api/include/torch/version.h>' | c++ -E -x c++ - >/dev/null 2>&1; then
        section "the adapter for libtorch" cargo test --locked --test torch -- --ignored
        section "the paper's tasks on libtorch, in short" cargo test --locked --test tasks -- --ignored
    else
        section "the adapter for libtorch, NOT checked: it is missing (Debian: libtorch-dev libopenblas0-pthread)" true
    fi
    if command -v mpirun >/dev/null 2>&1 && command -v mpicxx >/dev/null 2>&1; then
        section "several processes" cargo test --locked --test mpi -- --ignored
    else
        section "several processes, NOT checked: MPI is missing (Debian: openmpi-bin libopenmpi-dev)" true
    fi
    section "CUDA, on the emulator" scripts/test-cuda.sh
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    section "CUDA, PTX and registers, NOT checked: the compiler is that of Linux x86-64" true
elif [ -n "${METAADAMW_NO_PYTHON:-}" ]; then
    section "CUDA, PTX and registers, NOT checked: METAADAMW_NO_PYTHON is set" true
else
    section "CUDA, the PTX is what the kernels compile to" scripts/ptx.sh --check
    section "CUDA, the kernels' registers" scripts/ptxas.sh
fi
section "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
section "release library" cargo build --release --locked
section "exports of the release library" \
    env METAADAMW_LIBRARY="${CARGO_TARGET_DIR:-target}/release/libmetaadamw.so" cargo test --locked --test exports
if [ "$(uname -s)" = Linux ]; then
    section "stack of the release library" env METAADAMW_LIBRARY="${CARGO_TARGET_DIR:-target}/release/libmetaadamw.so" \
        cargo test --locked --test process stack
    section "valgrind" scripts/valgrind.sh
fi
section "Miri, NOT run here, as it takes too long: scripts/miri.sh" true
aarch64=$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu/lib
if [ -d "$aarch64" ]; then
    section "library for aarch64, compiled" cargo check --lib --locked --target aarch64-unknown-linux-gnu
else
    section "library for aarch64, NOT checked: the target aarch64-unknown-linux-gnu is missing" true
fi
section "demo, compiled" scripts/build-c.sh examples/c/forecast.c build/forecast
section "demo, a short run" build/forecast --epochs 2 --seeds 1
section "demo, compiled with sanitizers" scripts/build-c.sh examples/c/forecast.c build/sanitized/forecast \
    -g -fsanitize=address,undefined -fno-sanitize-recover=all
section "demo, a short run with sanitizers" build/sanitized/forecast --epochs 3 --seeds 1
section "Go" scripts/test-go.sh
section "Julia" scripts/test-julia.sh
printf '\n==== all passed ====\n'
