#!/bin/sh
# The tasks with the libtorch of a PyTorch package, on a machine that has nothing else: no CMake, no CUDA toolkit. A part of
# the matrix that ends in time; called again it goes on, also from logs that were carried elsewhere.
#     pytorch.sh DATA [MINUTES [--scale NAME | --only FIELD=VALUE,... | --jobs N]...]
# DATA: the folder of the data sets. MINUTES: 9 if not given. Logs are in build/results, and copied to $OUT where that is set.
# The device is CUDA if PyTorch has it and this machine too, else the CPU.
#     pytorch.sh --bundle
# makes what needs Rust, build/tasks-pytorch, to be carried to a machine without it. Where PyTorch is here too, the program is
# compiled as well: it runs with the same version of PyTorch.
# METAADAMW_PEERS_PYTHON: a Python that has PyTorch, else target/peers/bin/python or python3. TORCH: the package's folder, if no
# Python can say it.
set -eu
cd "$(dirname "$0")/../../.."
bundle=build/tasks-pytorch
tasks=examples/libtorch/tasks

python=${METAADAMW_PEERS_PYTHON:-target/peers/bin/python}
[ -x "$python" ] || python=python3
torch=${TORCH:-$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null || true)}

bundle() {
    mkdir -p "$bundle"
    cargo build --release --locked --features experiment --lib --bin metaadamw-experiment
    strip -o "$bundle/libmetaadamw.so.1" "${CARGO_TARGET_DIR:-target}/release/libmetaadamw.so"
    strip -o "$bundle/metaadamw-experiment" "${CARGO_TARGET_DIR:-target}/release/metaadamw-experiment"
}

has() {
    echo "#include <stdio.h>
#include <$1>" | c++ -E -x c++ - >/dev/null 2>&1
}

compile() {
    if [ ! -d "$torch/include/torch" ]; then
        echo "pytorch.sh: PyTorch is missing: python3 -m pip install torch, or say with TORCH where its package is" >&2
        exit 1
    fi
    # Versions before 2.6 were compiled with the old strings of libstdc++ for some platforms.
    abi=$("$python" -c 'import torch; print(int(torch._C._GLIBCXX_USE_CXX11_ABI))' 2>/dev/null || echo 1)
    flags="-std=c++20 -O1 -DNDEBUG -D_GLIBCXX_USE_CXX11_ABI=$abi -Iinclude -Ibindings/cpp/include -isystem $torch/include"
    flags="$flags -isystem $torch/include/torch/csrc/api/include"
    libraries=
    # Without these the compact files of a data set cannot be read; its published files can.
    ! has lzma.h || { flags="$flags -DTASKS_LZMA" && libraries="$libraries -llzma"; }
    ! has jpeglib.h || { flags="$flags -DTASKS_JPEG" && libraries="$libraries -ljpeg"; }
    [ ! -e "$torch/lib/libtorch_cuda.so" ] || [ -z "$cuda" ] || libraries="$libraries -ltorch_cuda -lc10_cuda"
    objects=$bundle/objects
    mkdir -p "$objects"
    echo '#include <metaadamw/torch.hpp>' >"$objects/all.hpp"
    # shellcheck disable=SC2086 # several words, here and below
    c++ $flags -x c++-header "$objects/all.hpp" -o "$objects/all.hpp.gch"
    for source in "$tasks"/*.cpp; do
        c++ $flags -include "$objects/all.hpp" -c "$source" -o "$objects/$(basename "$source" .cpp).o"
    done
    # A package for CUDA finds its libraries by paths that the linker does not follow. The CUDA ones are named nowhere in the
    # program, and still make the device.
    c++ "$objects"/*.o -o "$bundle/train" -L"$bundle" -l:libmetaadamw.so.1 -L"$torch/lib" \
        -Wl,--unresolved-symbols=ignore-in-shared-libs -Wl,--no-as-needed -ltorch_cpu -lc10 $libraries \
        -Wl,--disable-new-dtags,-rpath,"\$ORIGIN:$torch/lib:$torch/../nvidia/cu13/lib"
}

cuda=
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    cuda=yes
fi
case ${1:-} in
--bundle)
    bundle
    [ ! -d "$torch/include/torch" ] || compile
    exit
    ;;
"" | -*)
    sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 1
    ;;
esac
data=$1
shift
minutes=9
case ${1:-} in
[0-9]*)
    minutes=$1
    shift
    ;;
esac
begun=$(date +%s)
[ -x "$bundle/metaadamw-experiment" ] || bundle
[ -x "$bundle/train" ] || compile
device=cpu
[ -z "$cuda" ] || device=cuda
case "$*" in
*--scale*) ;;
*) set -- --scale full "$@" ;;
esac
# What compiling took is of the same minutes.
left=$((minutes * 60 - $(date +%s) + begun))
if [ "$left" -lt 60 ]; then
    echo "pytorch.sh: compiling took the time; call it again" >&2
    exit 1
fi
mkdir -p build/results
"$bundle/metaadamw-experiment" run --train "$bundle/train" --data "$data" --logs build/results --device "$device" \
    --minutes "$(awk "BEGIN { print $left / 60 }")" "$@"
[ -z "${OUT:-}" ] || cp -r build/results "$OUT/"
