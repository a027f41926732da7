#!/bin/sh
# Prints the path of a Python with the packages of tests/python/requirements.txt; makes target/venv for it on the first
# call, from PyPI.
set -eu
cd "$(dirname "$0")/.."

venv=$PWD/target/venv
wanted=$(cat tests/python/requirements.txt)
if [ "$(cat "$venv/wanted" 2>/dev/null)" != "$wanted" ]; then
    if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
        scripts/setup.sh test >&2
    fi
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt >&2; then
        echo "python.sh: the packages cannot be had from PyPI; METAADAMW_NO_PYTHON=1 leaves the test out" >&2
        exit 1
    fi
    # Last, so that what was interrupted is made anew.
    echo "$wanted" >"$venv/wanted"
fi
echo "$venv/bin/python"
