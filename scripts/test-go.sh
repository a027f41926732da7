#!/bin/sh
# Everything that is checked of bindings/go and examples/go; the first failure ends it. Needs Go 1.26.
# What needs the network is named as not run without it.
set -eu
cd "$(dirname "$0")/.."
root=$PWD

if ! command -v go >/dev/null 2>&1; then
    echo "test-go: go is missing; install Go 1.26 from https://go.dev/dl" >&2
    exit 1
fi
proxy=$(go env GOPROXY)
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

# Go's cache does not know which library a test loads: hence -count=1.
export CGO_CFLAGS="-g -O2 -Werror"

# The two ways in which the library is found.
by_pkg_config() {
    env PKG_CONFIG_PATH="$folder/lib/pkgconfig" "$@"
}
by_folder() {
    env CGO_LDFLAGS="-L$folder/lib -Wl,-rpath,$folder/lib" "$@"
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
# The network is needed once.
lint=$folder/bin/staticcheck
if [ -x "$lint" ] || GOPROXY=$proxy GOBIN=$folder/bin go install honnef.co/go/tools/cmd/staticcheck@v0.8.2; then
    by_pkg_config "$lint" ./...
else
    echo "test-go: NOT RUN: staticcheck, which could not be fetched"
fi
if without=$(CGO_ENABLED=0 go build . 2>&1) || ! echo "$without" | grep -q 'metaadamw needs cgo: set CGO_ENABLED=1'; then
    echo "test-go: without cgo the compiler says: $without" >&2
    exit 1
fi
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

# A module of its own, with modules of others: the network is needed once.
cd "$root/bindings/go/gorgonia"
if GOPROXY=$proxy go mod download; then
    by_pkg_config go vet ./...
    [ ! -x "$lint" ] || by_pkg_config "$lint" ./...
    by_pkg_config go test -race -count=1 ./...
else
    echo "test-go: NOT RUN: the solver for gorgonia, whose modules could not be fetched"
fi

cd "$root/examples/go/forecast"
go mod tidy -diff
by_pkg_config go vet ./...
by_pkg_config go build -o "$folder/forecast" .
"$folder/forecast" -epochs 2 -seeds 1

echo "the module as others fetch it, from a repository with an address and a tag"
fetched=$folder/fetched
[ ! -d "$fetched" ] || chmod -R u+w "$fetched"
rm -rf "$fetched"
mkdir -p "$fetched/repository/scripts" "$fetched/repository/examples" "$fetched/user"
cp -R "$root/bindings" "$fetched/repository"
cp -R "$root/examples/go" "$fetched/repository/examples"
cp "$root/scripts/go-module-path.sh" "$fetched/repository/scripts"
address=fetched.example/libmetaadamw.git
(
    cd "$fetched/repository"
    scripts/go-module-path.sh "$address/bindings/go"
    git init -q
    git add .
    git -c user.name=test -c user.email=test@fetched.example -c commit.gpgsign=false commit -qm fetched
    git -c tag.gpgsign=false tag "bindings/go/v$version"
)
cd "$fetched/user"
cat >main.go <<END
package main

import metaadamw "$address/bindings/go"

func main() {
	optimizer, err := metaadamw.New(metaadamw.Options{})
	if err != nil {
		panic(err)
	}
	println(metaadamw.Version(), optimizer.Close() == nil)
}
END
cat >go.mod <<END
module user

go 1.26
END
(
    export GOPROXY=direct GONOSUMDB="fetched.example" GOMODCACHE="$fetched/cache" GOFLAGS="-modcacherw -buildvcs=false"
    # Go keeps an index of a module's files, which a later run with other files would find under the same name and version.
    export GODEBUG=goindex=0
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$fetched/repository.insteadOf" GIT_CONFIG_VALUE_0="https://${address%.git}"
    go get "$address/bindings/go@v$version"
    by_pkg_config go build -o shared .
    # Linked statically: the archive alone is in the folder.
    if [ "$(uname -s)" = Linux ]; then
        mkdir archive
        ln -s "${library%/*}/libmetaadamw.a" archive
        CGO_LDFLAGS="-L$fetched/user/archive -lmetaadamw -lgcc_s -lm" go build -tags metaadamw_dir -o static .
    fi
)
[ "$(./shared 2>&1)" = "$version true" ]
if [ "$(uname -s)" = Linux ]; then
    if readelf -d static | grep -q libmetaadamw; then
        echo "test-go: the static program needs the shared library" >&2
        exit 1
    fi
    [ "$(./static 2>&1)" = "$version true" ]
fi
