#!/bin/sh
# On a machine with an NVIDIA device, within 9 minutes: the CUDA tests on its driver, plainly and under compute-sanitizer
# where that is found, then benches/gpu/table.py. Writes gpu.json, gpu.md and the tests' logs into $OUT, or target/bench.
# Fails if a test does, if a number is missing, and if there is no device.
#
# What is run comes from build/gpu, which is made where it is missing and can be carried to a machine without compilers:
#     benches/gpu.sh --bundle
# METAADAMW_PEERS_PYTHON: a Python that has PyTorch, else target/peers/bin/python or python3.
# A look without a device, METAADAMW_GPU_ELEMENTS being other sizes:
#     LD_LIBRARY_PATH=$(scripts/build-cuda-emulator.sh) METAADAMW_GPU_ELEMENTS=2000 benches/gpu.sh
set -eu
cd "$(dirname "$0")/.."
bundle=build/gpu

if [ "${1:-}" = --bundle ]; then
    for tool in cargo "${CC:-cc}" strip; do
        command -v "$tool" >/dev/null || { echo "gpu.sh: $tool is missing" >&2 && exit 1; }
    done
    rm -rf "$bundle"
    mkdir -p "$bundle/tests"
    cargo build --release --locked
    strip -o "$bundle/libmetaadamw.so.1" "${CARGO_TARGET_DIR:-target}/release/libmetaadamw.so"
    ${CC:-cc} -std=c11 -O2 -Wall -Wextra -Werror -Iinclude benches/gpu/step.c -o "$bundle/step" \
        -L"$bundle" -l:libmetaadamw.so.1 -ldl -Wl,-rpath,"\$ORIGIN"
    # shellcheck disable=SC2046 # several words
    cargo test --locked --no-run --message-format=json $(scripts/test-cuda.sh --list) |
        sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p' | while read -r test; do
        strip -o "$bundle/tests/$(basename "$test" | sed 's/-[0-9a-f]*$//')" "$test"
    done
    tar -C "$bundle" -czf "$bundle/tests.tar.gz" tests # a third of the size
    rm -r "$bundle/tests"
    # Tests read the repository's files, and write others, where they were compiled.
    pwd >"$bundle/root"
    realpath "${CARGO_TARGET_DIR:-target}" >"$bundle/target"
    exit
fi

PATH=$PATH:/sbin:/usr/sbin:/usr/local/cuda/bin
loader_finds() {
    ldconfig -p 2>/dev/null | grep -q "$1" && return
    echo "${LD_LIBRARY_PATH:-}" | tr ':' '\n' | while read -r folder; do
        [ ! -e "$folder/$1" ] || echo found
    done | grep -q found
}
if ! loader_finds libcuda.so.1; then
    echo "gpu.sh: nothing was measured: NVIDIA's driver (libcuda.so.1) is missing on this machine" >&2
    exit 1
fi
[ -x "$bundle/step" ] || "$0" --bundle
card=$("$bundle/step" device) || {
    echo "gpu.sh: nothing was measured: a CUDA device is missing on this machine" >&2
    exit 1
}
out=${OUT:-target/bench}
mkdir -p "$out"
out=$(realpath "$out")
echo "$card"

started=$(date +%s)
left() { echo $((530 - $(date +%s) + started)); }
TABLE=200 # seconds that are kept for it

root=$(cat "$bundle/root")
[ -e "$root" ] || { mkdir -p "$(dirname "$root")" && ln -s "$PWD" "$root"; }
mkdir -p "$(cat "$bundle/target")/tmp"
tar -C "$bundle" -xzf "$bundle/tests.tar.gz"

failed='' missing=''
# suite NAME SECONDS COMMAND…: every test program by that command, as long as there are seconds for it. Tests that need the
# emulator count as filtered out.
suite() {
    suite=$1 until=$(($(date +%s) + $2))
    shift 2
    for name in $(scripts/test-cuda.sh --list | sed 's/--test//g' | tr ' ' '\n' | tac); do
        seconds=$((until - $(date +%s)))
        if [ "$seconds" -le 0 ]; then
            echo "not run  $suite $name: out of time"
            missing="$missing $suite/$name"
        elif METAADAMW_TEST_DEVICE=cuda timeout "$seconds" "$@" "$bundle/tests/$name" --skip emulator_only \
            >"$out/$suite-$name.log" 2>&1; then
            echo "passed   $suite $name: $(grep '^test result' "$out/$suite-$name.log")"
        elif [ "$(date +%s)" -ge "$until" ]; then
            echo "stopped  $suite $name: out of time"
            missing="$missing $suite/$name"
        else
            echo "FAILED   $suite $name"
            tail -n 40 "$out/$suite-$name.log"
            failed="$failed $suite/$name"
        fi
    done
}

suite plain 150 env
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck initcheck; do
        case $tool in memcheck) share=3 ;; racecheck) share=2 ;; *) share=1 ;; esac
        suite "$tool" $((($(left) - TABLE) / share)) compute-sanitizer --tool "$tool" --error-exitcode 9
    done
else
    echo "compute-sanitizer is missing (it comes with NVIDIA's CUDA toolkit): the tests ran without it"
    missing="$missing compute-sanitizer"
fi

for python in "${METAADAMW_PEERS_PYTHON:-}" target/peers/bin/python "$(command -v python3 || true)"; do
    [ -n "$python" ] && "$python" -c 'import torch' 2>/dev/null && break
done
if [ -z "$python" ]; then
    echo "gpu.sh: python3 is missing: no table" >&2
    exit 1
fi
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "PyTorch is missing (METAADAMW_PEERS_PYTHON names a Python that has it): no peers"
    missing="$missing PyTorch"
fi
# shellcheck disable=SC2086 # several sizes
timeout "$(left)" "$python" benches/gpu/table.py "$PWD/$bundle/step" $(($(left) - 40)) "$out" \
    ${METAADAMW_GPU_ELEMENTS:-} || failed="$failed table"

[ -z "$missing" ] || echo "missing:$missing"
[ -z "$failed" ] || { echo "failed:$failed" && exit 1; }
