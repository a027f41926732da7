#!/bin/sh
# The size of the release library's code: by instruction set and kernel, and by module.
#     scripts/size.sh [LIBRARY]      LIBRARY: one that was built with -C symbol-mangling-version=v0
set -eu
cd "$(dirname "$0")/.."

library=${1:-}
if [ -z "$library" ]; then
    # Only v0 names tell of which kernel a function is an instance.
    RUSTFLAGS="${RUSTFLAGS:-} -C symbol-mangling-version=v0" \
        cargo build --release --locked --lib --target-dir target/size
    library=target/size/release/libmetaadamw.so
fi

size "$library"
nm --print-size --radix=d --demangle "$library" | awk '
    function name(text) { # without the path, and without generic arguments that are paths
        sub(/<.*/, "", text)
        sub(/.*::/, "", text)
        return text
    }
    $3 !~ /^[tTwW]$/ { next }
    {
        bytes = $2 + 0
        total += bytes
        sub(/^[^ ]+ [^ ]+ [^ ]+ /, "")
    }
    match($0, /::run_(baseline|avx2|avx512)::</) {
        set = substr($0, RSTART + 6, RLENGTH - 9)
        kernel = name(substr($0, RSTART + RLENGTH))
        kernels[kernel] += bytes
        sets[set] += bytes
        in_set[kernel, set] += bytes
        next
    }
    {
        module = "dependencies and std"
        if (match($0, /metaadamw::[a-z_]+(::(cpu|cuda|attention))?/)) module = substr($0, RSTART, RLENGTH)
        else if ($0 ~ /^maw_/) module = "metaadamw::ffi"
        modules[module] += bytes
    }
    END {
        print "\nkernels:\t\tbaseline\tavx2\tavx512"
        row = "%-28s %10d %10d %10d\n"
        for (kernel in kernels)
            printf "%d " row, kernels[kernel], kernel, in_set[kernel, "baseline"], in_set[kernel, "avx2"], in_set[kernel, "avx512"] | "sort -rn | cut -d\" \" -f2-"
        close("sort -rn | cut -d\" \" -f2-")
        printf row, "all kernels", sets["baseline"], sets["avx2"], sets["avx512"]
        print "\nthe rest:"
        for (module in modules)
            printf "%d %-28s %10d\n", modules[module], module, modules[module] | "sort -rn | cut -d\" \" -f2-"
        close("sort -rn | cut -d\" \" -f2-")
        printf "\n%-28s %10d\n", "all code", total
    }'
