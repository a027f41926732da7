// All device code. A step is three launches, whatever the number of tensors:
//
//     maw_statistics   chunks → slots: sums of the gradients and, unless they are carried, of the state
//     maw_decide       one block: slots → tensors → features → attention module → verdict, coefficients, counts
//     maw_update       chunks: AdamW, and into slots the sums of the state that it leaves
//
// Where processes share the model, maw_pack and the host's sum come between the first two. Under the horizon objective
// maw_horizon comes last: slots of what the update said of the displacement → groups. A meta-update is made of passes
// over chunks, each followed by maw_totals. No sum is atomic: every one has a slot of its own, slots are added in a fixed
// order, and kernels hand over at their borders. So a step has the same bits every time, whatever the device, the number
// of blocks or the alignment of the buffers. Arithmetic on elements is that of the CPU backend, operation by operation;
// it must be compiled without contraction (--fmad=false): fused are the products that say so.
//
// The PTX contains the names of kernels, of passes and of World: to change one changes the PTX. Nothing is included but
// these files: the runtime compiler has every builtin that is used.

// In the order in which the PTX has their kernels.
#include "statistics.cuh"
#include "update.cuh"
#include "decide.cuh"
#include "meta.cuh"
