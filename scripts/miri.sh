#!/bin/sh
# Miri, which finds undefined behaviour, over the unit tests: the pure modules, the kernels at the baseline level, the
# checkpoint reader and a small run. It needs a nightly toolchain's components, which rustup fetches if it can.
set -eu
cd "$(dirname "$0")/.."
for component in miri rust-src; do
    if ! rustup component list --toolchain nightly --installed 2>/dev/null | grep -q "^$component" \
        && ! timeout 300 rustup toolchain install nightly --profile minimal --component miri --component rust-src >&2; then
        echo "miri: NOT run: install it with"
        echo "    rustup toolchain install nightly --component miri --component rust-src"
        exit 0
    fi
done
# Tests that take hours there, or call what it does not know, say so where they stand: cfg_attr(miri, ignore).
# Tree Borrows: crossbeam-epoch, under rayon, does not follow Stacked Borrows.
MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows -Zmiri-permissive-provenance" \
    cargo +nightly miri test --locked --lib
