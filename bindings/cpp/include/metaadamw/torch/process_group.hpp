/// @file
/// The sum over processes that `Optimizer::set_reduction` wants, by a process group of libtorch (c10d). Not part of
/// metaadamw/torch.hpp, since not every libtorch is made with distributed training.
#ifndef METAADAMW_TORCH_PROCESS_GROUP_HPP
#define METAADAMW_TORCH_PROCESS_GROUP_HPP

#include <torch/torch.h>

#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../optimizer.hpp"

namespace metaadamw::torch {

/// For an optimizer on the CPU: sums over the processes of `group`, a `c10d::ProcessGroup` or what else has its
/// `allreduce`. `device`: where the group wants tensors, CUDA for NCCL; they are copied there and back. What the group
/// throws, a process that is gone or a timeout, reaches the caller of the optimizer's call.
///
/// ```cpp
/// optimizer.set_reduction(metaadamw::torch::all_reduce(group));
/// ```
template <class Group>
[[nodiscard]] Reduction all_reduce(c10::intrusive_ptr<Group> group, at::Device device = at::kCPU) {
    return [group = std::move(group), device](double* values, std::size_t count) -> std::int32_t {
        auto const sums = at::from_blob(values, {static_cast<std::int64_t>(count)}, at::kDouble);
        std::vector<at::Tensor> tensors{device.is_cpu() ? sums : sums.to(device)};
        group->allreduce(tensors)->wait();
        if (!device.is_cpu())
            sums.copy_(tensors.front());
        return 0;
    };
}

/// For an optimizer on CUDA, whose values are in device memory: the same with a group for `stream.device()`, NCCL. The
/// group gets these values as a tensor, [count] of float64, and sums them in place while `stream` is the current one.
/// `stream` is that of `Optimizer::set_stream`, set before `prepare`. NCCL's `allreduce` is ordered after what `stream`
/// has, and its `wait` orders `stream` after the sum; the host waits for neither, and both can be captured.
///
/// ```cpp
/// auto const stream = c10::cuda::getStreamFromPool();
/// optimizer.set_stream(stream.stream());
/// optimizer.set_reduction(metaadamw::torch::all_reduce(group, stream));
/// ```
template <class Group>
[[nodiscard]] Reduction all_reduce(c10::intrusive_ptr<Group> group, c10::Stream stream) {
    return [group = std::move(group), stream](double* values, std::size_t count) -> std::int32_t {
        c10::StreamGuard const current(stream);
        std::vector<at::Tensor> sums{at::for_blob(values, {static_cast<std::int64_t>(count)})
                                         .options(at::device(stream.device()).dtype(at::kDouble))
                                         .target_device(stream.device())
                                         .make_tensor()};
        group->allreduce(sums)->wait();
        return 0;
    };
}

}  // namespace metaadamw::torch

#endif
