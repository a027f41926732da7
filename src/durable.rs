//! Replacing a file so that, whatever fails, it is afterwards the old one or the new one, whole.
//!
//! Temporary file in the same folder, fsync, rename over the old, fsync of the folder. A failure that the process
//! survives leaves no temporary file.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Writes `path` anew by `fill`. A symbolic link is followed; the file it leads to is replaced.
///
/// # Errors
/// [`Error::Io`] says which operation on which file failed; what `fill` answers.
pub fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = target.file_name().ok_or_else(|| Error::range("path", path.display(), "the name of a file"))?;
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".tmp-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let temporary = Temporary(folder.join(temporary));

    let mut file = File::create_new(&temporary.0).map_err(|e| Error::file("creating", &temporary.0, &e))?;
    let mut buffered = BufWriter::new(&mut file);
    fill(&mut buffered)?;
    buffered.flush().map_err(|e| Error::file("writing", &temporary.0, &e))?;
    drop(buffered);
    file.sync_all().map_err(|e| Error::file("syncing", &temporary.0, &e))?;
    drop(file);
    fs::rename(&temporary.0, &target).map_err(|e| Error::file("renaming over", &target, &e))?;
    std::mem::forget(temporary);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| Error::file("syncing", folder, &e))
}

/// Removes itself, unless it was renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
