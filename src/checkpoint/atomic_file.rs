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
    let mut new = Replacement::begin(path)?;
    let mut buffered = BufWriter::with_capacity(BUFFER, &mut new.file);
    let filled = fill(&mut buffered).and_then(|()| buffered.flush().map_err(|e| Error::io("writing", &e)));
    // Whatever a failure left in the buffer is not tried again.
    drop(buffered.into_parts());
    filled.map_err(|e| named(e, &new.temporary.0))?;
    new.finish()
}

/// A failure of `file`, with its name.
pub fn named(error: Error, file: &Path) -> Error {
    match error {
        Error::Io { operation, reason } => Error::Io { operation: format!("{operation} '{}'", file.display()), reason },
        other => other,
    }
}

/// A file that is being written to take the place of another. Dropped, it is removed.
pub struct Replacement {
    target: PathBuf,
    folder: PathBuf,
    file: File,
    temporary: Temporary,
    number: u64,
    old: Option<Metadata>,
}

impl Replacement {
    /// Creates it beside `path`, links followed, with the permissions and owner of a file that is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin(path: &Path) -> Result<Self> {
        let target = followed(path)?;
        let name = file_name(&target, path)?;
        let old = fs::metadata(&target).ok();
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            let operation = format!("replacing '{}'", target.display());
            return Err(Error::Io { operation, reason: "it is not a regular file".to_owned() });
        }
        let folder = folder_of(&target);
        remove_abandoned(&folder, name);
        let (file, temporary, number) = create_beside(&folder, name)?;
        if let Some(old) = &old {
            keep_owner_and_permissions(&file, old);
        }
        Ok(Self { folder, file, temporary, number, target, old })
    }

    /// Lets other processes of the same user open it, also where the old file is read-only.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn let_others_write(&self) -> Result<()> {
        #[cfg(unix)]
        if let Some(old) = self.old.as_ref().filter(|old| old.permissions().readonly()) {
            use std::os::unix::fs::PermissionsExt;
            let writable = fs::Permissions::from_mode(old.permissions().mode() | 0o200);
            let changed = self.file.set_permissions(writable);
            changed.map_err(|e| Error::file("making writable", &self.temporary.0, &e))?;
        }
        Ok(())
    }

    /// What other processes find it by.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// A failure with the name of the file.
    pub fn named(&self, error: Error) -> Error {
        named(error, &self.temporary.0)
    }

    /// Makes it the file, durably.
    ///
    /// # Errors
    /// [`Error::Io`]. Unless the folder could not be synced, the old file is the one that is there then.
    pub fn finish(mut self) -> Result<()> {
        if let Some(old) = self.old.as_ref().filter(|old| old.permissions().readonly()) {
            keep_owner_and_permissions(&self.file, old); // after `let_others_write`
        }
        self.file.sync_all().map_err(|e| Error::file("syncing", &self.temporary.0, &e))?;
        // A folder may allow to write and not to read: then its entry cannot be synced, as for SQLite.
        let opened = match File::open(&self.folder) {
            Ok(opened) => Some(opened),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => None,
            Err(e) => return Err(Error::file("opening", &self.folder, &e)),
        };
        fs::rename(&self.temporary.0, &self.target).map_err(|e| renaming_failed(&self.target, &e))?;
        self.temporary.0 = PathBuf::new();
        drop(self.file); // and its lock, now that it is no temporary file any more
        opened.map_or(Ok(()), |folder| sync_folder(&folder)).map_err(|e| Error::file("syncing", &self.folder, &e))
    }
}

/// The file that another process has begun to replace `path` with, of its process and number; and its name.
///
/// # Errors
/// [`Error::Io`].
pub fn begun_elsewhere(path: &Path, process: u32, number: u64) -> Result<(File, PathBuf)> {
    let target = followed(path)?;
    let file = folder_of(&target).join(temporary_name(process, number, file_name(&target, path)?));
    let opened = File::options().write(true).open(&file).map_err(|e| Error::file("opening", &file, &e))?;
    Ok((opened, file))
}

fn file_name<'a>(target: &'a Path, path: &Path) -> Result<&'a OsStr> {
    target.file_name().ok_or_else(|| Error::range("path", path.display(), "the name of a file"))
}

fn folder_of(target: &Path) -> PathBuf {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
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

fn temporary_name(process: u32, number: u64, name: &OsStr) -> OsString {
    let mut temporary = OsString::from(format!("{PREFIX}{process}-{number}-"));
    temporary.push(suffix(name));
    temporary
}

/// A new file with a name of its own, locked as long as it is open. A process that was killed may have had our number and
/// left its file.
fn create_beside(folder: &Path, name: &OsStr) -> Result<(File, Temporary, u64)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = folder.join(temporary_name(std::process::id(), number, name));
        match File::create_new(&temporary) {
            Ok(file) => {
                // Where files have no locks nobody removes an abandoned one either.
                let _ = file.try_lock();
                return Ok((file, Temporary(temporary), number));
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
