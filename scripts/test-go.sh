#!/bin/sh
# Everything that is checked of bindings/go and examples/go; the first failure ends it. Needs Go 1.26 and no network.
set -eu
cd "$(dirname "$0")/.."
root=$PWD

if ! command -v go >/dev/null 2>&1; then
    echo "test-go: go is missing; install Go 1.26 from https://go.dev/dl" >&2
    exit 1
fi
export GOTOOLCHAIN=local GOPROXY=off GOWORK=off

# The library under the name that the loader looks for, and a description for pkg-config, in a folder of their own.
release=${CARGO_TARGET_DIR:-target}/release
folder=$root/build/go
abi=$(sed -n 's/^#define MAW_ABI_VERSION //p' include/metaadamw.h)
version=$(sed -n 's/^#define MAW_VERSION "\(.*\)"/\1/p' include/metaadamw.h)
case $(uname -s) in
Darwin) file=libmetaadamw.dylib alias=libmetaadamw.$abi.dylib ;;
*) file=libmetaadamw.so alias=libmetaadamw.so.$abi ;;
esac
[ -e "$release/$file" ] || cargo build --release --locked
library=$(cd "$release" && pwd)/$file
mkdir -p "$folder/lib/pkgconfig"
ln -sf "$library" "$folder/lib/$file"
ln -sf "$library" "$folder/lib/$alias"
cat >"$folder/lib/pkgconfig/metaadamw.pc" <<END
Name: metaadamw
Description: The release library of this working tree
Version: $version
Libs: -L$folder/lib -lmetaadamw -Wl,-rpath,$folder/lib
Cflags: -I$root/include
END

# Go's cache does not look into headers outside of a package: the sum makes another header another build. Nor does it
# know which library a test loads: hence -count=1.
sum=$(cksum <include/metaadamw.h | cut -d ' ' -f 1)
export CGO_CFLAGS="-g -O2 -Werror -DMETAADAMW_HEADER_SUM=$sum"

# The two ways in which the library is found.
by_pkg_config() {
    env PKG_CONFIG_PATH="$folder/lib/pkgconfig" "$@"
}
by_folder() {
    env CGO_CFLAGS="$CGO_CFLAGS -I$root/include" CGO_LDFLAGS="-L$folder/lib -Wl,-rpath,$folder/lib" "$@"
}

unformatted=$(gofmt -l bindings/go examples/go)
if [ -n "$unformatted" ]; then
    echo "test-go: not as gofmt has it:" >&2
    echo "$unformatted" >&2
    exit 1
fi

cd "$root/bindings/go"
go mod tidy -diff
by_pkg_config go vet ./...
by_pkg_config go test -race -count=1 ./...
echo "again, with the garbage collector and cgo's checks at their hardest"
by_folder env GOGC=1 GODEBUG=cgocheck=1 go test -tags metaadamw_dir -count=1 ./...
if [ "$(uname -s)" = Linux ]; then
    echo "again, with the sanitizer that finds what is not freed outside of Go"
    by_pkg_config go test -asan -count=1 ./...
    echo "CUDA, on the emulator"
    emulator=$("$root/scripts/build-cuda-emulator.sh")
    by_pkg_config env LD_LIBRARY_PATH="$emulator" METAADAMW_TEST_CUDA=1 go test -run CUDA -count=1 ./...
fi

cd "$root/examples/go/forecast"
go mod tidy -diff
by_pkg_config go vet ./...
by_pkg_config go build -o "$folder/forecast" .
"$folder/forecast" -epochs 2 -seeds 1
