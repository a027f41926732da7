#!/bin/sh
# Miri, which finds undefined behaviour, over the unit tests: the pure modules, the kernels at the baseline level, the
# checkpoint reader and a small run. It needs a nightly toolchain, which rustup fetches if it can.
set -eu
cd "$(dirname "$0")/.."
toolchain=nightly-2026-05-20 # a fixed one: not every nightly has Miri, and each may find more
if ! rustup component list --toolchain "$toolchain" --installed 2>/dev/null | grep -q '^miri' \
    && ! timeout 600 rustup toolchain install "$toolchain" --profile minimal --component miri --component rust-src >&2; then
    echo "Miri: NOT run: install it with"
    echo "    rustup toolchain install $toolchain --profile minimal --component miri --component rust-src"
    exit 0
fi
# Tree Borrows: crossbeam-epoch, under rayon, does not follow Stacked Borrows. `math` and `half` have no unsafe code, and
# their tests go over millions of numbers.
MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows -Zmiri-permissive-provenance" \
    cargo "+$toolchain" miri test --locked --lib -- --skip numeric::math --skip numeric::half
