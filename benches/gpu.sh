#!/bin/sh
# On a machine with an NVIDIA device, within 9 minutes: the CUDA tests on its driver, under compute-sanitizer where that is
# found, then benches/gpu/table.py. Nothing is built there: what is run comes from build/gpu, which
#     benches/gpu.sh --bundle
# fills on any machine with cargo and cc. Results go to $OUT, or build/gpu. METAADAMW_GPU_ELEMENTS: other sizes, for a look
# without a device: LD_LIBRARY_PATH=$(scripts/build-cuda-emulator.sh) METAADAMW_GPU_ELEMENTS=2000 benches/gpu.sh
set -eu
cd "$(dirname "$0")/.."
bundle=build/gpu

if [ "${1:-}" = --bundle ]; then
    rm -rf "$bundle"
    mkdir -p "$bundle/tests"
    cargo build --release --locked
    cp "${CARGO_TARGET_DIR:-target}/release/libmetaadamw.so" "$bundle/libmetaadamw.so.1"
    strip "$bundle/libmetaadamw.so.1"
    ln -s libmetaadamw.so.1 "$bundle/libmetaadamw.so"
    ${CC:-cc} -std=c11 -O2 -Wall -Wextra -Werror -Iinclude benches/gpu/step.c -o "$bundle/step" \
        -L"$bundle" -lmetaadamw -ldl -Wl,-rpath,'$ORIGIN'
    rm "$bundle/libmetaadamw.so" # links are not carried everywhere
    # shellcheck disable=SC2046 # several words
    cargo test --locked --no-run --message-format=json $(scripts/test-cuda.sh --list) |
        sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p' | while read -r test; do
        strip -o "$bundle/tests/$(basename "$test" | sed 's/-[0-9a-f]*$//')" "$test"
    done
    tar -C "$bundle" -czf "$bundle/tests.tar.gz" tests # a third of the size
    rm -r "$bundle/tests"
    pwd >"$bundle/root"
    realpath "${CARGO_TARGET_DIR:-target}" >"$bundle/target"
    du -sh "$bundle"
    exit
fi

[ -x "$bundle/step" ] || "$0" --bundle
out=$(realpath "${OUT:-$bundle}")
started=$(date +%s)
left() { echo $((540 - $(date +%s) + started)); }
nvidia-smi 2>/dev/null || echo "nvidia-smi is missing"

# Tests read the repository's files, and write others, where they were when they were compiled.
root=$(cat "$bundle/root")
[ -e "$root" ] || { mkdir -p "$(dirname "$root")" && ln -s "$PWD" "$root"; }
mkdir -p "$(cat "$bundle/target")/tmp"
tar -C "$bundle" -xzf "$bundle/tests.tar.gz"

failed=
for test in "$bundle"/tests/*; do
    name=$(basename "$test")
    if METAADAMW_TEST_DEVICE=cuda timeout 60 "$test" >"$out/$name.log" 2>&1; then
        echo "passed   $name: $(grep '^test result' "$out/$name.log")"
    else
        echo "FAILED   $name, status $?"
        tail -n 40 "$out/$name.log"
        failed="$failed $name"
    fi
done

PATH=$PATH:/usr/local/cuda/bin
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck initcheck; do
        METAADAMW_TEST_DEVICE=cuda timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$bundle/tests/cuda_steps" the_default >"$out/$tool.log" 2>&1 || echo "$tool: status $?"
        tail -n 3 "$out/$tool.log"
    done
else
    echo "compute-sanitizer is missing"
fi

python=$(command -v python3 || command -v python || true)
if [ -n "$python" ]; then
    step=$PWD/$bundle/step table=$PWD/benches/gpu/table.py limit=$(($(left) - 60))
    (cd "$out" && timeout "$(left)" "$python" "$table" "$step" "$limit" ${METAADAMW_GPU_ELEMENTS:-}) | tee "$out/table.txt"
else
    echo "Python is missing: a single size"
    echo "w 124000000" | "$bundle/step" float32
fi
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
