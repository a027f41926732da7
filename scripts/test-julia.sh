#!/bin/bash
# Tests bindings/julia and runs its example, with the Julia that get-julia.sh finds and the release library, which is
# built if it is missing. METAADAMW_LIBRARY: another library.
set -euo pipefail
cd "$(dirname "$0")/.."

julia=$(scripts/get-julia.sh | tail -n 1)
if [ -z "${METAADAMW_LIBRARY:-}" ]; then
    suffix=so
    [ "$(uname -s)" != Darwin ] || suffix=dylib
    METAADAMW_LIBRARY=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/libmetaadamw.$suffix
    [ -f "$METAADAMW_LIBRARY" ] || cargo build --release --locked
fi
export METAADAMW_LIBRARY
export JULIA_DEPOT_PATH=$PWD/build/julia-depot # ~/.julia stays as it is
export RUST_BACKTRACE=0                        # Julia's tests need none, and each costs 0.1 s

run() {
    "$julia" --startup-file=no --project=bindings/julia "$@"
}
run bindings/julia/gen/generate.jl --check
# Most of the time is compiling, so less of it.
JULIA_NUM_THREADS=2 run -O0 bindings/julia/test/runtests.jl
if [ "$(uname -s)" = Linux ]; then
    METAADAMW_TEST_CUDA=$(scripts/build-cuda-emulator.sh)/libcuda.so.1 run -O0 bindings/julia/test/runtests.jl device
fi
run examples/julia/forecast.jl --epochs 2 --seeds 1
