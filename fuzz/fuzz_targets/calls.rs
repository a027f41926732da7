//! Any bytes as a sequence of calls: see tests/common/sequence.rs.

#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| common::sequence::run(input));
