/// @file
/// The optimizer: a `torch::optim::Optimizer` around the library's.
#ifndef METAADAMW_TORCH_OPTIMIZER_HPP
#define METAADAMW_TORCH_OPTIMIZER_HPP

#include <metaadamw.hpp>
#include <torch/torch.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cuda.hpp"
#include "modules.hpp"
#include "options.hpp"
#include "scope.hpp"
#include "tensors.hpp"

namespace metaadamw::torch {

/// MetaAdamW with the interface of `torch::optim::AdamW`. Each call first follows what became of `param_groups()`:
/// hyper-parameters that a scheduler or you changed, tensors that were added. Errors are `metaadamw::Error`, and name the
/// parameter; they change nothing. One thread at a time.
class MetaAdamW : public ::torch::optim::Optimizer {
  public:
    // ---- construction

    /// All parameters of a module, a parameter with several names once, with the names of `named_parameters()`.
    explicit MetaAdamW(::torch::nn::Module& module, MetaAdamWOptions const& defaults = {}, Options const& options = {},
                       Decay decay = Decay::all)
        : MetaAdamW(module, detail::groups_of(module, defaults, decay), defaults, options) {}

    /// Param groups of your own, with names and layer kinds from the module.
    MetaAdamW(::torch::nn::Module& module, std::vector<::torch::optim::OptimizerParamGroup> const& groups,
              MetaAdamWOptions const& defaults = {}, Options const& options = {})
        : Optimizer(groups, std::make_unique<MetaAdamWOptions>(defaults)), options_(options) {
        attach(module);
        take_options(groups, 0);
        follow();
    }

    /// As torch's optimizers: without a module tensors are named "param_group0_0", "param_group0_1" …, modulation
    /// groups cannot be formed from names, and a meta-update changes no modes and keeps no buffers, unless `attach` says
    /// whose they are.
    explicit MetaAdamW(std::vector<::torch::optim::OptimizerParamGroup> const& groups,
                       MetaAdamWOptions const& defaults = {}, Options const& options = {})
        : Optimizer(groups, std::make_unique<MetaAdamWOptions>(defaults)), options_(options) {
        take_options(groups, 0);
        follow();
    }
    explicit MetaAdamW(std::vector<at::Tensor> const& params, MetaAdamWOptions const& defaults = {},
                       Options const& options = {})
        : MetaAdamW(std::vector<::torch::optim::OptimizerParamGroup>{::torch::optim::OptimizerParamGroup(params)},
                    defaults, options) {}

    /// Adds a module whose modes and buffers a meta-update puts back, and which names parameters that are added later:
    /// `attach(*head, "head.")`, then `add_param_group(head->parameters())`. The module must live as long as the
    /// optimizer, which sees to that itself if a shared pointer (a `ModuleHolder`) owns it.
    void attach(::torch::nn::Module& module, std::string const& prefix = "") {
        modules_.push_back(detail::keep(module));
        prefixes_.push_back(prefix);
    }

    /// At any time. `options()` of the group may be absent: the defaults. (Through a reference to `torch::optim::Optimizer`
    /// libtorch 2.15 makes them the defaults in any case.)
    void add_param_group(::torch::optim::OptimizerParamGroup const& group) {
        std::size_t const added = param_groups_.size();
        Optimizer::add_param_group(group);
        try {
            take_options({group}, added);
            follow();
        } catch (...) {
            param_groups_.pop_back();
            groups_.resize(std::min(groups_.size(), param_groups_.size()));
            throw;
        }
    }

    // ---- training

    /// Updates every parameter that has a gradient. With a closure: the loss that it returns, after it called
    /// `backward`. Whether the step was skipped is in `core().step_report()`.
    at::Tensor step(LossClosure closure = nullptr) override {
        at::Tensor loss;
        if (closure) {
            at::AutoGradMode const graph(true);
            loss = closure();
        }
        at::NoGradGuard const no_graph;
        follow();
        look();
        std::vector<at::Tensor> gradients;
        for (auto const& known : tensors_)
            gradients.push_back(known.ordered(known.param.grad()));
        auto const buffers = buffers_of(gradients);
        StepOptions options;
        options.grad_scale = grad_scale_;
        options.params_changed = tell_changes(buffers);
        bool applied = true;  // on CUDA the device decides
        if (device_->is_cuda()) {
            core_->rebind(buffers);
            core_->launch(options);
        } else {
            applied = !core_->step(buffers, options).skipped;
        }
        for (std::size_t i = 0; i < tensors_.size(); i++) {
            tensors_[i].changed = false;
            if (applied && gradients[i].defined())
                tensors_[i].wrote();
            else
                tensors_[i].remember();
        }
        return loss;
    }

