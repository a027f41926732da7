//! What the library does to the host's process: threads, signals, forks, stack, and what tools that watch it say.
#![cfg(target_os = "linux")]

#[path = "common/c_program.rs"]
mod c_program;
#[path = "common/compile.rs"]
mod compile;
#[path = "common/emulator.rs"]
mod emulator;

use c_program::{Build, folder, passes, program, started};

#[test]
fn optimizers_may_be_used_from_several_threads() {
    passes("threads", &["threads"], Build::Plain);
    passes("threads", &["threads"], Build::Sanitized);
}

#[test]
fn a_forked_child_steps_with_the_same_bits_and_does_not_hang() {
    passes("fork", &["fork"], Build::Plain);
    passes("fork", &["fork"], Build::Sanitized);
}

#[test]
fn the_callers_floating_point_mode_changes_no_bit_and_is_restored() {
    passes("float_mode", &["float_mode"], Build::Plain);
}

#[test]
fn threads_are_shared_take_no_signals_and_end_with_the_last_optimizer() {
    passes("pools", &["pools"], Build::Plain);
    passes("pools", &["pools"], Build::Sanitized);
}

/// With METAADAMW_LIBRARY also of the released library.
#[test]
fn calls_need_less_stack_than_the_header_says() {
    assert!(compile::header().contains("a call needs less than 48 KiB of the calling thread's stack"));
    passes("stack", &["stack"], Build::Plain);
}

#[test]
fn a_host_with_thread_sanitizer_sees_no_report() {
    passes("threads", &["threads"], Build::ThreadSanitized);
    let folder = folder("deliberate", Build::ThreadSanitized);
    let output = started(&program(&folder, &["deliberate"], Build::ThreadSanitized), &["race"]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaints.contains("data race"), "the sanitizer is on: {complaints}");
}
