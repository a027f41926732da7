#!/bin/sh
# Miri, which finds undefined behaviour, over unit tests: kernels at the baseline level, the parser of
# checkpoints, a small run that is saved and resumed, and reserves. It needs a nightly toolchain, which rustup fetches if it can.
set -eu
cd "$(dirname "$0")/.."
toolchain=nightly-2026-05-20 # a fixed one: not every nightly has Miri, and each may find more
if ! rustup component list --toolchain "$toolchain" --installed 2>/dev/null | grep -q '^miri' \
    && ! timeout 300 rustup toolchain install "$toolchain" --profile minimal --component miri --component rust-src >&2; then
    echo "Miri: NOT run: install it with"
    echo "    rustup toolchain install $toolchain --profile minimal --component miri --component rust-src"
    exit 0
fi
# Left out: tests with several threads, since Miri does not know the signal masks of pthread, and tests of numbers alone,
# which have no unsafe code or take hours there.
MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance" \
    cargo "+$toolchain" miri test --locked --lib -- f32_step meta_passes numeric::simd stochastic_rounding::tests::the_bits \
    checkpoint::header optimizer::tests reserve::arena