    /// The loss scale: `(loss * scale).backward()` is yours, and steps divide the gradients by it. In a meta-update the
    /// optimizer scales the loss itself.
    void set_grad_scale(double scale) { grad_scale_ = scale; }
    [[nodiscard]] double grad_scale() const { return grad_scale_; }

    /// Whether a meta-update should be made now.
    [[nodiscard]] bool meta_due() const { return core_ && core_->meta_due(); }

    /// A complete meta-update. `loss_of(Batch)`, or `loss_of(Request const&)`, returns the loss of that batch as a
    /// tensor with one element; it calls no `backward`. It is called some six times, with the modules in training mode
    /// for training batches and in evaluation mode for the validation batch. For loss alone autograd is off.
    ///
    /// Afterwards everything is as before, also if `loss_of` throws: parameters, gradients, modes, registered buffers
    /// of the modules (a batch norm's statistics), and the default generators, which are seeded for each call so that
    /// dropout repeats where it must. Graphs from before are refused by their backward pass, as after a step.
    template <class LossOf>
    MetaResult meta_update(LossOf&& loss_of) {
        follow();
        look();
        auto const keep_order = buffers_of({});
        core_->rebind(keep_order);
        Written const written{*this};
        detail::Modes modes(modules_);
        detail::Buffers buffers(modules_);
        detail::RandomNumbers numbers(*device_);
        detail::Gradients taken;
        for (auto const& known : tensors_)
            taken.take(known.param);
        std::vector<at::Tensor> gradients;  // until the library has read them
        return core_->meta_update([&](Request const& request) {
            gradients.clear();
            for (auto& known : tensors_)
                known.wrote();
            if (request.batch() == Batch::validation)
                modes.evaluation();
            else
                modes.training();
            numbers.seed(request.seed());
            at::AutoGradMode const graph(request.wants_gradient());
            at::Tensor const loss = call(loss_of, request);
            require_untouched(loss);
            gradients = gradients_of(loss, request);
            buffers.put_back();
            at::NoGradGuard const no_graph;
            core_->rebind(buffers_of(gradients));
            return Answer(loss.item<double>(), grad_scale_);
        });
    }

    // ---- averages of the parameters, for `Options::horizon()`, or `horizon_steps` of 2 or more

    /// While it exists, the averages are in the parameters. At its end, or by `swap_back`, the parameters are as before,
    /// bit for bit, wherever their tensors' memory is then.
    class Averaged {
      public:
        /// Ends it; unlike the destructor it throws if that fails, as when a parameter has become another type.
        void swap_back() {
            if (optimizer_ && optimizer_->core_->holds_averages())
                optimizer_->bring_back();
            optimizer_.reset();
        }

      private:
        friend class MetaAdamW;
        struct SwapBack {
            void operator()(MetaAdamW* optimizer) const noexcept {
                try {
                    if (optimizer->core_->holds_averages())
                        optimizer->bring_back();
                } catch (...) {  // the averages stay
                }
            }
        };
        explicit Averaged(MetaAdamW& optimizer) noexcept : optimizer_(&optimizer) {}

        std::unique_ptr<MetaAdamW, SwapBack> optimizer_;
    };

    /// Evaluates with the averages: `{ auto const averaged = optimizer.averaged(); validate(*model); }`. Buffers (a batch
    /// norm's statistics) are not averaged. In between steps, meta-updates, saving and loading fail, and the optimizer
    /// must be neither moved nor destroyed. Graphs from before are refused by their backward pass, as after a step.
    [[nodiscard]] Averaged averaged() {
        follow();
        if (core_->holds_averages())  // a second swap would bring the parameters back
            metaadamw::detail::fail(Error(Status::invalid_state, "the averages are in the parameters already"));
        look();
        swap_averages();
        return Averaged(*this);
    }

