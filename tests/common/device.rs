//! Tests on a device: with METAADAMW_TEST_DEVICE=cuda every `Handle` is on CUDA, and its host tensors are copied to
//! buffers there for each call and back. So one body tests both backends.

use super::handle::{Outcome, checked};
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

// SAFETY: the header says so of handles that one thread uses at a time.
unsafe impl Send for Buffer {}

impl Buffer {
    pub fn new(bytes: usize) -> Outcome<Self> {
        Self::on(0, bytes)
    }

    pub fn on(device_index: i32, bytes: usize) -> Outcome<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: the pointers are valid.
        checked("maw_device_buffer_create", |error| unsafe {
            maw_device_buffer_create(device_index, bytes, &raw mut raw, error)
        })?;
        Ok(Self(raw))
    }

    pub fn of(bytes: &[u8]) -> Outcome<Self> {
        let buffer = Self::new(bytes.len())?;
        buffer.upload(bytes)?;
        Ok(buffer)
    }

    pub fn pointer(&self) -> *mut c_void {
        // SAFETY: it is alive.
        unsafe { maw_device_buffer_pointer(self.0) }
    }

    fn size(&self) -> usize {
        // SAFETY: it is alive.
        unsafe { maw_device_buffer_size(self.0) }
    }

    pub fn upload(&self, bytes: &[u8]) -> Outcome<()> {
        // SAFETY: the pointer is to as many bytes as are passed.
        checked("maw_device_buffer_upload", |error| unsafe {
            maw_device_buffer_upload(self.0, 0, bytes.as_ptr().cast(), bytes.len(), error)
        })
    }

    pub fn download(&self, bytes: &mut [u8]) -> Outcome<()> {
        self.part(0, bytes)
    }
}

impl Buffer {
    /// Downloads a part, which may not be there.
    pub fn part(&self, offset: usize, bytes: &mut [u8]) -> Outcome<()> {
        // SAFETY: the pointer is to as many bytes as are passed.
        checked("maw_device_buffer_download", |error| unsafe {
            maw_device_buffer_download(self.0, offset, bytes.as_mut_ptr().cast(), bytes.len(), error)
        })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: it is freed once.
        unsafe { maw_device_buffer_free(self.0) };
    }
}

/// Copies of the host's tensors on the handle's device; none on the CPU.
#[derive(Default)]
pub struct Copies {
    pub(super) on_device: bool,
    params: RefCell<Vec<Buffer>>,
    grads: RefCell<Vec<Buffer>>,
}

fn copied<'a>(
    tensors: impl Iterator<Item = Option<&'a Tensor>>,
    buffers: &mut Vec<Buffer>,
) -> Outcome<Vec<*mut c_void>> {
    let one = |(i, tensor): (usize, Option<&Tensor>)| {
        let bytes = tensor.map_or(&[][..], Tensor::bytes);
        match buffers.get(i) {
            None => buffers.push(Buffer::new(bytes.len())?),
            Some(old) if old.size() < bytes.len() => buffers[i] = Buffer::new(bytes.len())?,
            Some(_) => {}
        }
        buffers[i].upload(bytes)?;
        Ok(tensor.map_or(ptr::null_mut(), |_| buffers[i].pointer()))
    };
    tensors.enumerate().map(one).collect()
}

impl Copies {
    pub fn new(on_device: bool) -> Self {
        Self { on_device, ..Self::default() }
    }

    /// One pointer per tensor, as the calls want them.
    pub fn params(&self, params: &mut [Tensor]) -> Outcome<Vec<*mut c_void>> {
        if self.on_device {
            copied(params.iter().map(Some), &mut self.params.borrow_mut())
        } else {
            Ok(params.iter_mut().map(Tensor::pointer_mut).collect())
        }
    }

    /// One pointer per tensor, NULL without a gradient.
    pub fn grads(&self, grads: &[Option<Tensor>]) -> Outcome<Vec<*const c_void>> {
        if self.on_device {
            let pointers = copied(grads.iter().map(Option::as_ref), &mut self.grads.borrow_mut())?;
            Ok(pointers.into_iter().map(<*mut c_void>::cast_const).collect())
        } else {
            Ok(grads.iter().map(|g| g.as_ref().map_or(ptr::null(), Tensor::pointer)).collect())
        }
    }

    /// Downloads the parameters after a call.
    pub fn fetch(&self, params: &mut [Tensor]) -> Outcome<()> {
        if self.on_device {
            for (tensor, buffer) in params.iter_mut().zip(self.params.borrow().iter()) {
                buffer.download(tensor.bytes_mut())?;
            }
        }
        Ok(())
    }
}
