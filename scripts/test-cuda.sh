#!/bin/sh
# The tests that run on any backend, on CUDA: one body for both.
#     scripts/test-cuda.sh            on the emulator of tests/cuda_emulator, in several orders of threads
#     scripts/test-cuda.sh --device   on the driver and device of this machine, without the tests of `emulator_only`
#     scripts/test-cuda.sh --list     which they are
set -eu
cd "$(dirname "$0")/.."

run() {
    METAADAMW_TEST_DEVICE=cuda cargo test --locked "$@"
}
on_any_backend="--test golden --test beyond_golden --test meta_protocol --test meta_misuse --test resume
    --test checkpoints --test state --test same_bits --test adamw --test mixed_precision --test mixed_state
    --test mixed_moves --test mixed_meta --test out_of_sync --test growing --test hyper_parameters
    --test horizon --test shards --test shard_failures --test shard_files"
on_a_device="$on_any_backend --test cuda_steps --test cuda_graphs --test cuda_hosts --test cuda_scaler
    --test cuda_devices --test cuda_moves --test cuda_horizon --test cuda_shards"
case ${1:-} in
--list)
    echo "$on_a_device"
    exit
    ;;
--device)
    # shellcheck disable=SC2086 # several words
    run $on_a_device -- --skip emulator_only
    exit
    ;;
esac
folder=$(scripts/build-cuda-emulator.sh)
export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# A device has none of the CPU's instruction sets: these tests would compare it with itself, and take minutes.
needless="--skip on_every_instruction_set --skip threads_and_instruction_sets_do_not --skip every_instruction_set_gives"
# shellcheck disable=SC2086
run $on_any_backend -- $needless
# The same kernels as in what is left out here.
needless="$needless --skip forward_differences --skip other_shapes_and_numbers"
# Other orders of threads, each once for every kernel.
# shellcheck disable=SC2086
CUDA_EMULATOR_ORDER=descending run --test golden -- $needless
# shellcheck disable=SC2086
CUDA_EMULATOR_ORDER=7 run --test meta_protocol --test same_bits --test cuda_shards -- $needless
