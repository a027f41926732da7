//! After preparation a step with one thread allocates nothing, the very first one included; with more threads it
//! allocates nothing that grows with the tensors or the parameters.
#![allow(unsafe_code, reason = "the C ABI without a wrapper that allocates itself")]

mod common;

use common::handle::{checked, options, param_group, step_options, step_report, tensor};
use common::tensor::Tensor;
use common::toy::Random;
use metaadamw::ffi::*;
use metaadamw::reserve::watch::{self, Event};
use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/* --------------------------------------------------------------- counting ---- */

thread_local! {
    static OF_THIS_THREAD: Cell<u64> = const { Cell::new(0) };
}
static OF_ALL_THREADS: AtomicU64 = AtomicU64::new(0);

/// Sees what the library's allocator, which is this program's, is asked for.
fn count(event: Event) -> bool {
    if matches!(event, Event::Allocated(_) | Event::Moved(..) | Event::Reserve(_)) {
        // A thread that is ending has no such variable any more.
        let _ = OF_THIS_THREAD.try_with(|count| count.set(count.get() + 1));
        OF_ALL_THREADS.fetch_add(1, Ordering::Relaxed);
    }
    true
}

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    watch::set(count);
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocations of the calling thread, exactly.
fn here(work: impl FnOnce()) -> u64 {
    let before = OF_THIS_THREAD.get();
    work();
    OF_THIS_THREAD.get() - before
}

/// Allocations of the process: the smallest of a few counts, as the test harness may be at work beside us.
fn everywhere(mut work: impl FnMut()) -> u64 {
    let once = |_| {
        let before = OF_ALL_THREADS.load(Ordering::Relaxed);
        work();
        OF_ALL_THREADS.load(Ordering::Relaxed) - before
    };
    (0..5).map(once).min().expect("counted five times")
}

#[test]
fn allocations_are_counted() {
    let _alone = alone();
    let allocate = || drop(std::hint::black_box(Box::new(1)));
    assert_eq!(here(allocate), 1);
    assert!(everywhere(allocate) >= 1);
    assert!(everywhere(|| std::thread::spawn(allocate).join().expect("it ends")) > 1);
}

/* ------------------------------------------------------------------ model ---- */

/// Tensors of both dtypes in two param groups, with everything that a step needs allocated beforehand.
struct Model {
    optimizer: *mut maw_optimizer,
    params: Vec<Tensor>,
    grads: Vec<Tensor>,
    param_pointers: Vec<*mut c_void>,
    grad_pointers: Vec<*const c_void>,
    options: maw_step_options,
    report: maw_step_report,
}

impl Model {
    /// `tensors` tensors of `elements` elements.
    fn new(options: &maw_options, tensors: usize, elements: usize) -> Self {
        Self::with(options, tensors, elements, false)
    }

    /// `sharded`: as the only process of a reduction.
    fn with(options: &maw_options, tensors: usize, elements: usize, sharded: bool) -> Self {
        let mut random = Random(7);
        let mut values = |i: usize| {
            let dtype = if i % 3 == 2 { MAW_FLOAT64 } else { MAW_FLOAT32 };
            Tensor::new(dtype, &random.values(elements, 0.5))
        };
        let mut params: Vec<Tensor> = (0..tensors).map(&mut values).collect();
        let grads: Vec<Tensor> = (0..tensors).map(&mut values).collect();
        let mut optimizer = ptr::null_mut();
        // SAFETY: all pointers are valid during the call.
        checked("maw_optimizer_create", |error| unsafe { maw_optimizer_create(options, &raw mut optimizer, error) })
            .expect("good options");
        let (first, second) = params.split_at(tensors / 2);
        register(optimizer, 0, first, sharded);
        register(optimizer, first.len(), second, sharded);
        if sharded {
            // SAFETY: the handle is live; the callback needs no data.
            checked("maw_set_reduction", |error| unsafe {
                maw_set_reduction(optimizer, Some(alone_in_the_world), ptr::null_mut(), error)
            })
            .expect("before preparation");
        }
        // SAFETY: the handle is live.
        checked("maw_prepare", |error| unsafe { maw_prepare(optimizer, error) }).expect("all is registered");
        let param_pointers = params.iter_mut().map(Tensor::pointer_mut).collect();
        let grad_pointers = grads.iter().map(Tensor::pointer).collect();
        let (options, report) = (step_options(), step_report());
        Self { optimizer, params, grads, param_pointers, grad_pointers, options, report }
    }

