#!/bin/sh
# Builds the emulator of tests/cuda_emulator, a libcuda.so.1 that runs these kernels on the CPU; what has not changed is
# not built again. Prints the folder that it is in:
#     scripts/build-cuda-emulator.sh [KERNELS.cu] [FOLDER]
# CXX, CXXFLAGS: another compiler; other flags than -O2 -g1, of sanitizers for example.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
kernels=$(realpath "${1:-$root/src/backend/cuda/kernels/kernels.cu}")
folder=${2:-${CARGO_TARGET_DIR:-$root/target}/cuda_emulator}
mkdir -p "$folder"
folder=$(realpath "$folder")

# One at a time; whoever waited finds it done.
exec 9>"$folder/lock"
if command -v flock >/dev/null; then flock 9; fi
make --silent --jobs="$(nproc)" -f "$root/tests/cuda_emulator/Makefile" KERNELS="$kernels" OUT="$folder" >&2
echo "$folder"
