/// @file
/// The CUDA stream that libtorch is using, where libtorch has CUDA: `METAADAMW_TORCH_CUDA` says so, and CMake's target
/// `MetaAdamW::torch` defines it.
#ifndef METAADAMW_TORCH_CUDA_HPP
#define METAADAMW_TORCH_CUDA_HPP

#include <metaadamw.hpp>
#include <torch/torch.h>

#ifdef METAADAMW_TORCH_CUDA
#include <c10/cuda/CUDAStream.h>
#endif

namespace metaadamw::torch::detail {

/// The current stream of the device; NULL is the default stream.
inline void* current_stream([[maybe_unused]] at::Device device) {
#ifdef METAADAMW_TORCH_CUDA
    return c10::cuda::getCurrentCUDAStream(device.index()).stream();
#else
    metaadamw::detail::fail(Error(Status::unsupported, "parameters on " + device.str() +
                                                           " need METAADAMW_TORCH_CUDA when compiling, which the CMake "
                                                           "target MetaAdamW::torch defines"));
#endif
}

}  // namespace metaadamw::torch::detail

#endif
