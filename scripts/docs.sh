#!/bin/bash
# Builds the site of documentation into build/docs, and checks its links: open build/docs/index.html, without a server or
# a network. scripts/setup.sh docs, which runs first, installs or names what is missing; Python packages come from PyPI
# (scripts/docs/requirements.txt) into build/docs-work, a Julia for the docstrings from scripts/get-julia.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh docs
work=$PWD/build/docs-work
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
mkdir -p "$work"

venv=$work/venv
wanted=$(cat scripts/docs/requirements.txt)
if [ "$(cat "$venv/wanted" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r scripts/docs/requirements.txt || {
        echo "docs: the packages of scripts/docs/requirements.txt cannot be had from PyPI" >&2
        exit 1
    }
    # Last, so that what was interrupted is made anew.
    echo "$wanted" >"$venv/wanted"
fi

rm -rf "$work/reference"
mkdir -p "$work/reference"

doxygen_page() { # language, input, settings
    rm -rf "${work:?}/$1"
    mkdir -p "$work/$1"
    { cat scripts/docs/Doxyfile && printf '%s\n' "INPUT = $2" "OUTPUT_DIRECTORY = $work/$1" "${@:3}"; } | doxygen -
    "$venv/bin/python" scripts/docs/doxygen.py "$1" "$work/$1/xml" "$work/reference/$1.md"
}
echo "docs: C and C++"
doxygen_page c include/metaadamw.h "OPTIMIZE_OUTPUT_FOR_C = YES" 'INPUT_FILTER = "awk -f scripts/docs/paragraphs.awk"'
doxygen_page cpp bindings/cpp/include "FILE_PATTERNS = *.hpp"

echo "docs: Go"
root=$PWD
(cd scripts/docs/godoc && GOTOOLCHAIN=local GOWORK=off go run . "$work/reference/go.md" "$root/bindings/go" \
    "$root/bindings/go/gorgonia")

echo "docs: Julia"
suffix=so
[ "$(uname -s)" != Darwin ] || suffix=dylib
cargo build --release --locked # the package is loaded with it
julia=$(scripts/get-julia.sh | tail -n 1)
METAADAMW_LIBRARY=$target/release/libmetaadamw.$suffix JULIA_DEPOT_PATH=$PWD/build/julia-depot \
    "$julia" --startup-file=no --project=bindings/julia scripts/docs/docstrings.jl "$work/reference/julia.md"

echo "docs: Rust"
rm -rf "$target/doc" # it may have other crates
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib --locked
cat >"$work/reference/rust.md" <<'END'
# Rust: crate metaadamw

rustdoc's pages: <a href="rust/metaadamw/index.html">the crate</a>,
<a href="rust/metaadamw/optimizer/struct.Optimizer.html">Optimizer</a>,
<a href="rust/metaadamw/model/options/struct.Options.html">Options</a>.
END

echo "docs: the site"
NO_MKDOCS_2_WARNING=1 "$venv/bin/mkdocs" build --quiet --clean --config-file scripts/docs/mkdocs.yml
mkdir -p build/docs/reference/rust
cp -R "$target"/doc/. build/docs/reference/rust/
"$venv/bin/python" scripts/docs/check.py build/docs
echo "docs: build/docs/index.html"
