//! Saving and loading, as a host asks for them. What a file holds is in `checkpoint/`.

use std::path::Path;

use super::Optimizer;
use super::prepared::Prepared;
use crate::checkpoint::{self, Contents, OnConflict};
use crate::error::Result;

impl Optimizer {
    /// Writes the run, or the attention module alone, to a file; durable when it returns.
    ///
    /// # Errors
    /// An open meta-update; [`crate::Error::Io`]. The file is the old one then.
    pub fn save_file(&mut self, path: &Path, contents: Contents) -> Result<()> {
        self.between_steps(|p| checkpoint::save_file(p.registration, p.run, p.meta, path, contents))
    }

    /// The same as bytes.
    ///
    /// # Errors
    /// An open meta-update; no memory.
    pub fn save_bytes(&mut self, contents: Contents) -> Result<Vec<u8>> {
        self.between_steps(|p| checkpoint::save_bytes(p.registration, p.run, p.meta, contents))
    }

    /// Reads a run, or the attention module alone, from a file. What the file's values replaced is logged.
    ///
    /// # Errors
    /// As for [`Self::load_bytes`], and [`crate::Error::Io`].
    pub fn load_file(&mut self, path: &Path, contents: Contents, on_conflict: OnConflict) -> Result<()> {
        self.between_steps(|p| {
            let taken = checkpoint::load_file(p.registration, p.run, p.meta, path, contents, on_conflict)?;
            p.log_taken(&taken);
            Ok(())
        })
    }

    /// The same from bytes.
    ///
    /// # Errors
    /// An open meta-update; [`crate::Error::Corrupt`]; [`crate::Error::Mismatch`] lists the first differences. Nothing is
    /// changed.
    pub fn load_bytes(&mut self, bytes: &[u8], contents: Contents, on_conflict: OnConflict) -> Result<()> {
        self.between_steps(|p| {
            let taken = checkpoint::load_bytes(p.registration, p.run, p.meta, bytes, contents, on_conflict)?;
            p.log_taken(&taken);
            Ok(())
        })
    }

    /// Work on a prepared optimizer without an open meta-update.
    fn between_steps<T>(&mut self, work: impl FnOnce(&mut Prepared) -> Result<T>) -> Result<T> {
        self.with_prepared(|mut p| {
            p.between_meta_updates()?;
            p.sync()?;
            work(&mut p)
        })
    }
}

impl Prepared<'_> {
    /// Tells of settings that a file's took the place of. What was loaded is loaded: without memory it is not told.
    fn log_taken(&mut self, taken: &[String]) {
        let _ = self.within(8, |p| {
            p.log.taken_from_file(taken);
            Ok(())
        });
    }
}
