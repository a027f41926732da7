#!/bin/sh
# `setup.sh demo`, `setup.sh test` or `setup.sh docs`: checks that the tools for that make target are there. A missing one is
# installed where that is possible (Debian or a relative, as root), else named with the command that installs it.
set -eu
testing=false documenting=false
case ${1:-test} in
test) testing=true ;;
docs) documenting=true ;;
esac

has() {
    command -v "$1" >/dev/null 2>&1
}

if ! has cargo; then
    echo "setup: cargo is missing; install Rust from https://rustup.rs:" >&2
    echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
    exit 1
fi
if $testing; then
    for component in fmt:rustfmt clippy:clippy; do
        if ! cargo "${component%:*}" --version >/dev/null 2>&1; then
            echo "setup: cargo ${component%:*} is missing; install it with" >&2
            echo "    rustup component add ${component#*:}" >&2
            exit 1
        fi
    done
    # Nothing here can run it, but the library must compile for it.
    if ! has rustup; then
        echo "setup: rustup is missing; without its target aarch64-unknown-linux-gnu that platform is not checked" >&2
    elif ! rustup target list --installed | grep -qx aarch64-unknown-linux-gnu \
        && ! rustup target add aarch64-unknown-linux-gnu; then
        echo "setup: the target aarch64-unknown-linux-gnu is missing and not checked; install it with" >&2
        echo "    rustup target add aarch64-unknown-linux-gnu" >&2
    fi
fi
# Distributions' Go is often too old for go.mod.
if ($testing || $documenting) && ! has go; then
    echo "setup: go is missing; install Go 1.26 or later from https://go.dev/dl" >&2
    exit 1
fi

packages=
for tool in cc:gcc c++:g++ make:make cmake:cmake; do
    has "${tool%:*}" || packages="$packages ${tool#*:}"
done
if $testing; then
    for tool in pkg-config:pkg-config nm:binutils readelf:binutils valgrind:valgrind; do
        # What needs these is for Linux only.
        case $(uname -s)/$tool in
        Linux/*) ;;
        */readelf:* | */valgrind:*) continue ;;
        esac
        has "${tool%:*}" || packages="$packages ${tool#*:}"
    done
    if ! has c++ || ! echo '#include <gtest/gtest.h>' | c++ -E -x c++ - >/dev/null 2>&1; then
        packages="$packages libgtest-dev"
    fi
fi
if $documenting; then
    has doxygen || packages="$packages doxygen"
fi
# One test reads a checkpoint with Python's safetensors package (scripts/python.sh); MkDocs is a Python program.
if ($testing || $documenting) && ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
    packages="$packages python3 python3-venv"
fi
# Of these, tests and sections say what is not checked without them.
optional=
if $testing && [ "$(uname -s)" = Linux ]; then
    # Compares the C ABI with the last release's.
    has abidiff || optional="$optional abigail-tools"
    # The adapter for libtorch. Without OpenBLAS Debian's libtorch takes ten times as long.
    if ! has c++ || ! echo '#include <torch/csrc/api/include/torch/version.h>' | c++ -E -x c++ - >/dev/null 2>&1; then
        optional="$optional libtorch-dev libopenblas0-pthread"
    fi
    # Its process groups, in the adapter's tests.
    if ! has c++ || ! echo '#include <gloo/config.h>' | c++ -E -x c++ - >/dev/null 2>&1; then
        optional="$optional libgloo-dev"
    fi
    # Compact files of data sets, in the examples for libtorch.
    for header in lzma.h:liblzma-dev jpeglib.h:libjpeg-dev; do
        if ! has c++ || ! printf '#include <cstdio>\n#include <%s>\n' "${header%:*}" | c++ -E -x c++ - >/dev/null 2>&1; then
            optional="$optional ${header#*:}"
        fi
    done
    # One training in several processes.
    if ! has mpirun || ! has mpicxx; then
        optional="$optional openmpi-bin libopenmpi-dev"
    fi
    # The library for aarch64, compiled and run.
    if [ "$(uname -m)" = x86_64 ]; then
        for tool in aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu aarch64-linux-gnu-g++:g++-aarch64-linux-gnu \
            qemu-aarch64:qemu-user; do
            has "${tool%:*}" || optional="$optional ${tool#*:}"
        done
        has aarch64-linux-gnu-gcc || optional="$optional libc6-dev-arm64-cross"
    fi
fi
if [ -n "$optional" ]; then
    if has apt-get && [ "$(id -u)" -eq 0 ]; then
        echo "setup: installing$optional"
        apt-get update
        # shellcheck disable=SC2086  # a list of words
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $optional \
            || echo "setup: not installed, and what needs it is not checked:$optional" >&2
    else
        echo "setup: missing, and what needs it is not checked (names as in Debian):$optional" >&2
    fi
fi
[ -n "$packages" ] || exit 0

if has apt-get && [ "$(id -u)" -eq 0 ]; then
    echo "setup: installing$packages"
    apt-get update
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $packages libc6-dev
elif has apt-get; then
    echo "setup: missing; install with" >&2
    echo "    sudo apt-get install$packages libc6-dev" >&2
    exit 1
else
    echo "setup: missing (names as in Debian):$packages; install them with your system's package manager" >&2
    exit 1
fi
