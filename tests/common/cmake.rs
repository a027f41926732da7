//! What tests of the CMake build share: folders outside this tree, the consumer's project, builds.
#![allow(dead_code, reason = "each test file uses its part")]

use super::compile::{root, run};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{env, fs, process, thread};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A folder of the system's for temporary files, gone with this value.
pub struct Temporary(pub PathBuf);

impl Temporary {
    pub fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("metaadamw-{}-{name}", process::id()));
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        // A symbolic link in the path would hide that a moved prefix still refers to its old place.
        Temporary(folder.canonicalize().expect("it was just made"))
    }

    pub fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// A copy of the consumer's sources outside of this tree.
    pub fn consumer(&self) -> PathBuf {
        let folder = self.join("consumer");
        fs::create_dir_all(&folder).expect("in a folder of ours");
        for file in ["CMakeLists.txt", "in_c.c", "in_cpp.cpp"] {
            fs::copy(root().join("tests/consumer").join(file), folder.join(file)).expect("it is committed");
        }
        folder
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what remains is for the system to clean
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Shared,
    Static,
}

/// `name=value` as CMake takes it.
pub fn define(name: &str, value: impl AsRef<Path>) -> OsString {
    let mut argument = OsString::from(format!("-D{name}="));
    argument.push(value.as_ref());
    argument
}

/// Configures `source`; builds of the library share cargo's folder with the developer's `cargo build --release`.
pub fn configure(source: &Path, build: &Path, kind: Kind) -> Command {
    let cargo_folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp is below target");
    let mut command = Command::new("cmake");
    command.arg("-S").arg(source).arg("-B").arg(build).arg(define("METAADAMW_CARGO_TARGET_DIR", cargo_folder));
    if kind == Kind::Static {
        command.arg("-DBUILD_SHARED_LIBS=OFF");
    }
    command
}

pub fn build(folder: &Path) {
    run(Command::new("cmake").arg("--build").arg(folder));
}

/// Runs both programs, and checks which of the libraries they loaded.
pub fn both_programs_work(folder: &Path, kind: Kind) {
    for program in ["in_c", "in_cpp"] {
        let program = folder.join(program);
        let output = run(&mut Command::new(&program));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "w = 0.495\n", "{}", program.display());
        let needed = run(Command::new("readelf").env("LC_ALL", "C").args(["-d", "-W"]).arg(&program));
        let needed = String::from_utf8_lossy(&needed.stdout).into_owned();
        assert_eq!(needed.contains("[libmetaadamw.so.1]"), kind == Kind::Shared, "{}: {needed}", program.display());
    }
}

/// Builds and installs the library, deletes the build, and moves the prefix.
pub fn installed_and_moved(folder: &Temporary, kind: Kind) -> PathBuf {
    let (built, first, moved) = (folder.join("library"), folder.join("first"), folder.join("moved/a prefix"));
    run(configure(root(), &built, kind).arg(define("CMAKE_INSTALL_PREFIX", &first)).arg("-DCMAKE_INSTALL_LIBDIR=lib"));
    build(&built);
    run(Command::new("cmake").arg("--install").arg(&built));
    fs::remove_dir_all(&built).expect("it was just built");
    fs::create_dir(folder.join("moved")).expect("it is new");
    fs::rename(&first, &moved).expect("on one file system");
    moved
}

/// Tests run side by side; a folder is built by one of them at a time.
static BUILDING: Mutex<()> = Mutex::new(());

/// Builds the CMake project at `source` in `target/tmp/name`, incrementally if it was built before.
/// The library comes from where `cargo build --release` puts it.
pub fn built(source: &str, name: &str) -> PathBuf {
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let cargo_folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp is below target");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(root().join(source)).arg("-B").arg(&folder);
    run(configure.arg(format!("-DMETAADAMW_CARGO_TARGET_DIR={}", cargo_folder.display())));
    let mut build = Command::new("cmake");
    if env::var_os("CMAKE_BUILD_PARALLEL_LEVEL").is_none() {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        build.env("CMAKE_BUILD_PARALLEL_LEVEL", cores.to_string());
    }
    run(build.arg("--build").arg(&folder));
    folder
}
