//! Whichever system call fails while a file is saved, and wherever the process is killed: afterwards the file is the
//! old one or the new one, and a failure that the process survives leaves no other file.
//!
//! A C program saves over an old file with tests/c/failing_calls.c loaded before the library: for each system call in
//! turn, and for each way to fail.
#![cfg(target_os = "linux")]

#[path = "common/compile.rs"]
mod compile;

use compile::{compiler, library, root, run, scratch};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Stage {
    program: PathBuf,
    shim: PathBuf,
    /// Holds the checkpoint and nothing else.
    folder: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// The outcome of a run with a fault.
struct Outcome {
    /// The call that failed, if the program reached it.
    fault: Option<String>,
    output: Output,
}

impl Stage {
    fn new(name: &str) -> Self {
        let place = scratch(name);
        let link = place.join("libmetaadamw.so.1");
        std::os::unix::fs::symlink(library(), &link).expect("the scratch folder can be written to");
        let (program, shim) = (place.join("save"), place.join("failing_calls.so"));
        let source = |name: &str| root().join("tests/c").join(name);
        run(compiler("c99")
            .arg(source("save.c"))
            .arg("-o")
            .arg(&program)
            .arg(&link)
            .arg("-lm")
            .arg(format!("-Wl,-rpath,{}", place.display())));
        run(compiler("gnu11")
            .arg("-Wno-pedantic")
            .args(["-fPIC", "-shared"])
            .arg(source("failing_calls.c"))
            .arg("-o")
            .arg(&shim)
            .arg("-ldl"));
        let folder = place.join("checkpoints");
        fs::create_dir(&folder).expect("the scratch folder can be written to");
        let mut stage = Self { program, shim, folder, old: Vec::new(), new: Vec::new() };
        stage.old = stage.saved("1");
        stage.new = stage.saved("2");
        assert!(stage.old != stage.new && stage.old.len() == stage.new.len());
        stage
    }

    fn file(&self) -> PathBuf {
        self.folder.join("run.safetensors")
    }

    fn command(&self, number: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(self.file()).arg(number);
        command
    }

    fn saved(&self, number: &str) -> Vec<u8> {
        run(&mut self.command(number));
        fs::read(self.file()).expect("it was saved")
    }

    /// Saves the new file over the old one, or over none, with one call failing.
    fn save(&self, over: Option<&[u8]>, at: usize, how: &str) -> Outcome {
        fs::remove_dir_all(&self.folder).expect("it can be removed");
        fs::create_dir(&self.folder).expect("it can be made");
        if let Some(old) = over {
            fs::write(self.file(), old).expect("it can be written");
        }
        let mut command = self.command("2");
        command.env("LD_PRELOAD", &self.shim).env("FAULT_FOLDER", &self.folder);
        let output = command.env("FAULT_AT", at.to_string()).env("FAULT_HOW", how).output().expect("it can be run");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let fault = printed.lines().find_map(|line| line.strip_prefix("fault: ")).map(str::to_owned);
        Outcome { fault, output }
    }

    fn is_new(&self) -> bool {
        fs::read(self.file()).is_ok_and(|bytes| bytes == self.new)
    }

    /// The file is exactly the old or the new one.
    fn check_file(&self, over: Option<&[u8]>, what: &str) {
        let found = fs::read(self.file()).ok();
        assert!(
            found.as_deref() == over || found.as_ref() == Some(&self.new),
            "{what}: the file is neither old nor new"
        );
    }

    fn others(&self) -> Vec<String> {
        let names = fs::read_dir(&self.folder).expect("the folder").map(|e| e.expect("an entry").file_name());
        names.map(|n| n.to_string_lossy().into_owned()).filter(|n| n != "run.safetensors").collect()
    }

    /// Makes every call fail in turn; returns the names of those that did.
    fn each_call(&self, over: Option<&[u8]>, how: &str, mut check: impl FnMut(&str, &Output)) -> Vec<String> {
        let mut faults = Vec::new();
        for at in 1.. {
            let outcome = self.save(over, at, how);
            let Some(fault) = outcome.fault else {
                assert!(outcome.output.status.success() && self.is_new(), "nothing failed in the end");
                break;
            };
            let what = format!("call {at}, {fault}, {how}");
            self.check_file(over, &what);
            check(&fault, &outcome.output);
            faults.push(fault);
            assert!(at < 100, "a save makes few calls");
        }
        println!("{how}: {}", faults.join(" "));
        faults
    }
}

const ENOSPC: &str = "28";
const EIO: &str = "5";
const EINTR: &str = "4";
const EACCES: &str = "13";
const EBUSY: &str = "16";
const EINVAL: &str = "22";
const ENOTSUP: &str = "95";

#[test]
fn a_save_that_fails_at_any_call_leaves_the_old_file_or_the_new_one_and_nothing_else() {
    let stage = Stage::new("faults_errors");
    for over in [Some(&stage.old[..]), None] {
        for how in [ENOSPC, EIO, EACCES, "full"] {
            let mut renamed = false;
            let faults = stage.each_call(over, how, |fault, output| {
                let printed = String::from_utf8_lossy(&output.stdout);
                assert_eq!(stage.others(), [""; 0], "{fault}, {how}: a temporary file stayed; {printed}");
                if output.status.success() {
                    // Calls whose failure does not matter: the file is complete and synced. A folder without read
                    // permission cannot be opened to be synced.
                    let unreadable = (fault, how) == ("open64", EACCES);
                    assert!(
                        unreadable || ["close", "fchmod", "realpath", "statx"].contains(&fault),
                        "{fault}, {how} was not noticed"
                    );
                    assert!(stage.is_new(), "{fault}, {how}: success means the new file");
                } else {
                    assert_eq!(output.status.code(), Some(1), "{fault}, {how}: {:?}", output.status);
                    assert!(printed.starts_with("MAW_IO: "), "{printed}");
                    assert!(printed.contains(&stage.folder.display().to_string()), "it names the place: {printed}");
                    assert!(renamed || !stage.is_new(), "{fault}, {how}: not yet renamed");
                }
                renamed |= fault == "rename";
            });
            for call in ["open64", "write", "fsync", "rename", "close"] {
                assert!(faults.iter().any(|fault| fault == call), "{call} is among {faults:?}");
            }
            assert_eq!(faults.iter().filter(|fault| *fault == "fsync").count(), 2, "of the file and of its folder");
        }
    }
}

#[test]
fn a_process_killed_at_any_call_leaves_the_old_file_or_the_new_one() {
    let stage = Stage::new("faults_kill");
    for over in [Some(&stage.old[..]), None] {
        let (mut old, mut new) = (0, 0);
        let mut left = 0;
        stage.each_call(over, "kill", |fault, output| {
            assert_eq!(output.status.signal(), Some(9), "{fault}");
            if stage.is_new() {
                new += 1;
            } else {
                old += 1;
            }
            left += stage.others().len();
            // What was left behind does not hinder the next save to that path, which removes it.
            fs::write(stage.folder.join(".metaadamw-1-0-other"), "of another path").expect("it can be written");
            stage.saved("2");
            assert!(stage.is_new(), "{fault}");
            assert_eq!(stage.others(), [".metaadamw-1-0-other"], "{fault}");
        });
        assert!(old > 5 && new > 0 && left > 5, "{old} times old, {new} times new, {left} files were left");
    }
}

#[test]
fn interrupted_calls_and_short_writes_are_continued() {
    let stage = Stage::new("faults_interrupted");
    for how in [EINTR, "short"] {
        stage.each_call(Some(&stage.old), how, |fault, output| {
            if fault == "rename" && how == EINTR {
                return; // rename is never interrupted
            }
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && stage.is_new(), "{fault}, {how}: {printed}");
            assert_eq!(stage.others(), [""; 0]);
        });
    }
}

