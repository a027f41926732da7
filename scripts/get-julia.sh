#!/bin/bash
# Prints, as its last line, the path of a Julia to use: the one on the PATH; else Julia 1.5.3 of Debian 11 ("bullseye"),
# unpacked with the libraries it needs into build/julia. The system stays as it is; no root is needed. 70 MB to download
# from Debian's mirror, 350 MB on disk. What Debian signed is checked with the keyring of the system.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=$PWD/build/julia
julia=$prefix/bin/julia

if command -v julia; then exit; fi
if [ -x "$julia" ]; then echo "$julia"; exit; fi

give_up() {
    echo "get-julia: $*" >&2
    echo "get-julia: install Julia 1.5 or later from https://julialang.org/downloads and put \`julia\` on the PATH" >&2
    exit 1
}
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || give_up "Debian's Julia can be unpacked on x86-64 Linux only"
for tool in apt-get dpkg-deb realpath; do
    command -v "$tool" >/dev/null || give_up "$tool is missing: this is no Debian, so Debian's Julia cannot be fetched"
done
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keyring" ] || give_up "$keyring is missing; install the package debian-archive-keyring"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | grep -v security | sort -u | sed -n 1p)
[ -n "$mirror" ] || give_up "apt knows no mirror of Debian; run \`apt-get update\` once"

# One at a time; whoever waited finds it done.
mkdir -p build
exec 9>build/julia.lock
flock 9
if [ -x "$julia" ]; then echo "$julia"; exit; fi

tmp=$(mktemp -d "$prefix.XXXXXX") # beside its final place, so that it can be renamed
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{lists/partial,cache/archives/partial,debs,root}
: >"$tmp/status" # no package counts as installed: the same closure on every machine
echo "deb [signed-by=$keyring] $mirror bullseye main" >"$tmp/sources.list"
cat >"$tmp/apt.conf" <<CONFIG
Dir::Etc { SourceList "$tmp/sources.list"; SourceParts "/dev/null";
           Preferences "/dev/null"; PreferencesParts "/dev/null"; };
Dir::State { Lists "$tmp/lists"; status "$tmp/status"; };
Dir::Cache "$tmp/cache";
APT::Sandbox::User "$(id -un)";
APT::Install-Recommends "false";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONFIG
private_apt() {
    apt-get -qq -c "$tmp/apt.conf" "$@" >&2
}

echo "get-julia: fetching Julia 1.5.3 from $mirror" >&2
private_apt update || give_up "the package lists of bullseye cannot be fetched from $mirror"
# All that Julia depends on, but glibc and the GCC runtime (the library under test is linked against the system's) and
# what only packages' scripts need.
unneeded='libc6|libcrypt1|gcc-10-base|libgcc-s1|libstdc\+\+6|dpkg|tar|perl-base|debconf|libacl1|libselinux1'
mapfile -t packages < <(apt-get -qq -c "$tmp/apt.conf" -s install julia | sed -n 's/^Inst \([^ ]*\).*/\1/p' |
    grep -vxE "$unneeded")
[ "${#packages[@]}" -gt 40 ] || give_up "too few packages are known: ${packages[*]}"
(cd "$tmp/debs" && private_apt download "${packages[@]}") || give_up "a package cannot be fetched from $mirror"

root=$tmp/root
for package in "$tmp"/debs/*.deb; do
    dpkg-deb -x "$package" "$root"
done
cp -a "$root"/lib/x86_64-linux-gnu/. "$root/usr/lib/x86_64-linux-gnu/"
rm -rf "$root/lib" "$root"/usr/share/{doc,man,lintian,locale,applications,metainfo}
mkdir "$root/bin"
mv "$root/usr/bin/julia" "$root/bin/julia.bin"
# It is started through the loader, so that programs that Julia starts inherit neither setting:
#   --library-path   the closure's libraries, above all libunwind 1.3: with a newer one any exception ends the process
#   --preload        libunwind exports _Unwind_* too; Rust's panics are to be unwound by libgcc
# JULIA_BINDIR is needed as the running program is the loader.
cat >"$root/bin/julia" <<'WRAPPER'
#!/bin/sh
top=$(dirname "$(dirname "$(readlink -f "$0")")")
lib=$top/usr/lib/x86_64-linux-gnu
export JULIA_BINDIR="$top/usr/bin"
exec /lib64/ld-linux-x86-64.so.2 --library-path "$lib:$lib/julia" --preload libgcc_s.so.1 \
    "$top/bin/julia.bin" "$@"
WRAPPER
chmod 755 "$root" "$root/bin/julia"
ln -s ../../bin/julia "$root/usr/bin/julia"
"$root/bin/julia" --startup-file=no -e 'exit(0)' || give_up "the Julia that was unpacked does not start"
rm -rf "$prefix"
mv "$root" "$prefix"
echo "$julia"
