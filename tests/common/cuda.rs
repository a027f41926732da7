//! CUDA for tests: the driver's functions that a host calls by itself (streams, graphs), and the emulator's controls.

use super::device::{Buffer, is_cuda};
use super::handle::{Handle, Outcome, checked, step_report};
use super::tensor::Tensor;
use libloading::Library;
use metaadamw::ffi::*;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

type Pointer = *mut c_void;

/// The driver that the library will find: the machine's if METAADAMW_TEST_DEVICE=cuda says that there is one on the
/// loader's path, else the emulator, which is built and loaded first, so that its name is taken.
fn driver() -> &'static Library {
    static DRIVER: OnceLock<Library> = OnceLock::new();
    DRIVER.get_or_init(|| {
        let path = if is_cuda() {
            "libcuda.so.1".to_owned()
        } else {
            emulator().join("libcuda.so.1").into_os_string().into_string().expect("a path in UTF-8")
        };
        // SAFETY: the driver's initialisers have no demands.
        unsafe { Library::new(&path) }.unwrap_or_else(|error| panic!("{path}: {error}"))
    })
}

/// The folder of an emulator with the library's kernels.
pub fn emulator() -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("scripts/build-cuda-emulator.sh")).output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path").trim().into()
}

/// A test on the device: one at a time, with the context current, and without leaks.
pub struct Alone {
    context: Pointer,
    live: i64,
    _lock: MutexGuard<'static, ()>,
}

pub fn alone() -> Alone {
    static LOCK: Mutex<()> = Mutex::new(());
    let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    reset();
    let mut context = ptr::null_mut();
    let (init, retain, set): (unsafe extern "C" fn(u32) -> c_int, Retain, unsafe extern "C" fn(Pointer) -> c_int) =
        (function("cuInit"), function("cuDevicePrimaryCtxRetain"), function("cuCtxSetCurrent"));
    // SAFETY: the driver's functions with valid arguments.
    unsafe {
        done(init(0));
        done(retain(&raw mut context, 0));
        done(set(context));
    }
    Alone { context, live: count("live"), _lock: lock }
}

/// Resets the emulator's controls and its sticky errors.
pub fn reset() {
    // SAFETY: it has no demands.
    emulated("cuda_emulator_reset", |reset: &unsafe extern "C" fn()| unsafe { reset() });
}

impl Alone {
    /// Objects that are alive now do not count as leaks.
    pub fn leaves_something(&mut self) {
        self.live = count("live");
    }

    /// The context that is current is the one that was before.
    pub fn context_is_kept(&self) -> bool {
        current_context() == self.context.addr()
    }
}

/// The context that is current on this thread, 0 for none.
pub fn current_context() -> usize {
    let mut now = ptr::null_mut();
    let current: unsafe extern "C" fn(*mut Pointer) -> c_int = function("cuCtxGetCurrent");
    // SAFETY: the pointer is valid.
    unsafe { done(current(&raw mut now)) };
    now.addr()
}

/// Makes this context current on this thread.
pub fn make_current(context: usize) {
    let set: unsafe extern "C" fn(usize) -> c_int = function("cuCtxSetCurrent");
    // SAFETY: the driver checks it.
    unsafe { done(set(context)) };
}

/// A context created by the host, current on this thread.
pub struct Context(Pointer);

impl Context {
    pub fn new() -> Self {
        let mut raw = ptr::null_mut();
        let create: unsafe extern "C" fn(*mut Pointer, u32, c_int) -> c_int = function("cuCtxCreate_v2");
        // SAFETY: the pointer is valid.
        unsafe { done(create(&raw mut raw, 0, 0)) };
        Self(raw)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let destroy: unsafe extern "C" fn(Pointer) -> c_int = function("cuCtxDestroy_v2");
        // SAFETY: it is destroyed once.
        unsafe { destroy(self.0) };
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        reset();
        let release: unsafe extern "C" fn(c_int) -> c_int = function("cuDevicePrimaryCtxRelease_v2");
        if !std::thread::panicking() {
            assert_eq!(count("live"), self.live, "something was left alive");
        }
        // SAFETY: it was retained once.
        unsafe { release(0) };
    }
}

