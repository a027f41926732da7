#!/bin/sh
# The benches. PyTorch, a peer, goes into target/peers, once; where it cannot be had the table says that it is missing.
set -eu
cd "$(dirname "$0")/.."

python=target/peers/bin/python
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "installing PyTorch into target/peers (some gigabytes)"
    if ! { python3 -m venv target/peers && "$python" -m pip install --quiet torch numpy; }; then
        echo "PyTorch could not be installed: python3 with venv and the package index are needed" >&2
    fi
fi
cargo bench --locked --bench attention
cargo bench --locked --bench step
cargo bench --locked --bench peers
