//! Replacing a file so that, whatever fails, it is afterwards the old one or the new one, whole.
//!
//! Temporary file in the same folder, fsync, rename over the old, fsync of the folder. A failure that the process
//! survives leaves no temporary file; a process that is killed may leave one (`.metaadamw-…`), which the next save to the
//! same path removes: whoever writes one holds a lock on it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Small pieces are collected up to this many bytes; larger ones go straight through.
const BUFFER: usize = 1 << 16;
/// What the names of temporary files begin with.
const PREFIX: &str = ".metaadamw-";
/// Symbolic links that are followed, as Linux does.
const MAX_LINKS: usize = 40;

/// Writes `path` anew by `fill`, through a small buffer. A symbolic link is followed, also to a file that is not there yet;
/// the file it leads to is replaced, and its permissions, and where that is allowed its owner, are kept.
///
/// # Errors
/// [`Error::Io`] says which operation on which file failed; what `fill` answers.
pub fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let target = followed(path)?;
    let name = target.file_name().ok_or_else(|| Error::range("path", path.display(), "the name of a file"))?;
    let old = fs::metadata(&target).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let operation = format!("replacing '{}'", target.display());
        return Err(Error::Io { operation, reason: "it is not a regular file".to_owned() });
    }
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    remove_abandoned(folder, name);
    let (mut file, mut temporary) = create_beside(folder, name)?;
    if let Some(old) = &old {
        keep_owner_and_permissions(&file, old);
    }
    let mut buffered = BufWriter::with_capacity(BUFFER, &mut file);
    let filled = fill(&mut buffered).and_then(|()| buffered.flush().map_err(|e| Error::io("writing", &e)));
    // Whatever a failure left in the buffer is not tried again.
    drop(buffered.into_parts());
    filled.map_err(|e| match e {
        Error::Io { operation, reason } => {
            Error::Io { operation: format!("{operation} '{}'", temporary.0.display()), reason }
        }
        other => other,
    })?;
    file.sync_all().map_err(|e| Error::file("syncing", &temporary.0, &e))?;
    // A folder may allow to write and not to read: then its entry cannot be synced, as for SQLite.
    let opened = match File::open(folder) {
        Ok(opened) => Some(opened),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => None,
        Err(e) => return Err(Error::file("opening", folder, &e)),
    };
    fs::rename(&temporary.0, &target).map_err(|e| renaming_failed(&target, &e))?;
    temporary.0 = PathBuf::new();
    drop(file); // and its lock, now that it is no temporary file any more
    opened.map_or(Ok(()), |folder| sync_folder(&folder)).map_err(|e| Error::file("syncing", folder, &e))
}

/// The file that is meant, symbolic links followed; it need not exist.
fn followed(path: &Path) -> Result<PathBuf> {
    if let Ok(whole) = fs::canonicalize(path) {
        return Ok(whole);
    }
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            // A relative link starts from the folder that it lies in.
            Ok(to) => target = target.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(target),
        }
    }
    let operation = format!("following '{}'", path.display());
    Err(Error::Io { operation, reason: "too many symbolic links".to_owned() })
}

/// Some file systems have no permissions, and few processes may give files away: the content matters more.
fn keep_owner_and_permissions(file: &File, old: &Metadata) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let same = |new: &Metadata| (new.uid(), new.gid()) == (old.uid(), old.gid());
        if !file.metadata().is_ok_and(|new| same(&new)) {
            let _ = fchown(file, Some(old.uid()), Some(old.gid()));
        }
    }
    let _ = file.set_permissions(old.permissions());
}

fn renaming_failed(target: &Path, error: &std::io::Error) -> Error {
    if error.kind() == ErrorKind::ResourceBusy {
        let operation = format!("renaming over '{}'", target.display());
        let reason =
            format!("{error}: a file that is a mount point cannot be replaced; mount the folder that it is in");
        return Error::Io { operation, reason };
    }
    Error::file("renaming over", target, error)
}

/// File systems that cannot sync a folder say so, and nothing is lost by it.
fn sync_folder(folder: &File) -> std::io::Result<()> {
    match folder.sync_all() {
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// What temporary files of this path have in common. Shortened: the name of a file may be as long as names can be.
fn suffix(name: &OsStr) -> String {
    name.to_string_lossy().chars().take(32).collect()
}

/// A new file with a name of its own, locked as long as it is open. A process that was killed may have had our number and
/// left its file.
fn create_beside(folder: &Path, name: &OsStr) -> Result<(File, Temporary)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut temporary = OsString::from(format!("{PREFIX}{}-{number}-", std::process::id()));
        temporary.push(suffix(name));
        let temporary = folder.join(temporary);
        match File::create_new(&temporary) {
            Ok(file) => {
                // Where files have no locks nobody removes an abandoned one either.
                let _ = file.try_lock();
                return Ok((file, Temporary(temporary)));
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::file("creating", &temporary, &e)),
        }
    }
}

/// Removes the temporary files of this path whose writers are gone: nobody holds their locks. What cannot be read, locked or
/// removed stays.
fn remove_abandoned(folder: &Path, name: &OsStr) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let suffix = suffix(name);
    for entry in entries.filter_map(std::result::Result::ok) {
        let file_name = entry.file_name();
        let Some(process) = file_name.to_str().and_then(|name| writer(name, &suffix)) else { continue };
        // Another thread's of this process may have been created and not locked yet.
        if process == std::process::id() {
            continue;
        }
        // Creating and locking are two calls: an empty file may be one that a living process has just created.
        let written = entry.metadata().is_ok_and(|m| m.is_file() && (m.len() > 0 || !is_alive(process)));
        if written && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The process that wrote a temporary file, if a name is one of a path with this suffix.
fn writer(name: &str, suffix: &str) -> Option<u32> {
    let numbers = name.strip_prefix(PREFIX)?.strip_suffix(suffix)?.strip_suffix('-')?;
    let (process, number) = numbers.split_once('-')?;
    number.parse::<u64>().ok().and(process.parse().ok())
}

/// Whether there is a process of that number, as far as this one can see; true where that cannot be found out.
fn is_alive(process: u32) -> bool {
    !Path::new("/proc/self").exists() || Path::new("/proc").join(process.to_string()).exists()
}

/// Removes itself, unless it was renamed: then the path is empty.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.0);
        }
    }
}