#[test]
fn a_symbolic_link_is_followed_and_permissions_are_preserved() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let stage = Stage::new("faults_link");
    let (real, link) = (stage.folder.join("elsewhere"), stage.file());
    fs::rename(&link, &real).expect("it can be renamed");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("its own file");
    symlink("elsewhere", &link).expect("a link");
    stage.saved("1");
    assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
    assert_eq!(fs::read(&real).expect("it is there"), stage.old);
    assert_eq!(fs::metadata(&real).expect("it is there").permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_leads_to_it() {
    use std::os::unix::fs::symlink;
    let stage = Stage::new("faults_dangling");
    let link = stage.file();
    fs::remove_file(&link).expect("it can be removed");
    fs::create_dir(stage.folder.join("runs")).expect("a folder");
    symlink("runs/second", &link).expect("a link");
    symlink("third", stage.folder.join("runs/second")).expect("a link to a link");
    stage.saved("2");
    for link in [&link, &stage.folder.join("runs/second")] {
        assert!(fs::symlink_metadata(link).expect("it is there").is_symlink(), "{}", link.display());
    }
    assert_eq!(fs::read(stage.folder.join("runs/third")).expect("it was created"), stage.new);
    fs::remove_file(&link).expect("it can be removed");
    symlink("run.safetensors", &link).expect("a link to itself");
    let output = stage.command("2").output().expect("it can be run");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("too many symbolic links"), "{told}");
}

