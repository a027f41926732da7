//! Saving and loading, as a host asks for them. What a file holds is in `checkpoint/`.

use std::path::Path;

use super::Optimizer;
use super::prepared::Prepared;
use crate::checkpoint::{self, Contents, LoadOptions, LoadReport};
use crate::error::Result;
use crate::reserve::{self, sum, times};

impl Optimizer {
    /// Writes the run, or the attention module alone, to a file; durable when it returns.
    ///
    /// # Errors
    /// An open meta-update; [`crate::Error::Io`]. The file is the old one then.
    pub fn save_file(&mut self, path: &Path, contents: Contents) -> Result<()> {
        if self.has_shards() && contents == Contents::Run {
            let save = |p: &mut Prepared| checkpoint::save_together(p.registration, p.run, p.meta, path);
            return self.together(|optimizer| optimizer.between_steps(save));
        }
        self.between_steps(|p| checkpoint::save_file(p.registration, p.run, p.meta, path, contents))
    }

    /// The same as bytes.
    ///
    /// # Errors
    /// An open meta-update; no memory.
    pub fn save_bytes(&mut self, contents: Contents) -> Result<Vec<u8>> {
        if contents == Contents::Run {
            self.refuse_shards("a checkpoint as bytes")?;
        }
        self.between_steps(|p| checkpoint::save_bytes(p.registration, p.run, p.meta, contents))
    }

    /// Reads a run, or the attention module alone, from a file. What the file's values replaced, and what a partial load left
    /// out, is logged.
    ///
    /// # Errors
    /// As for [`Self::load_bytes`], and [`crate::Error::Io`].
    pub fn load_file(&mut self, path: &Path, contents: Contents, options: impl Into<LoadOptions>) -> Result<()> {
        let options = options.into();
        self.load(|p| checkpoint::load_file(p.registration, p.run, p.meta, path, contents, options))
    }

    /// The same from bytes.
    ///
    /// # Errors
    /// An open meta-update; [`crate::Error::Corrupt`]; [`crate::Error::Mismatch`] lists the first differences. Nothing is
    /// changed.
    pub fn load_bytes(&mut self, bytes: &[u8], contents: Contents, options: impl Into<LoadOptions>) -> Result<()> {
        let options = options.into();
        self.load(|p| checkpoint::load_bytes(p.registration, p.run, p.meta, bytes, contents, options))
    }

    fn load(&mut self, work: impl FnOnce(&mut Prepared) -> Result<LoadReport>) -> Result<()> {
        self.load_report = self.together(|optimizer| {
            optimizer.between_steps(|p| {
                let report = work(p)?;
                p.log_loaded(&report);
                Ok(report)
            })
        })?;
        Ok(())
    }

    /// What the last load did not take as it was.
    #[must_use]
    pub fn load_report(&self) -> &LoadReport {
        &self.load_report
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
    /// Tells of settings that a file's took the place of, and of what it and the optimizer do not both have. What was loaded
    /// is loaded: without memory it is not told.
    fn log_loaded(&mut self, report: &LoadReport) {
        let names =
            [&report.missing_tensors, &report.unexpected_tensors, &report.missing_groups, &report.unexpected_groups];
        let names = names.into_iter().flatten().map(|name| name.as_str().len()).fold(0, usize::saturating_add);
        let memory = sum([times(8, self.run.memory(self.registration)), times(4, names), 4 << 10]);
        let _ = reserve::with(memory, || {
            self.log.loaded(report);
            Ok(())
        });
    }
}