    fn step(&mut self) {
        // SAFETY: one pointer per tensor, to as many elements as were registered.
        let status = unsafe {
            maw_step(
                self.optimizer,
                self.param_pointers.as_ptr(),
                self.grad_pointers.as_ptr(),
                self.params.len(),
                &raw const self.options,
                &raw mut self.report,
                ptr::null_mut(),
            )
        };
        assert_eq!(status, MAW_OK);
    }

    fn steps(&mut self, count: usize) {
        (0..count).for_each(|_| self.step());
        assert_eq!((self.report.skipped, self.report.skipped_steps), (0, 0));
    }

    /// As `steps`, but in each step another tensor has no gradient.
    fn steps_with_a_missing_gradient(&mut self, count: usize) {
        for i in 0..count {
            let tensor = i % self.params.len();
            let pointer = std::mem::replace(&mut self.grad_pointers[tensor], ptr::null());
            self.step();
            self.grad_pointers[tensor] = pointer;
        }
    }
}

/// A sum over one process.
unsafe extern "C" fn alone_in_the_world(_: *mut f64, _: usize, _: *mut c_void) -> i32 {
    0
}

fn register(optimizer: *mut maw_optimizer, first: usize, tensors: &[Tensor], sharded: bool) {
    let names: Vec<CString> = (first..first + tensors.len())
        .map(|i| CString::new(format!("layers.{}.{}", i / 2, ["mlp.weight", "norm.bias"][i % 2])).expect("no NUL"))
        .collect();
    let shapes: Vec<u64> = tensors.iter().map(|tensor| tensor.len() as u64).collect();
    let describe = |(i, it): (usize, &Tensor)| maw_tensor {
        name: names[i].as_ptr(),
        shape: &raw const shapes[i],
        ndim: 1,
        dtype: it.dtype(),
        sharded: sharded.into(),
        shard_numel: if sharded { shapes[i] } else { 0 },
        ..tensor()
    };
    let described: Vec<maw_tensor> = tensors.iter().enumerate().map(describe).collect();
    let group = maw_param_group { lr: 1e-3, ..param_group() };
    // SAFETY: `count` descriptions; what they point to outlives the call.
    checked("maw_add_param_group", |error| unsafe {
        maw_add_param_group(optimizer, &group, described.as_ptr(), described.len(), ptr::null_mut(), error)
    })
    .expect("good tensors");
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: it is freed once and not used afterwards.
        unsafe { maw_optimizer_free(self.optimizer) };
    }
}

fn with_threads(threads: u32) -> maw_options {
    maw_options { threads, attn_layers: 2, total_steps: 1000, ..options() }
}

/* ------------------------------------------------------------- one thread ---- */

/// Every kind of step: six feature versions, both semantics, with and without clipping, gating and carrying.
fn kinds() -> Vec<(String, maw_options)> {
    let plain = maw_options { modulation: 0, ..with_threads(1) };
    let unchecked = maw_options { nonfinite: MAW_NONFINITE_PROPAGATE, ..plain };
    let mut kinds = vec![("modulation off".to_owned(), plain), ("propagating".to_owned(), unchecked)];
    for (name, average_dtype) in [("learning from steps", 0), ("with bfloat16 averages", MAW_BFLOAT16)] {
        let learning = maw_options {
            objective: MAW_OBJECTIVE_HORIZON,
            meta_optimizer: MAW_META_ADAMW,
            meta_interval: 3,
            horizon: 10,
            average_dtype,
            use_feature_gating: 1,
            ..with_threads(1)
        };
        kinds.push((name.to_owned(), learning));
        kinds.push((format!("averages alone, {name}"), maw_options { modulation: 0, ..learning }));
    }
    for feature_version in MAW_FEATURES_BASIC..=MAW_FEATURES_NORM_LOG {
        for semantics in [MAW_PAPER, MAW_REFERENCE] {
            for (max_grad_norm, use_feature_gating) in [(0.0, 0), (0.1, 0), (0.0, 1), (0.1, 1)] {
                for verify_params in [0, 1] {
                    let name = format!(
                        "features {feature_version}, semantics {semantics}, max_grad_norm {max_grad_norm}, \
                         gating {use_feature_gating}, verify_params {verify_params}"
                    );
                    let options = maw_options {
                        feature_version,
                        semantics,
                        max_grad_norm,
                        use_feature_gating,
                        verify_params,
                        ..with_threads(1)
                    };
                    kinds.push((name, options));
                }
            }
        }
    }
    kinds
}

