#!/bin/sh
# Assembles the committed PTX for each generation of devices and shows what its kernels need; scripts/ptxas.py says what
# is too much:
#     scripts/ptxas.sh [KERNELS.ptx]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
ptx=$(realpath "${1:-$root/src/backend/cuda/kernels/kernels.ptx}")
cd "$root"
exec python3 scripts/ptxas.py "$(scripts/cuda-wheel.sh ptxas | tail -n 1)" "$ptx"
