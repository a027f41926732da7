#!/bin/sh
# The benches. The peers go into target/peers, once: PyTorch, and a program of its C++ library. Where one cannot be had
# the table says that it is missing. METAADAMW_PEERS_PYTHON: a Python that has PyTorch already.
set -eu
cd "$(dirname "$0")/.."

python=${METAADAMW_PEERS_PYTHON:-target/peers/bin/python}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "installing PyTorch into target/peers (some gigabytes)"
    if ! { python3 -m venv target/peers && "$python" -m pip install --quiet torch numpy; }; then
        echo "PyTorch could not be installed: python3 with venv and the package index are needed" >&2
    fi
fi

# PyTorch's wheel ships libtorch and its headers; Debian has them as libtorch-dev.
peer=target/peers/libtorch_peer
if [ ! -x "$peer" ] || [ benches/peers/libtorch_peer.cpp -nt "$peer" ]; then
    echo "compiling $peer (a minute)"
    mkdir -p target/peers
    torch=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null) || torch=/usr
    # A wheel for CUDA has libraries that find their own by paths that the linker does not follow.
    if ! c++ -std=c++20 -O2 benches/peers/libtorch_peer.cpp -o "$peer" \
        -isystem "$torch/include" -isystem "$torch/include/torch/csrc/api/include" \
        -L"$torch/lib" -Wl,-rpath,"$torch/lib" -Wl,--unresolved-symbols=ignore-in-shared-libs \
        -Wl,--no-as-needed -ltorch_cpu -lc10; then
        rm -f "$peer"
        echo "the libtorch peer could not be compiled: PyTorch's wheel or libtorch-dev is needed" >&2
    fi
fi

if "$python" -c 'import torch' 2>/dev/null; then
    METAADAMW_PEERS_PYTHON=$python cargo test --locked --test half_bits -- --ignored
fi
for bench in attention step peers growth dead_rows; do
    cargo bench --locked --bench "$bench"
done