    /// The average of a parameter, as a tensor of its shape, of doubles for a parameter of doubles and else of floats.
    [[nodiscard]] at::Tensor average(at::Tensor const& param) {
        follow();
        auto const known = numbers_.find(param.unsafeGetTensorImpl());
        if (known == numbers_.end())
            metaadamw::detail::fail(Error(Status::not_found, "the tensor is no parameter of this optimizer"));
        std::size_t const i = known->second;
        return tensors_[i].dtype == DType::float64 ? like(param, core_->average<double>(i), at::kDouble)
                                                   : like(param, core_->average<float>(i), at::kFloat);
    }

    // ---- state

    /// The library's own object: factors, reports, dumps, resets (bindings/cpp). Do not step it.
    [[nodiscard]] metaadamw::Optimizer& core() {
        follow();
        return *core_;
    }

    /// Copies of step counts and moments as `torch::optim::AdamWParamState`, by parameter, as torch's `state()`.
    auto& state() {
        state_.clear();
        follow();
        for (std::size_t i = 0; i < tensors_.size(); i++) {
            auto made = state_of(i);
            if (made->step() > 0)
                state_[key<std::decay_t<decltype(state_)>>(tensors_[i].param)] = std::move(made);
        }
        return state_;
    }

    /// Takes over moments and step counts of the same parameters from torch's AdamW.
    void continue_from(::torch::optim::AdamW const& other) {
        follow();
        for (std::size_t i = 0; i < tensors_.size(); i++) {
            auto const found = other.state().find(key<std::decay_t<decltype(other.state())>>(tensors_[i].param));
            if (found != other.state().end())
                set_state(i, dynamic_cast<::torch::optim::AdamWParamState const&>(*found->second));
        }
    }

    /// `torch::save(optimizer, …)`: the library's checkpoint, in torch's archive.
    void save(::torch::serialize::OutputArchive& archive) const override {
        auto& self = const_cast<MetaAdamW&>(*this);  // saving may register what is new in param_groups()
        Bytes const bytes = self.core().save_bytes();
        auto stored = at::empty({static_cast<std::int64_t>(bytes.size())}, at::kByte);
        std::memcpy(stored.data_ptr(), bytes.data(), bytes.size());
        archive.write("metaadamw", stored, /*is_buffer=*/true);
    }
    /// `torch::load(optimizer, …)`. As `Load::run`: learning rates and weight decays are the archive's.
    void load(::torch::serialize::InputArchive& archive) override {
        at::Tensor stored;
        if (!archive.try_read("metaadamw", stored, /*is_buffer=*/true))
            metaadamw::detail::fail(Error(Status::mismatch, "the archive holds no state of MetaAdamW"));
        stored = stored.contiguous();
        core().load_bytes(static_cast<std::uint8_t const*>(stored.data_ptr()), static_cast<std::size_t>(stored.numel()));
        loaded();
    }

    /// The library's own file, which its other languages read. Like torch's archives it has no parameters in it.
    void save(std::string const& path, Save what = Save::run) { core().save(path, what); }
    void load(std::string const& path, Load how = Load::run) {
        core().load(path, how);
        if ((static_cast<std::uint32_t>(how) & MAW_ATTENTION_ONLY) == 0)
            loaded();
    }

  private:
    /// A group of `param_groups()`: what the library knows of it.
    struct Group {
        std::optional<std::uint32_t> number{};  // the library's; none before it has tensors
        MetaAdamWOptions told{};
        std::vector<c10::TensorImpl const*> seen{};
    };

    /// At the end of a meta-update, however it ends, the parameters were written to.
    struct Written {
        MetaAdamW& optimizer;
        ~Written() {
            for (auto& known : optimizer.tensors_)
                known.wrote();
        }
    };

    // ---- following param_groups()

    /// Options of groups as they were given. libtorch 2.15 puts the defaults in the place of types that are not its own.
    void take_options(std::vector<::torch::optim::OptimizerParamGroup> const& groups, std::size_t first) {
        for (auto const& group : groups) {
            if (group.has_options())
                param_groups_[first].set_options(group.options().clone());
            first++;
        }
    }

    void follow() {
        if (param_groups_.size() < groups_.size())
            metaadamw::detail::fail(Error(Status::unsupported, "a param group was removed"));
        for (auto const& known : tensors_)
            known.require_same(*device_);
        groups_.resize(param_groups_.size());
        for (std::size_t g = 0; g < groups_.size(); g++)
            if (!seen_before(g))
                remove_tensors(g);
        for (std::size_t g = 0; g < groups_.size(); g++) {
            if (!seen_before(g))
                add_tensors(g);
            tell_options(g);
        }
        if (!core_)
            metaadamw::detail::fail(Error(Status::invalid_state, "the optimizer has no parameters"));
        if (device_->is_cuda())
            if (void* const stream = detail::current_stream(*device_); stream != stream_) {
                core_->set_stream(stream);
                stream_ = stream;
            }
    }

