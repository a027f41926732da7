#!/bin/sh
# Compiles the kernels to PTX, which is committed beside them, always with the same compiler:
#     scripts/ptx.sh [KERNELS.cu]           writes KERNELS.ptx
#     scripts/ptx.sh --check [KERNELS.cu]   fails if KERNELS.ptx is not what it would write
set -eu
check=false
if [ "${1:-}" = --check ]; then
    check=true
    shift
fi
root=$(cd "$(dirname "$0")/.." && pwd)
kernels=$(realpath "${1:-$root/src/backend/cuda/kernels/kernels.cu}")
committed=${kernels%.cu}.ptx
cd "$root"

nvrtc=$(scripts/cuda-wheel.sh nvrtc | tail -n 1)
new=$(mktemp)
trap 'rm -f "$new"' EXIT
python3 scripts/ptx.py "$nvrtc" "$kernels" >"$new"

if ! $check; then
    cat "$new" >"$committed"
elif [ ! -f "$committed" ]; then
    echo "ptx: $committed is missing; run scripts/ptx.sh and commit it" >&2
    exit 1
elif ! cmp -s "$new" "$committed"; then
    echo "ptx: $committed is not what $kernels compiles to; run scripts/ptx.sh and commit it" >&2
    diff "$committed" "$new" | head -n 20 >&2
    exit 1
fi
