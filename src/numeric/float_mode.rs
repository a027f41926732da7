//! The floating-point mode of a thread: the direction of rounding, flushing of subnormal numbers, traps.
//!
//! It belongs to the thread, and hosts change it (`-ffast-math`, `fesetround`, `feenableexcept`). All results here are
//! those of IEEE 754's default: round to nearest, nothing flushed, no traps. A new thread inherits its creator's mode, so
//! threads that are started within [`with_default`] have the default too. On x86-64 and aarch64.
#![allow(unsafe_code, reason = "reads and writes the control register of floating-point arithmetic")]

/// Runs `work` in the default mode and restores that of the caller, its exception flags included.
///
/// `work` must not unwind out of it: the mode would stay.
pub fn with_default<T>(work: impl FnOnce() -> T) -> T {
    let callers = register::get();
    if register::is_default(callers) {
        return work();
    }
    register::set(register::DEFAULT);
    let result = apart(work);
    register::set(callers);
    result
}

/// A call, into which and out of which the compiler moves no arithmetic.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    /// Traps masked.
    pub const DEFAULT: u32 = 0x1F80;
    /// Exceptions that have occurred.
    const FLAGS: u32 = 0x3F;

    pub fn is_default(mode: u32) -> bool {
        mode & !FLAGS == DEFAULT
    }

    /// MXCSR.
    pub fn get() -> u32 {
        let mut mode = 0_u32;
        // SAFETY: the instruction writes 32 bits, for which there is room.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        mode
    }

    pub fn set(mode: u32) {
        // SAFETY: the value is the default or came from `get`, so no reserved bit is set.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    pub const DEFAULT: u64 = 0;

    pub fn is_default(mode: u64) -> bool {
        mode == DEFAULT
    }

    /// FPCR.
    pub fn get() -> u64 {
        let mode;
        // SAFETY: every program may read the register.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nomem, nostack, preserves_flags)) };
        mode
    }

    pub fn set(mode: u64) {
        // SAFETY: every program may write the register; the value is the default or came from `get`.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags)) };
    }
}

/// Elsewhere the mode stays the caller's.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    pub const DEFAULT: () = ();

    pub fn is_default(_: ()) -> bool {
        true
    }

    pub fn get() {}

    pub fn set(_: ()) {}
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn work_runs_in_the_default_mode_and_the_callers_comes_back() {
        let inexact = || black_box(1.0_f64) / black_box(3.0);
        let subnormal = || black_box(f32::MIN_POSITIVE) / black_box(2.0);
        let [nearest, half] = [inexact().to_bits(), u64::from(subnormal().to_bits())];
        // Flush to zero, denormals are zero, and each direction of rounding; nothing trapped, then everything.
        for mode in [0x9F80, 0x1FC0, 0x3F80, 0x5F80, 0x7F80, 0xFFC0, 0x1F80, 0x0000] {
            let before = register::get();
            register::set(mode);
            let results = with_default(|| [inexact().to_bits(), u64::from(subnormal().to_bits())]);
            let after = register::get();
            register::set(before);
            assert_eq!(results, [nearest, half], "{mode:#x}");
            assert_eq!(after & !0x3F, mode, "{mode:#x}");
        }
    }
}