    [[nodiscard]] bool seen_before(std::size_t g) const {
        auto const& params = param_groups_[g].params();
        return std::equal(params.begin(), params.end(), groups_[g].seen.begin(), groups_[g].seen.end(),
                          [](at::Tensor const& a, c10::TensorImpl const* b) { return a.unsafeGetTensorImpl() == b; });
    }

    /// Removes what was taken out of a group's list.
    void remove_tensors(std::size_t g) {
        auto const& params = param_groups_[g].params();
        auto& seen = groups_[g].seen;
        for (std::size_t i = 0; i < seen.size();) {
            auto const stays = [&](at::Tensor const& param) { return param.unsafeGetTensorImpl() == seen[i]; };
            if (std::any_of(params.begin(), params.end(), stays)) {
                i++;
                continue;
            }
            if (auto const known = numbers_.find(seen[i]); known != numbers_.end()) {
                core_->remove_tensor(known->second);
                tensors_.erase(tensors_.begin() + static_cast<std::ptrdiff_t>(known->second));
                numbers_.clear();
                for (std::size_t t = 0; t < tensors_.size(); t++)
                    numbers_[tensors_[t].param.unsafeGetTensorImpl()] = t;
            }
            seen.erase(seen.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }

    /// Registers the tensors of a group that are new.
    void add_tensors(std::size_t g) {
        Group& group = groups_[g];
        MetaAdamWOptions const options = detail::read(param_groups_[g].options());
        auto const places = places_of_all();
        std::vector<detail::Registered> added;
        std::vector<c10::TensorImpl const*> seen;
        for (at::Tensor const& param : param_groups_[g].params()) {
            c10::TensorImpl const* const key = param.unsafeGetTensorImpl();
            auto const known = numbers_.find(key);
            if (known != numbers_.end() && tensors_[known->second].group != g)
                detail::refuse(Status::invalid_argument, tensors_[known->second].name, "is in two param groups");
            bool const is_new = known == numbers_.end() && std::find(seen.begin(), seen.end(), key) == seen.end();
            seen.push_back(key);
            if (!is_new)
                continue;
            auto const place = places.find(key);
            std::string const name = place != places.end() ? place->second.name
                                                           : "param_group" + std::to_string(g) + "_" +
                                                                 std::to_string(seen.size() - 1);
            added.emplace_back(param, name, g, options.precision());
        }
        if (!added.empty())
            add_to_core(group, options, added, places);
        group.seen = std::move(seen);
    }

    void add_to_core(Group& group, MetaAdamWOptions const& options, std::vector<detail::Registered> const& added,
                     detail::Places const& places) {
        create(added.front().param.device());
        std::vector<metaadamw::Tensor> tensors;
        for (auto const& known : added) {
            known.require_same(*device_);
            auto const place = places.find(known.param.unsafeGetTensorImpl());
            tensors.push_back(metaadamw::Tensor(known.name, known.dtype, detail::shape_in_memory(known.param))
                                  .layer_kind(place == places.end() ? LayerKind::unknown : place->second.kind));
        }
        if (group.number) {
            core_->add_tensors(*group.number, tensors);
        } else {
            group.number = core_->add_param_group(detail::to_param_group(options), tensors);
            group.told = options;
        }
        for (auto const& known : added) {
            numbers_[known.param.unsafeGetTensorImpl()] = tensors_.size();
            tensors_.push_back(known);
        }
    }

    void create(at::Device device) {
        if (core_)
            return;
        if (device.is_cuda())
            (void)detail::current_stream(device);  // fails where torch's streams are not known
        metaadamw::Options options = options_;
        options.device = device.is_cuda() ? Device::cuda : Device::cpu;
        options.device_index = device.is_cuda() ? device.index() : 0;
        if (options.threads == 0)
            options.threads = static_cast<std::uint32_t>(std::max(1, at::get_num_threads()));
        core_.emplace(options);
        device_ = device;
    }

    [[nodiscard]] detail::Places places_of_all() const {
        detail::Places places;
        for (std::size_t m = 0; m < modules_.size(); m++)
            detail::walk(*modules_[m], prefixes_[m], [&](at::Tensor const& param, detail::Place const& place) {
                places.emplace(param.unsafeGetTensorImpl(), place);
            });
        return places;
    }

    /// Tells the library what changed in a group's options.
    void tell_options(std::size_t g) {
        Group& group = groups_[g];
        if (!group.number)
            return;
        MetaAdamWOptions const now = detail::read(param_groups_[g].options());
        MetaAdamWOptions& told = group.told;
        if (now.lr() != told.lr())
            core_->set_lr(*group.number, now.lr());
        told.lr(now.lr());
        if (now.weight_decay() != told.weight_decay())
            core_->set_weight_decay(*group.number, now.weight_decay());
        told.weight_decay(now.weight_decay());
        if (now.betas() != told.betas())
            core_->set_betas(*group.number, {std::get<0>(now.betas()), std::get<1>(now.betas())});
        told.betas(now.betas());
        if (now.eps() != told.eps())
            core_->set_eps(*group.number, now.eps());
        told.eps(now.eps());
        if (now.precision() != told.precision() || now.moment_dtype() != told.moment_dtype())
            metaadamw::detail::fail(Error(Status::unsupported, "param group " + std::to_string(g) +
                                                                   ": precision and moment_dtype are fixed"));
    }

    // ---- buffers

    void look() {
        for (auto& known : tensors_)
            known.look();
    }

    /// `gradients`: ordered, one per tensor, or none at all.
    [[nodiscard]] std::vector<Buffer> buffers_of(std::vector<at::Tensor> const& gradients) const {
        std::vector<Buffer> buffers;
        for (std::size_t i = 0; i < tensors_.size(); i++) {
            bool const has = !gradients.empty() && gradients[i].defined();
            buffers.emplace_back(tensors_[i].param.data_ptr(), has ? gradients[i].data_ptr() : nullptr,
                                 tensors_[i].dtype);
        }
        return buffers;
    }

    /// Tells the library which parameters others changed; returns whether the next step must be told too. Where there
    /// are masters only those of the changed tensors are made anew, while the step's flag would replace all.
    bool tell_changes(std::vector<Buffer> const& buffers) {
        bool others = false;
        for (std::size_t i = 0; i < tensors_.size(); i++) {
            auto const& known = tensors_[i];
            if (known.changed && known.has_master) {
                core_->rebind(i, buffers[i]);
                auto const values = in_order(known.param, at::kFloat);
                core_->set_masters(i, vector_of<float>(values));
            } else {
                others = others || known.changed;
            }
        }
        return others;
    }

    /// The elements in the order of the memory, on the CPU.
    static at::Tensor in_order(at::Tensor const& param, at::ScalarType type) {
        at::NoGradGuard const no_graph;
        return param.detach().as_strided({param.numel()}, {1}).to(at::kCPU, type).contiguous();
    }

    template <class T>
    static std::vector<T> vector_of(at::Tensor const& values) {
        return std::vector<T>(values.data_ptr<T>(), values.data_ptr<T>() + values.numel());
    }

    // ---- averages

    void swap_averages() {
        core_->rebind(buffers_of({}));
        core_->swap_averages();
        for (auto& known : tensors_)
            known.wrote();
    }

    /// Does not follow `param_groups()` before: what changed there meanwhile is for the next call.
    void bring_back() {
        for (auto const& known : tensors_)
            known.require_same(*device_);
        swap_averages();
    }

    // ---- meta-updates

    template <class LossOf>
    static at::Tensor call(LossOf& loss_of, Request const& request) {
        if constexpr (std::is_invocable_v<LossOf&, Request const&>)
            return loss_of(request);
        else
            return loss_of(request.batch());
    }

    void require_untouched(at::Tensor const& loss) const {
        if (!loss.defined() || loss.numel() != 1)
            metaadamw::detail::fail(Error(Status::invalid_argument, "the loss must be a tensor with one element"));
        for (auto const& known : tensors_)
            if (known.version != known.param._version() || known.data != known.param.data_ptr())
                detail::refuse(Status::params_changed, known.name, "was written to inside a meta-update");
    }

    /// Of the loss, scaled; nothing is added to `grad()` of any tensor.
    [[nodiscard]] std::vector<at::Tensor> gradients_of(at::Tensor const& loss, Request const& request) const {
        std::vector<at::Tensor> all(tensors_.size());
        if (!request.wants_gradient())
            return all;
        std::vector<at::Tensor> inputs;
        for (auto const& known : tensors_)
            if (known.param.requires_grad())
                inputs.push_back(known.param);
        at::Tensor const scaled = grad_scale_ == 1 ? loss : loss * grad_scale_;
        auto found = ::torch::autograd::grad({scaled}, inputs, {}, /*retain_graph=*/false, /*create_graph=*/false,
                                             /*allow_unused=*/true);
        std::size_t next = 0;
        for (std::size_t i = 0; i < tensors_.size(); i++)
            if (tensors_[i].param.requires_grad())
                all[i] = tensors_[i].ordered(found[next++]);
        return all;
    }

    // ---- state

    /// torch's map has text keys in older versions.
    template <class Map>
    static typename Map::key_type key(at::Tensor const& param) {
        if constexpr (std::is_same_v<typename Map::key_type, std::string>)
            return c10::str(param.unsafeGetTensorImpl());
        else
            return param.unsafeGetTensorImpl();
    }

    /// A tensor of a parameter's shape and memory order, of values in that order.
    template <class T>
    static at::Tensor like(at::Tensor const& param, std::vector<T> const& values, at::ScalarType type) {
        auto made = at::empty_strided(param.sizes(), param.strides(), at::TensorOptions().dtype(type));
        if (!values.empty())
            std::memcpy(made.data_ptr(), values.data(), values.size() * sizeof(T));
        return made.to(param.device());
    }

    [[nodiscard]] std::unique_ptr<::torch::optim::AdamWParamState> state_of(std::size_t i) {
        auto const& param = tensors_[i].param;
        auto made = std::make_unique<::torch::optim::AdamWParamState>();
        auto const fill = [&](auto const& from, at::ScalarType type) {
            made->step(static_cast<std::int64_t>(from.step));
            made->exp_avg(like(param, from.exp_avg, type));
            made->exp_avg_sq(like(param, from.exp_avg_sq, type));
        };
        core_->prepare();
        if (tensors_[i].dtype == DType::float64)
            fill(core_->tensor_state<double>(i), at::kDouble);
        else
            fill(core_->tensor_state<float>(i), at::kFloat);
        return made;
    }

    void set_state(std::size_t i, ::torch::optim::AdamWParamState const& from) {
        auto const ordered = [&](at::Tensor const& moment, at::ScalarType type) {
            at::NoGradGuard const no_graph;
            auto const& param = tensors_[i].param;
            return in_order(at::empty_strided(param.sizes(), param.strides(), moment.options()).copy_(moment), type);
        };
        auto const set = [&](auto zero, at::ScalarType type) {
            using T = decltype(zero);
            core_->set_tensor_state<T>(i, {vector_of<T>(ordered(from.exp_avg(), type)),
                                           vector_of<T>(ordered(from.exp_avg_sq(), type)),
                                           static_cast<std::uint64_t>(from.step())});
        };
        if (tensors_[i].dtype == DType::float64)
            set(0.0, at::kDouble);
        else
            set(0.0F, at::kFloat);
    }

    /// After a load: hyper-parameters are the library's, and the parameters, whatever was loaded into them, are right.
    void loaded() {
        for (std::size_t g = 0; g < groups_.size(); g++)
            if (groups_[g].number) {
                MetaAdamWOptions& told = groups_[g].told;
                auto const number = *groups_[g].number;
                told.lr(core_->lr(number)).weight_decay(core_->weight_decay(number)).eps(core_->eps(number));
                auto const [beta1, beta2] = core_->betas(number);
                told.betas(std::make_tuple(beta1, beta2));
                detail::write(param_groups_[g].options(), told);
            }
        for (auto& known : tensors_) {
            known.version.reset();
            known.changed = false;
        }
    }

    Options options_;
    detail::Modules modules_{};
    std::vector<std::string> prefixes_{};
    std::optional<metaadamw::Optimizer> core_{};
    std::optional<at::Device> device_{};
    void* stream_ = nullptr;
    double grad_scale_ = 1;
    std::vector<Group> groups_{};
    std::vector<detail::Registered> tensors_{};  // in the library's order
    std::unordered_map<c10::TensorImpl const*, std::size_t> numbers_{};
};

}  // namespace metaadamw::torch

#endif