#[test]
fn no_step_allocates_with_one_thread() {
    let _alone = alone();
    for (name, options) in kinds() {
        let mut model = Model::new(&options, 8, 500);
        assert_eq!(here(|| model.steps(1)), 0, "the first step: {name}");
        assert_eq!(here(|| model.steps(100)), 0, "{name}");
        assert_eq!(here(|| model.steps_with_a_missing_gradient(100)), 0, "a missing gradient: {name}");
    }
}

#[test]
fn no_step_of_shards_allocates_with_one_thread() {
    let _alone = alone();
    for (name, options) in kinds().into_iter().filter(|(_, options)| options.verify_params == 0) {
        let mut model = Model::with(&options, 8, 500, true);
        assert_eq!(here(|| model.steps(1)), 0, "the first step: {name}");
        assert_eq!(here(|| model.steps_with_a_missing_gradient(20)), 0, "{name}");
    }
}

#[test]
fn a_step_with_no_gradient_at_all_allocates_nothing() {
    let _alone = alone();
    let mut model = Model::new(&with_threads(1), 8, 500);
    model.grad_pointers.fill(ptr::null());
    assert_eq!(here(|| model.steps(10)), 0);
}

#[test]
fn buffers_at_new_addresses_cost_no_allocation() {
    let _alone = alone();
    let mut model = Model::new(&maw_options { verify_params: 0, ..with_threads(1) }, 8, 500);
    model.options.flags = MAW_STEP_PARAMS_CHANGED;
    model.steps(1);
    let moving = here(|| {
        for _ in 0..100 {
            // Tensors 0 and 1 change places, which the host may do.
            model.param_pointers.swap(0, 1);
            model.step();
        }
    });
    assert_eq!(moving, 0);
}

#[test]
fn a_skipped_step_without_a_log_callback_allocates_nothing() {
    let _alone = alone();
    let mut model = Model::new(&with_threads(1), 8, 500);
    model.grads[3].set(17, f64::NAN);
    assert_eq!(here(|| (0..100).for_each(|_| model.step())), 0);
    assert_eq!((model.report.skipped_steps, model.report.nonfinite_tensor), (100, 3));
}

#[test]
fn observed_gradients_and_getters_allocate_nothing() {
    let _alone = alone();
    let mut model = Model::new(&with_threads(1), 8, 500);
    model.steps(1);
    let (mut groups, mut dim, mut name, mut factors) = (0, 0, ptr::null(), [0.0; 64]);
    let none = ptr::null_mut();
    let getters = here(|| {
        for _ in 0..100 {
            // SAFETY: the handle is live, the outputs are valid, and `factors` has room for every group and feature.
            unsafe {
                let h = model.optimizer;
                for (i, gradient) in model.grad_pointers.iter().enumerate() {
                    assert_eq!(maw_observe_gradient(h, i, *gradient, none), MAW_OK);
                }
                assert_eq!(maw_group_count(h, &raw mut groups, none), MAW_OK);
                assert_eq!(maw_feature_dim(h, &raw mut dim, none), MAW_OK);
                let (f, nowhere) = (factors.as_mut_ptr(), ptr::null_mut());
                assert_eq!(maw_factors(h, f, nowhere, nowhere, nowhere, groups, none), MAW_OK);
                assert_eq!(maw_features(h, f, groups * dim, none), MAW_OK);
                assert_eq!(maw_group_name(h, 0, &raw mut name, none), MAW_OK);
                assert_eq!(maw_set_lr(h, MAW_ALL_GROUPS, 1e-3, none), MAW_OK);
                assert_eq!(maw_meta_due(h), 0);
            }
            model.step();
        }
    });
    assert_eq!(getters, 0);
}

/* --------------------------------------------------------- several threads ---- */

/// Allocations of 50 steps with three threads.
fn with_three_threads(tensors: usize, elements: usize) -> u64 {
    let mut model = Model::new(&with_threads(3), tensors, elements);
    model.steps(2);
    let count = everywhere(|| model.steps(50));
    println!("{tensors} tensors of {elements}: {count} allocations in 50 steps");
    count
}

#[test]
fn with_several_threads_allocations_do_not_grow_with_tensors_or_parameters() {
    let _alone = alone();
    // Large enough that the threads have something to do.
    let usual = with_three_threads(4, 75_000);
    for (tensors, elements) in [(4, 250), (4, 1_000_000), (400, 750), (400, 10_000)] {
        let count = with_three_threads(tensors, elements);
        // Queues between threads grow now and then, whatever is in them.
        assert!(count <= usual + usual / 5 + 10, "{tensors} tensors of {elements}: {count} allocations, not {usual}");
    }
}
