//! Gives the shared library its name with the ABI number, so that the loader tells incompatible versions apart, and tests
//! the name of the target.

use std::{env, fs};

const SOURCE: &str = "src/ffi/version.rs";
const CONSTANT: &str = "pub const MAW_ABI_VERSION: u32 =";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={SOURCE}");
    let source = fs::read_to_string(SOURCE).expect("build scripts run in the package's folder");
    let abi: u32 = source
        .lines()
        .find_map(|line| line.trim().strip_prefix(CONSTANT)?.trim().strip_suffix(';')?.parse().ok())
        .unwrap_or_else(|| panic!("{SOURCE} has no line `{CONSTANT} <number>;`"));
    // For tests, which compile C and C++ for it.
    println!("cargo:rustc-env=METAADAMW_TARGET={}", env::var("TARGET").expect("cargo sets it"));
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libmetaadamw.{abi}.dylib"),
        Ok("windows") => {} // no such name in a DLL
        _ => println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmetaadamw.so.{abi}"),
    }
}
