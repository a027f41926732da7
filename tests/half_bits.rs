//! The 16-bit conversions against those of the half crate, and of PyTorch.

use metaadamw::numeric::half::{BF16, F16, Half};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Every exponent with fractions around the rounding boundaries of both formats, and with random fractions.
fn values() -> Vec<f32> {
    let mut bits = Vec::new();
    for top in 0..=0x1FF_u32 {
        for shift in [12, 13, 15, 16] {
            for kept in [0, 1, 2, 3, (1 << (23 - shift)) - 1] {
                let fraction = (kept << shift) & 0x7F_FFFF;
                let half = 1 << (shift - 1);
                bits.extend([0, 1, half - 1, half, half + 1].map(|rest| top << 23 | fraction | rest));
            }
        }
    }
    let mut random = 1_u32;
    for _ in 0..1_000_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bits.push(random);
        // Where float16 is neither 0 nor infinite.
        bits.push(random & 0x80FF_FFFF | 0x3000_0000 | (random >> 3) & 0x0F00_0000);
    }
    bits.into_iter().map(f32::from_bits).collect()
}

/// The same bits, or both a NaN.
fn agree<H: Half>(name: &str, narrow: impl Fn(usize, f32) -> u16, widen: impl Fn(u16) -> f32) {
    for (i, value) in values().into_iter().enumerate() {
        let (got, expected) = (H::round(value), narrow(i, value));
        let same = if value.is_nan() { H::widen(got).is_nan() && widen(expected).is_nan() } else { got == expected };
        assert!(same, "{name}: {value:e} ({:#010x}) is {got:#06x}, {expected:#06x} expected", value.to_bits());
    }
    for bits in 0..=u16::MAX {
        let (got, expected) = (H::widen(bits), widen(bits));
        let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
        assert!(same, "{name}: {bits:#06x} is {got:e}, {expected:e} expected");
    }
}

#[test]
fn the_half_crate_has_the_same_bits() {
    agree::<BF16>("bfloat16", |_, x| half::bf16::from_f32(x).to_bits(), |bits| half::bf16::from_bits(bits).to_f32());
    agree::<F16>("float16", |_, x| half::f16::from_f32(x).to_bits(), |bits| half::f16::from_bits(bits).to_f32());
}

#[test]
#[ignore = "needs PyTorch: the benches run it, and METAADAMW_PEERS_PYTHON names a Python that has it"]
fn pytorch_has_the_same_bits() {
    let python =
        std::env::var_os("METAADAMW_PEERS_PYTHON").map_or(PathBuf::from("target/peers/bin/python"), Into::into);
    let mut child = Command::new(&python)
        .arg("tests/python/halves.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", python.display()));
    let values = values();
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut input = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("all is read");
    assert!(output.status.success(), "{} has no PyTorch", python.display());
    let (narrow, wide) = (2 * values.len(), 4 * 65_536);
    assert_eq!(output.stdout.len(), 2 * (narrow + wide));
    for (i, format) in output.stdout.chunks_exact(narrow + wide).enumerate() {
        let (narrow, wide) = format.split_at(narrow);
        let narrow = narrow.as_chunks().0;
        let wide = wide.as_chunks().0;
        let (n, w) = (|i: usize, _| u16::from_le_bytes(narrow[i]), |b: u16| f32::from_le_bytes(wide[usize::from(b)]));
        if i == 0 { agree::<BF16>("bfloat16", n, w) } else { agree::<F16>("float16", n, w) }
    }
}
