//! A project outside this tree (tests/consumer) builds and runs with the library, by every route and with both kinds of
//! library: from sources (add_subdirectory, FetchContent), and from an installed prefix that was moved afterwards
//! (find_package, pkg-config).
#![cfg(target_os = "linux")]

#[path = "common/compile.rs"]
mod compile;

use compile::{root, run};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, process};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A folder of the system's for temporary files, gone with this value.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("metaadamw-{}-{name}", process::id()));
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        // A symbolic link in the path would hide that a moved prefix still refers to its old place.
        Temporary(folder.canonicalize().expect("it was just made"))
    }

    fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// A copy of the consumer's sources outside of this tree.
    fn consumer(&self) -> PathBuf {
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
enum Kind {
    Shared,
    Static,
}

/// `name=value` as CMake takes it.
fn define(name: &str, value: impl AsRef<Path>) -> OsString {
    let mut argument = OsString::from(format!("-D{name}="));
    argument.push(value.as_ref());
    argument
}

/// Configures `source`; builds of the library share cargo's folder with the developer's `cargo build --release`.
fn configure(source: &Path, build: &Path, kind: Kind) -> Command {
    let cargo_folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp is below target");
    let mut command = Command::new("cmake");
    command.arg("-S").arg(source).arg("-B").arg(build).arg(define("METAADAMW_CARGO_TARGET_DIR", cargo_folder));
    if kind == Kind::Static {
        command.arg("-DBUILD_SHARED_LIBS=OFF");
    }
    command
}

fn build(folder: &Path) {
    run(Command::new("cmake").arg("--build").arg(folder));
}

/// Runs both programs, and checks which of the libraries they loaded.
fn both_programs_work(folder: &Path, kind: Kind) {
    for program in ["in_c", "in_cpp"] {
        let program = folder.join(program);
        let output = run(&mut Command::new(&program));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "w = 0.495\n", "{}", program.display());
        let needed = run(Command::new("readelf").env("LC_ALL", "C").args(["-d", "-W"]).arg(&program));
        let needed = String::from_utf8_lossy(&needed.stdout).into_owned();
        assert_eq!(needed.contains("[libmetaadamw.so.1]"), kind == Kind::Shared, "{}: {needed}", program.display());
    }
}

fn from_sources(route: &str, kind: Kind) {
    let folder = Temporary::new(&format!("{route}-{}", kind as u8));
    let built = folder.join("build");
    let mut command = configure(&folder.consumer(), &built, kind);
    run(command.arg(format!("-DROUTE={route}")).arg(define("METAADAMW_SOURCE", root())));
    build(&built);
    both_programs_work(&built, kind);
}

/// Builds and installs the library, deletes the build, and moves the prefix.
fn installed_and_moved(folder: &Temporary, kind: Kind) -> PathBuf {
    let (built, first, moved) = (folder.join("library"), folder.join("first"), folder.join("moved/a prefix"));
    run(configure(root(), &built, kind).arg(define("CMAKE_INSTALL_PREFIX", &first)).arg("-DCMAKE_INSTALL_LIBDIR=lib"));
    build(&built);
    run(Command::new("cmake").arg("--install").arg(&built));
    fs::remove_dir_all(&built).expect("it was just built");
    fs::create_dir(folder.join("moved")).expect("it is new");
    fs::rename(&first, &moved).expect("on one file system");
    moved
}

fn names_no_other_place(prefix: &Path, folder: &Temporary) {
    for file in ["lib/pkgconfig/metaadamw.pc", "lib/cmake/MetaAdamW/MetaAdamWConfig.cmake"] {
        let text = fs::read_to_string(prefix.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for place in [&folder.0, root()] {
            assert!(!text.contains(place.to_str().expect("UTF-8")), "{file} names {}:\n{text}", place.display());
        }
    }
}

fn has_the_names_of_a_shared_library(prefix: &Path) {
    let full = format!("libmetaadamw.so.{VERSION}");
    for (link, target) in [("libmetaadamw.so", "libmetaadamw.so.1"), ("libmetaadamw.so.1", full.as_str())] {
        let read = fs::read_link(prefix.join("lib").join(link)).unwrap_or_else(|error| panic!("{link}: {error}"));
        assert_eq!(read, Path::new(target), "{link}");
    }
    let file = fs::symlink_metadata(prefix.join("lib").join(full)).expect("the library is there");
    assert!(file.is_file());
    assert!(!prefix.join("lib/libmetaadamw.a").exists(), "the shared package has no static library");
}

fn by_find_package(folder: &Temporary, prefix: &Path, kind: Kind) {
    let built = folder.join("build");
    let consumer = folder.consumer();
    let configure_with = |wanted: &str, built: &Path| {
        let mut command = configure(&consumer, built, kind);
        command.args(["-DROUTE=find_package".to_owned(), format!("-DWANTED_VERSION={wanted}")]);
        command.arg(define("CMAKE_PREFIX_PATH", prefix));
        command
    };
    run(&mut configure_with(VERSION, &built));
    build(&built);
    both_programs_work(&built, kind);
    let newer = configure_with("99.0", &folder.join("newer")).output().expect("cmake runs");
    assert!(!newer.status.success(), "the version file lets a request for 99.0 pass");
}

fn by_pkg_config(folder: &Temporary, prefix: &Path, kind: Kind) {
    let ask = |what: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(what).arg("metaadamw");
        String::from_utf8(run(&mut command).stdout).expect("UTF-8").trim().to_owned()
    };
    assert_eq!(ask(&["--modversion"]), VERSION);
    for (compiler, standard, source) in [("cc", "c99", "in_c.c"), ("c++", "c++17", "in_cpp.cpp")] {
        // Through the shell, as in a Makefile: pkg-config quotes the blank in the prefix for it.
        let program = source.split('.').next().expect("a name before the point");
        let line = format!(
            "{compiler} -std={standard} consumer/{source} -o {program} {} \"-Wl,-rpath,{}\"",
            ask(&["--cflags", "--libs"]),
            ask(&["--variable=libdir"]).replace('\\', "")
        );
        run(Command::new("sh").args(["-c", &line]).current_dir(&folder.0));
    }
    both_programs_work(&folder.0, kind);
}

fn from_a_moved_prefix(kind: Kind) {
    let folder = Temporary::new(if kind == Kind::Static { "static" } else { "shared" });
    let prefix = installed_and_moved(&folder, kind);
    names_no_other_place(&prefix, &folder);
    if kind == Kind::Shared {
        has_the_names_of_a_shared_library(&prefix);
    }
    by_find_package(&folder, &prefix, kind);
    by_pkg_config(&folder, &prefix, kind);
}

#[test]
fn a_project_takes_the_sources_in_by_add_subdirectory() {
    from_sources("add_subdirectory", Kind::Shared);
    from_sources("add_subdirectory", Kind::Static);
}

#[test]
fn a_project_takes_the_sources_in_by_fetch_content() {
    from_sources("FetchContent", Kind::Shared);
    from_sources("FetchContent", Kind::Static);
}

#[test]
fn a_project_finds_the_installed_shared_library_after_its_prefix_was_moved() {
    from_a_moved_prefix(Kind::Shared);
}

#[test]
fn a_project_finds_the_installed_static_library_after_its_prefix_was_moved() {
    from_a_moved_prefix(Kind::Static);
}
