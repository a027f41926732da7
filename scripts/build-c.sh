#!/bin/sh
# Compiles a C program against the release library, which must be built:
#     scripts/build-c.sh SOURCE PROGRAM [flag of the compiler]...
# The loader looks for the library by its SONAME, so a link of that name is put beside the program.
set -eu
cd "$(dirname "$0")/.."

source=$1
program=$2
shift 2
library=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)
mkdir -p "$(dirname "$program")"
folder=$(cd "$(dirname "$program")" && pwd)
abi=$(sed -n 's/^#define MAW_ABI_VERSION //p' include/metaadamw.h)

case $(uname -s) in
Darwin) ln -sf "$library/libmetaadamw.dylib" "$folder/libmetaadamw.$abi.dylib" ;;
*) ln -sf "$library/libmetaadamw.so" "$folder/libmetaadamw.so.$abi" ;;
esac
"${CC:-cc}" -std=c99 -O3 -Wall -Wextra -Wpedantic -Werror "$@" -Iinclude "$source" -o "$program" \
    -L"$library" -lmetaadamw -lm -Wl,-rpath,"$folder"