#[test]
fn the_owner_of_a_replaced_file_is_kept_where_that_is_allowed() {
    use std::os::unix::fs::{MetadataExt, chown};
    let stage = Stage::new("faults_owner");
    // Whoever is not root keeps its own files, which is all there is to see then.
    let given = chown(stage.file(), Some(12_345), Some(23_456)).is_ok();
    let before = fs::metadata(stage.file()).expect("it is there");
    assert_eq!(given, (before.uid(), before.gid()) == (12_345, 23_456));
    stage.saved("1");
    let after = fs::metadata(stage.file()).expect("it is there");
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
}

#[test]
fn a_folder_that_cannot_be_synced_is_no_failure() {
    let stage = Stage::new("faults_sync");
    for how in [EINVAL, ENOTSUP] {
        let (mut refused, mut accepted) = (0, 0);
        stage.each_call(Some(&stage.old), how, |fault, output| {
            if fault == "fsync" {
                if output.status.success() {
                    accepted += 1;
                } else {
                    refused += 1;
                }
                assert_eq!(output.status.success(), stage.is_new());
            }
        });
        assert_eq!((refused, accepted), (1, 1), "the file's own must succeed, errno {how}");
    }
}

#[test]
fn a_file_that_is_a_mount_point_is_told_with_what_to_do() {
    let stage = Stage::new("faults_mount");
    stage.each_call(Some(&stage.old), EBUSY, |fault, output| {
        if fault == "rename" {
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(told.contains("mount the folder that it is in"), "{told}");
        }
    });
}

#[test]
fn errors_name_the_path_that_cannot_be_saved_to() {
    let stage = Stage::new("faults_places");
    fs::create_dir(stage.folder.join("folder")).expect("a folder");
    let long = "n".repeat(255);
    for (path, text) in [
        ("missing/run", "creating '"),
        ("folder", "it is not a regular file"),
        ("run.safetensors/run", "creating '"),
        (&format!("{long}n"), "File name too long"),
    ] {
        let output =
            Command::new(&stage.program).arg(stage.folder.join(path)).arg("2").output().expect("it can be run");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.code() == Some(1) && printed.starts_with("MAW_IO: ") && printed.contains(text),
            "{path}: {printed}"
        );
        assert_eq!(stage.others(), ["folder"], "{path}");
        assert!(stage.is_new(), "{path}");
    }
    // A file name of the maximal length can be saved to.
    run(Command::new(&stage.program).arg(stage.folder.join(Path::new(&long))).arg("2"));
    assert_eq!(fs::read(stage.folder.join(&long)).expect("it is there"), stage.new);
    // So can a name without a folder.
    run(Command::new(&stage.program).current_dir(&stage.folder).args(["plain", "2"]));
    assert_eq!(fs::read(stage.folder.join("plain")).expect("it is there"), stage.new);
}
