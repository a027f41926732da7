#!/bin/sh
# Prints the folder of one of NVIDIA's tools, `nvrtc` (kernels to PTX) or `ptxas` (PTX to machine code), as unpacked from
# its wheel of PyPI, which is fetched on the first call and must be the very one that is named here.
set -eu
cd "$(dirname "$0")/.."

case $1 in
nvrtc) # writes PTX 7.8, which drivers from 520 on accept; a newer one would ask for a newer driver
    wheel='nvidia-cuda-nvrtc-cu11==11.8.89'
    sums='1f27d67b0f72902e9065ae568b4f6268dfe49ba3ed269c9a3da99bb86d1d2008
        a8d02f3cba345be56b1ffc3e74d8f61f02bb758dd31b0f20e12277a5a244f756
        8ab17ed51e7c4928f7170a0551e3e3b42f89d973bd267ced9688c238b3e10aef' ;;
ptxas) # knows all devices from sm_70 to sm_120
    wheel='nvidia-cuda-nvcc-cu12==12.9.86'
    sums='5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0
        44e1eca4d08926193a558d2434b1bf83d57b4d5743e0c431c0c83d51da1df62b' ;;
*)
    echo "usage: cuda-wheel.sh nvrtc|ptxas" >&2
    exit 1 ;;
esac

folder=$PWD/target/$1
if [ "$(cat "$folder/wanted" 2>/dev/null)" != "$wheel" ]; then
    python=$(scripts/python.sh | tail -n 1)
    rm -rf "$folder"
    mkdir -p "$folder"
    # shellcheck disable=SC2046,SC2086  # a list of sums
    echo "$wheel" $(printf -- '--hash=sha256:%s ' $sums) >"$folder/requirements.txt"
    if ! "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --target "$folder" -r "$folder/requirements.txt" >&2; then
        echo "cuda-wheel.sh: $wheel cannot be had from PyPI (x86-64 or aarch64 Linux with network is needed)" >&2
        exit 1
    fi
    # Last, so that what was interrupted is made anew.
    echo "$wheel" >"$folder/wanted"
fi
echo "$folder"
