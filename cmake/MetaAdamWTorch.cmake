# MetaAdamW::torch, for programs that include metaadamw/torch.hpp: there if libtorch was found before (find_package(Torch)).
if(TARGET torch AND NOT TARGET MetaAdamW::torch)
  add_library(MetaAdamW::torch INTERFACE IMPORTED GLOBAL)
  set_target_properties(MetaAdamW::torch PROPERTIES
    INTERFACE_LINK_LIBRARIES "MetaAdamW::metaadamw;${TORCH_LIBRARIES}")
  # The current CUDA stream is read where libtorch has CUDA.
  if(TARGET torch_cuda)
    set_target_properties(MetaAdamW::torch PROPERTIES INTERFACE_COMPILE_DEFINITIONS METAADAMW_TORCH_CUDA)
  endif()
endif()
