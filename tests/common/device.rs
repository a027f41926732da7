//! Tests on a device: with METAADAMW_TEST_DEVICE=cuda every `Handle` is on CUDA, and its host tensors are copied to buffers
//! there for each call and back. So one body tests both backends.

use super::handle::checked;
use super::tensor::Tensor;
use metaadamw::ffi::*;
use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;

/// Whether handles are to be on CUDA unless a test says otherwise.
pub fn is_cuda() -> bool {
    match std::env::var("METAADAMW_TEST_DEVICE").as_deref() {
        Ok("cuda") => true,
        Err(_) | Ok("" | "cpu") => false,
        Ok(other) => panic!("METAADAMW_TEST_DEVICE is '{other}', not 'cpu' or 'cuda'"),
    }
}

/// Device memory of the library's.
pub struct Buffer(*mut maw_device_buffer);

impl Buffer {
    pub fn new(bytes: usize) -> Self {
        let mut raw = ptr::null_mut();
        // SAFETY: the pointers are valid.
        let made = checked(|error| unsafe { maw_device_buffer_create(0, bytes, &raw mut raw, error) });
        made.expect("there is device memory");
        Self(raw)
    }

    pub fn of(bytes: &[u8]) -> Self {
        let buffer = Self::new(bytes.len());
        buffer.upload(bytes);
        buffer
    }

    pub fn pointer(&self) -> *mut c_void {
        // SAFETY: it is alive.
        unsafe { maw_device_buffer_pointer(self.0) }
    }

    fn size(&self) -> usize {
        // SAFETY: it is alive.
        unsafe { maw_device_buffer_size(self.0) }
    }

    pub fn upload(&self, bytes: &[u8]) {
        // SAFETY: as many bytes as told.
        let done = checked(|error| unsafe {
            maw_device_buffer_upload(self.0, 0, bytes.as_ptr().cast(), bytes.len(), error)
        });
        done.expect("it has room");
    }

    pub fn download(&self, bytes: &mut [u8]) {
        // SAFETY: as many bytes as told.
        let done = checked(|error| unsafe {
            maw_device_buffer_download(self.0, 0, bytes.as_mut_ptr().cast(), bytes.len(), error)
        });
        done.expect("it has as many");
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: it is freed once.
        unsafe { maw_device_buffer_free(self.0) };
    }
}

/// A handle's copies of the host's tensors on its device; none on the CPU.
#[derive(Default)]
pub struct Copies {
    pub(super) on_device: bool,
    params: RefCell<Vec<Buffer>>,
    grads: RefCell<Vec<Buffer>>,
}

fn copied<'a>(tensors: impl Iterator<Item = Option<&'a Tensor>>, buffers: &mut Vec<Buffer>) -> Vec<*mut c_void> {
    let one = |(i, tensor): (usize, Option<&Tensor>)| {
        let bytes = tensor.map_or(&[][..], Tensor::bytes);
        match buffers.get(i) {
            None => buffers.push(Buffer::new(bytes.len())),
            Some(old) if old.size() < bytes.len() => buffers[i] = Buffer::new(bytes.len()),
            Some(_) => {}
        }
        buffers[i].upload(bytes);
        tensor.map_or(ptr::null_mut(), |_| buffers[i].pointer())
    };
    tensors.enumerate().map(one).collect()
}

impl Copies {
    pub fn new(on_device: bool) -> Self {
        Self { on_device, ..Self::default() }
    }

    /// One pointer a tensor, as the calls want them.
    pub fn params(&self, params: &mut [Tensor]) -> Vec<*mut c_void> {
        if self.on_device {
            copied(params.iter().map(Some), &mut self.params.borrow_mut())
        } else {
            params.iter_mut().map(Tensor::pointer_mut).collect()
        }
    }

    /// One pointer a tensor, NULL without a gradient.
    pub fn grads(&self, grads: &[Option<Tensor>]) -> Vec<*const c_void> {
        if self.on_device {
            let pointers = copied(grads.iter().map(Option::as_ref), &mut self.grads.borrow_mut());
            pointers.into_iter().map(<*mut c_void>::cast_const).collect()
        } else {
            grads.iter().map(|g| g.as_ref().map_or(ptr::null(), Tensor::pointer)).collect()
        }
    }

    /// What a call made of the parameters.
    pub fn fetch(&self, params: &mut [Tensor]) {
        if self.on_device {
            for (tensor, buffer) in params.iter_mut().zip(self.params.borrow().iter()) {
                buffer.download(tensor.bytes_mut());
            }
        }
    }
}
