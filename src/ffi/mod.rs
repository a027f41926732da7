//! The C ABI: pointers become references, options become types, errors become status codes. No algorithm is here.
//!
//! Every export checks its arguments, converts them, calls safe code, and writes its outputs. All calls on a handle go
//! through `handle.rs` (busy, poisoned, panics); `structs.rs` has the rules for structs that grow, `pointers.rs`
//! strings, arrays and single values. The docs of the exports are the C header's text.
#![allow(unsafe_code, reason = "the C boundary; each block says whose promise it relies on")]
#![allow(non_camel_case_types, reason = "types carry their C names")]

mod attention;
mod averages;
mod bytes;
mod checkpoint;
mod counters;
mod device;
mod dump;
mod error;
mod getters;
mod handle;
mod hyper_parameters;
mod meta;
mod optimizer;
mod options;
mod pointers;
mod processes;
mod registration;
mod structs;
mod tensor_state;
mod types;
mod version;

pub use attention::*;
pub use averages::*;
pub use bytes::*;
pub use checkpoint::*;
pub use counters::*;
pub use device::*;
pub use dump::*;
pub use error::*;
pub use getters::*;
pub use handle::*;
pub use hyper_parameters::*;
pub use meta::*;
pub use optimizer::*;
pub use processes::*;
pub use registration::*;
pub use structs::*;
pub use tensor_state::*;
pub use types::*;
pub use version::*;
