//! Gives the shared library its name with the ABI number, so that the loader tells incompatible versions apart; compresses
//! the CUDA kernels, a fifth of whose text the library then carries; and gives tests the name of the target.

use std::path::Path;
use std::{env, fs};

const SOURCE: &str = "src/ffi/version.rs";
const CONSTANT: &str = "pub const MAW_ABI_VERSION: u32 =";
const PTX: &str = "src/backend/cuda/kernels/kernels.ptx";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    name_with_abi_number();
    compress_kernels();
}

fn name_with_abi_number() {
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

/// Into what src/backend/cuda/device.rs includes.
fn compress_kernels() {
    const BEST: u8 = 10;
    println!("cargo:rerun-if-changed={PTX}");
    let ptx = fs::read(PTX).expect("scripts/ptx.sh makes it");
    let folder = env::var_os("OUT_DIR").expect("cargo gives it");
    let compressed = miniz_oxide::deflate::compress_to_vec_zlib(&ptx, BEST);
    fs::write(Path::new(&folder).join("kernels.ptx.zlib"), compressed).expect("cargo's folder can be written");
}
