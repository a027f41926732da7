#!/bin/sh
# Valgrind's memcheck over programs of tests/c with the release library, which must be built: no invalid access, no use of
# undefined values, no block that is lost for certain or possibly.
#
# Valgrind does not know AVX-512. The library is told so, as it asks the CPU that valgrind imitates, and runs its AVX2
# version; instructions of other versions are checked by the tests with sanitizers.
set -eu
cd "$(dirname "$0")/.."

folder=build/valgrind
check() {
    name=$1
    shift
    scripts/build-c.sh "tests/c/$name.c" "$folder/$name" -D_POSIX_C_SOURCE=200809L -g -O1 -pthread -Itests/c -ldl
    # --fair-sched: otherwise a thread that spins can keep the others from running.
    valgrind --quiet --error-exitcode=99 --fair-sched=yes "$@" "$folder/$name"
}
for program in program threads pools; do
    check $program --leak-check=full --show-leak-kinds=definite,possible --errors-for-leak-kinds=definite,possible
done
# In a forked child what belonged to the threads that it lacks is lost.
check fork --leak-check=no