type Retain = unsafe extern "C" fn(*mut Pointer, c_int) -> c_int;

fn function<F: Copy>(name: &str) -> F {
    // SAFETY: the types are those of cuda.h.
    unsafe { *driver().get::<F>(name.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}")) }
}

/// Uses a control of the emulator's; on a real driver nothing happens.
fn emulated<F, T: Default>(name: &str, work: impl FnOnce(&F) -> T) -> T {
    // SAFETY: the types are those of control.h.
    unsafe { driver().get::<F>(name.as_bytes()) }.map_or_else(|_| T::default(), |control| work(&control))
}

#[track_caller]
fn done(result: c_int) {
    assert_eq!(result, 0, "{}", last_error());
}

/// A number by name; 0 on a real driver.
pub fn count(name: &str) -> i64 {
    let name = CString::new(name).expect("no NUL");
    // SAFETY: the name ends with a NUL.
    emulated("cuda_emulator_count", |count: &unsafe extern "C" fn(*const c_char) -> i64| unsafe {
        count(name.as_ptr())
    })
}

/// The nth call of this function fails.
pub fn fail(name: &str, nth: i64, result: i32) {
    let name = CString::new(name).expect("no NUL");
    // SAFETY: the name ends with a NUL.
    emulated("cuda_emulator_fail", |fail: &unsafe extern "C" fn(*const c_char, i64, c_int)| unsafe {
        fail(name.as_ptr(), nth, result);
    });
}

/// The nth kernel fails while it runs.
pub fn fail_launch(nth: i64, result: i32) {
    // SAFETY: any numbers will do.
    emulated("cuda_emulator_fail_launch", |fail: &unsafe extern "C" fn(i64, c_int)| unsafe { fail(nth, result) });
}

/// The order of threads and blocks.
pub fn order(order: u64) {
    // SAFETY: any number will do.
    emulated("cuda_emulator_order", |set: &unsafe extern "C" fn(u64)| unsafe { set(order) });
}

fn last_error() -> String {
    emulated("cuda_emulator_last_error", |last: &unsafe extern "C" fn() -> *const c_char| {
        // SAFETY: it is a string, valid until the next call of this thread.
        unsafe { CStr::from_ptr(last()) }.to_string_lossy().into_owned()
    })
}

/// Waits for what is enqueued, and copies numbers out of the device's memory.
pub fn read(address: u64, values: &mut [f64]) {
    let wait: unsafe extern "C" fn() -> c_int = function("cuCtxSynchronize");
    let copy: unsafe extern "C" fn(Pointer, u64, usize) -> c_int = function("cuMemcpyDtoH_v2");
    // SAFETY: the slice is as long; the driver checks the address.
    unsafe {
        done(wait());
        done(copy(values.as_mut_ptr().cast(), address, size_of_val(values)));
    }
}

/// Copies numbers into the device's memory, before what is enqueued next.
pub fn write(address: u64, values: &[f64]) {
    let copy: unsafe extern "C" fn(u64, *const c_void, usize) -> c_int = function("cuMemcpyHtoD_v2");
    // SAFETY: the slice is as long; the driver checks the address.
    unsafe { done(copy(address, values.as_ptr().cast(), size_of_val(values))) };
}

/// Enqueues a copy within the device's memory.
pub fn enqueue_copy(stream: &Stream, to: u64, from: u64, bytes: usize) -> c_int {
    let copy: unsafe extern "C" fn(u64, u64, usize, Pointer) -> c_int = function("cuMemcpyDtoDAsync_v2");
    // SAFETY: the stream is alive; the driver checks the addresses.
    unsafe { copy(to, from, bytes, stream.0) }
}

/// A stream of the host's.
pub struct Stream(pub Pointer);

impl Stream {
    pub fn new() -> Self {
        Self::with(1)
    }

    /// One that the legacy default stream waits for, and that waits for it.
    pub fn blocking() -> Self {
        Self::with(0)
    }

    fn with(flags: u32) -> Self {
        let mut raw = ptr::null_mut();
        let create: unsafe extern "C" fn(*mut Pointer, u32) -> c_int = function("cuStreamCreate");
        // SAFETY: the pointer is valid.
        unsafe { done(create(&raw mut raw, flags)) };
        Self(raw)
    }

    pub fn wait(&self) {
        let wait: unsafe extern "C" fn(Pointer) -> c_int = function("cuStreamSynchronize");
        // SAFETY: it is alive.
        unsafe { done(wait(self.0)) };
    }

    /// What `work` enqueues, as a graph; with the mode that forbids most on other threads too.
    pub fn captured<T>(&self, work: impl FnOnce() -> T) -> (Graph, T) {
        let begin: unsafe extern "C" fn(Pointer, c_int) -> c_int = function("cuStreamBeginCapture_v2");
        let end: unsafe extern "C" fn(Pointer, *mut Pointer) -> c_int = function("cuStreamEndCapture");
        let instantiate: unsafe extern "C" fn(*mut Pointer, Pointer, u64) -> c_int =
            function("cuGraphInstantiateWithFlags");
        let (mut graph, mut executable) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the stream is alive, the pointers are valid.
        unsafe {
            done(begin(self.0, 0));
            let value = work();
            done(end(self.0, &raw mut graph));
            done(instantiate(&raw mut executable, graph, 0));
            (Graph { graph, executable }, value)
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let destroy: unsafe extern "C" fn(Pointer) -> c_int = function("cuStreamDestroy_v2");
        // SAFETY: it is destroyed once.
        unsafe { destroy(self.0) };
    }
}

/// A captured graph, ready to run.
pub struct Graph {
    graph: Pointer,
    executable: Pointer,
}

impl Graph {
    pub fn replay(&self, stream: &Stream) {
        let launch: unsafe extern "C" fn(Pointer, Pointer) -> c_int = function("cuGraphLaunch");
        // SAFETY: both are alive.
        unsafe { done(launch(self.executable, stream.0)) };
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let destroy: unsafe extern "C" fn(Pointer) -> c_int = function("cuGraphExecDestroy");
        let destroy_graph: unsafe extern "C" fn(Pointer) -> c_int = function("cuGraphDestroy");
        // SAFETY: each is destroyed once.
        unsafe {
            destroy(self.executable);
            destroy_graph(self.graph);
        }
    }
}

/// Memory of the host's that the device knows, as doubles: pinned, or managed and so the device's too.
pub struct HostMemory {
    pointer: Pointer,
    count: usize,
    managed: bool,
}

impl HostMemory {
    pub fn pinned(values: &[f64]) -> Self {
        let mut pointer = ptr::null_mut();
        let allocate: unsafe extern "C" fn(*mut Pointer, usize) -> c_int = function("cuMemAllocHost_v2");
        // SAFETY: the pointer is valid.
        unsafe { done(allocate(&raw mut pointer, size_of_val(values))) };
        Self::filled(pointer, values, false)
    }

    pub fn managed(values: &[f64]) -> Self {
        const ATTACH_GLOBAL: u32 = 1;
        let mut address = 0_u64;
        let allocate: unsafe extern "C" fn(*mut u64, usize, u32) -> c_int = function("cuMemAllocManaged");
        // SAFETY: the pointer is valid.
        unsafe { done(allocate(&raw mut address, size_of_val(values), ATTACH_GLOBAL)) };
        Self::filled(ptr::with_exposed_provenance_mut(address as usize), values, true)
    }

    fn filled(pointer: Pointer, values: &[f64], managed: bool) -> Self {
        let mut new = Self { pointer, count: values.len(), managed };
        new.values().copy_from_slice(values);
        new
    }

    pub fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// Its content; nothing on the device may be using it.
    pub fn values(&mut self) -> &mut [f64] {
        // SAFETY: it is aligned to pages, has as many, and was written when it was made.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.cast(), self.count) }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        let free: unsafe extern "C" fn(usize) -> c_int =
            function(if self.managed { "cuMemFree_v2" } else { "cuMemFreeHost" });
        // SAFETY: it is freed once.
        unsafe { free(self.pointer.addr()) };
    }
}

/// Tensors that live on the device.
pub struct OnDevice {
    tensors: Vec<Tensor>,
    buffers: Vec<Buffer>,
    /// Bytes before each tensor, for pointers that are aligned to no more than an element.
    offset: Vec<usize>,
}

impl OnDevice {
    pub fn new(tensors: &[Tensor]) -> Self {
        Self::shifted(tensors, 0)
    }

    /// Each begins so many elements behind an aligned address.
    pub fn shifted(tensors: &[Tensor], elements: usize) -> Self {
        Self::made(tensors, elements, 0)
    }

    /// On the device of that number.
    pub fn of(device_index: i32, tensors: &[Tensor]) -> Self {
        Self::made(tensors, 0, device_index)
    }

    fn made(tensors: &[Tensor], elements: usize, device_index: i32) -> Self {
        let offset: Vec<usize> =
            tensors.iter().map(|t| if t.len() > 0 { elements * t.bytes().len() / t.len() } else { 0 }).collect();
        let buffers = tensors.iter().zip(&offset).map(|(t, at)| {
            let bytes = [&vec![0; *at], t.bytes()].concat();
            let buffer = Buffer::on(device_index, bytes.len()).expect("there is device memory");
            buffer.upload(&bytes).expect("it has room");
            buffer
        });
        Self { tensors: tensors.to_vec(), buffers: buffers.collect(), offset }
    }

    pub fn set(&mut self, tensors: &[Tensor]) {
        self.tensors.clone_from_slice(tensors);
        for ((tensor, buffer), at) in tensors.iter().zip(&self.buffers).zip(&self.offset) {
            buffer.upload(&[&vec![0; *at], tensor.bytes()].concat()).expect("it has room");
        }
    }

    pub fn get(&mut self) -> Vec<Tensor> {
        for ((tensor, buffer), at) in self.tensors.iter_mut().zip(&self.buffers).zip(&self.offset) {
            let mut bytes = vec![0; at + tensor.bytes().len()];
            buffer.download(&mut bytes).expect("it has as many");
            tensor.bytes_mut().copy_from_slice(&bytes[*at..]);
        }
        self.tensors.clone()
    }

    pub fn pointers(&self) -> Vec<*mut c_void> {
        let at = |(buffer, at): (&Buffer, &usize)| buffer.pointer().wrapping_byte_add(*at);
        self.buffers.iter().zip(&self.offset).map(at).collect()
    }
}

impl Handle {
    pub fn set_stream(&mut self, stream: Pointer) -> Outcome<()> {
        // SAFETY: the handle is valid; what is no stream the call must find.
        checked("maw_set_stream", |error| unsafe { maw_set_stream(self.raw(), stream, error) })
    }

    /// A step that is enqueued and not waited for.
    pub fn launch(&mut self, params: &OnDevice, grads: &OnDevice, options: &maw_step_options) -> Outcome<()> {
        self.launch_at(&params.pointers(), &grads.pointers(), options, ptr::null_mut())
    }

    pub fn launch_at(
        &mut self,
        params: &[*mut c_void],
        grads: &[*mut c_void],
        options: &maw_step_options,
        report: *mut maw_step_report,
    ) -> Outcome<()> {
        let (p, g) = (params.as_ptr(), grads.as_ptr().cast());
        // SAFETY: one pointer per tensor; the call must check what they point to.
        checked("maw_step", |error| unsafe { maw_step(self.raw(), p, g, params.len(), options, report, error) })
    }

    pub fn fetch(&mut self, flags: u32) -> Outcome<maw_step_report> {
        let mut report = step_report();
        // SAFETY: the pointers are valid.
        checked("maw_step_report_fetch", |error| unsafe {
            maw_step_report_fetch(self.raw(), flags, &raw mut report, error)
        })?;
        Ok(report)
    }
}
