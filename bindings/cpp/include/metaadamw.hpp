/// @file
///
/// # MetaAdamW for C++: headers over the C ABI
///
/// C++17 or later. Include this file; it includes the folder metaadamw/, and needs only metaadamw.h and the library.
/// There is no arithmetic here: types, ownership, exceptions and closures only. What a call means, which units it takes
/// and how it can fail is documented in metaadamw.h, at the C function of the same name. This file, unlike those of the
/// folder, also compiles after <X11/Xlib.h>, whose macro `Status` it sets aside; write `metaadamw::StatusCode` there.
///
/// ```cpp
/// metaadamw::Options options;                       // the library's defaults, then your changes
/// options.meta_interval = 200;
/// metaadamw::Optimizer optimizer{options};
/// auto const f32 = metaadamw::DType::float32;
/// optimizer.add_param_group(metaadamw::ParamGroup{}.lr(5e-4).weight_decay(1e-2),
///                           {{"layers.0.weight", f32, {64, 96}}, {"layers.0.bias", f32, {64}}});
/// auto const buffers = [&]() -> std::vector<metaadamw::Buffer> {     // in the order of registration
///     return {{model.weight(), model.weight_gradient()}, {model.bias(), model.bias_gradient()}};
/// };
/// for (auto const& batch : batches) {
///     model.backward(batch);                        // yours; gradients may be elsewhere each time
///     optimizer.step(buffers());
///     if (optimizer.meta_due())
///         optimizer.meta_update([&](metaadamw::Request const& request) {
///             auto const& wanted = batch_for(request.batch(), request.replay());
///             double const loss = request.wants_gradient() ? model.backward(wanted) : model.loss(wanted);
///             optimizer.rebind(buffers());
///             return loss;
///         });
/// }
/// optimizer.save("run.safetensors");
/// ```
///
/// - **Buffers** stay yours. Each step is given the addresses, and keeps none of a gradient.
/// - **Buffers that never move** may be told once: with `Tensor{"layers.0.weight", w, grad_w, {64, 96}}`, or `rebind`
///   before the first step, the object keeps the addresses, and `optimizer.step()` reads and writes there. You then see
///   to it that they stay valid until `rebind` or `set_gradient` gives others. Where gradients are freed or allocated
///   anew between steps, as in libtorch, do not keep them.
/// - **Learning from steps**: with `Options::horizon()` the attention module learns without meta-updates, and `step` is
///   all that a program calls. `optimizer.averaged()` puts the parameters' averages into the buffers for a scope.
/// - **Several processes** with a part of every tensor each: `Tensor::shard` and `Optimizer::set_reduction`.
/// - **Errors** are thrown as `metaadamw::Error`, which carries the status. Each such call has a form that begins with
///   `try_` and returns a `Result` instead; `std::bad_alloc`, and what your closures throw, are exceptions there too.
///   With -fno-exceptions the calls that would throw print the message and abort; the `try_` forms are as ever. Compile
///   all parts of a program that include this file with the same choice.
/// - **Ownership**: an `Optimizer` can be moved, not copied. One that was moved from can be assigned to and destroyed;
///   its other calls fail.
/// - **Threads**: use an object from one thread at a time. Its pointers are not protected by the C handle's lock.
#ifndef METAADAMW_HPP
#define METAADAMW_HPP

// <X11/Xlib.h> makes this name a macro.
#pragma push_macro("Status")
#undef Status

#include "metaadamw/buffer.hpp"
#include "metaadamw/call.hpp"
#include "metaadamw/constants.hpp"
#include "metaadamw/device.hpp"
#include "metaadamw/element.hpp"
#include "metaadamw/error.hpp"
#include "metaadamw/meta.hpp"
#include "metaadamw/optimizer.hpp"
#include "metaadamw/optimizer_averages.hpp"
#include "metaadamw/optimizer_processes.hpp"
#include "metaadamw/optimizer_queries.hpp"
#include "metaadamw/optimizer_settings.hpp"
#include "metaadamw/optimizer_state.hpp"
#include "metaadamw/optimizer_tensors.hpp"
#include "metaadamw/optimizer_training.hpp"
#include "metaadamw/options.hpp"
#include "metaadamw/state.hpp"
#include "metaadamw/step.hpp"
#include "metaadamw/tensor.hpp"
#include "metaadamw/version.hpp"

#pragma pop_macro("Status")

#endif
