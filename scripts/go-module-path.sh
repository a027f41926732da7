#!/bin/sh
# Gives the Go module another path, in go.mod and in every import. Its path is an address: that of the repository, and
# /bindings/go, where the module is. Its releases are tags bindings/go/vX.Y.Z.
#
#   scripts/go-module-path.sh example.com/owner/libmetaadamw/bindings/go
set -eu
cd "$(dirname "$0")/.."
new=${1:?the new path, as in example.com/owner/libmetaadamw/bindings/go}
case $new in
*[!A-Za-z0-9./_~-]*)
    echo "go-module-path: '$new' is not a module path" >&2
    exit 1
    ;;
*/bindings/go) ;;
*)
    echo "go-module-path: '$new' must end in /bindings/go, the module's folder" >&2
    exit 1
    ;;
esac
old=$(sed -n 's/^module //p' bindings/go/go.mod)
pattern=$(printf '%s' "$old" | sed 's/[.]/[.]/g')
# In imports and go.mod the path ends, or has a package after it.
find bindings/go examples/go \( -name '*.go' -o -name go.mod -o -name README.md \) -exec \
    sed -i.before "s#$pattern\([^A-Za-z0-9._-]\|\$\)#$new\1#g" {} +
find bindings/go examples/go -name '*.before' -exec rm {} +
gofmt -w bindings/go examples/go
