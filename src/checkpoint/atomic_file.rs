//! Replacing a file so that, whatever fails, it is afterwards the old one or the new one, whole.
//!
//! Temporary file in the same folder, fsync, rename over the old, fsync of the folder. A failure that the process
//! survives leaves no temporary file; a process that is killed may leave one (`.metaadamw-…`).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Small pieces are collected up to this many bytes; larger ones go straight through.
const BUFFER: usize = 1 << 16;

/// Writes `path` anew by `fill`, through a small buffer. A symbolic link is followed; the file it leads to is
/// replaced and its permissions are kept.
///
/// # Errors
/// [`Error::Io`] says which operation on which file failed; what `fill` answers.
pub fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
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
    let (mut file, mut temporary) = create_beside(folder, name)?;
    if let Some(old) = old {
        // Some file systems have no permissions: the content matters more.
        let _ = file.set_permissions(old.permissions());
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
    drop(file);
    let opened = File::open(folder).map_err(|e| Error::file("opening", folder, &e))?;
    fs::rename(&temporary.0, &target).map_err(|e| Error::file("renaming over", &target, &e))?;
    temporary.0 = PathBuf::new();
    opened.sync_all().map_err(|e| Error::file("syncing", folder, &e))
}

/// A new file with a name of its own. A process that was killed may have had our number and left its file.
fn create_beside(folder: &Path, name: &std::ffi::OsStr) -> Result<(File, Temporary)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut temporary = OsString::from(format!(".metaadamw-{}-{number}-", std::process::id()));
        // Shortened: the name of a file may be as long as names can be.
        temporary.push(name.to_string_lossy().chars().take(32).collect::<String>());
        let temporary = folder.join(temporary);
        match File::create_new(&temporary) {
            Ok(file) => return Ok((file, Temporary(temporary))),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::file("creating", &temporary, &e)),
        }
    }
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
