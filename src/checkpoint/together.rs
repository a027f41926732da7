//! One file that several processes write together, each the part of the model that it has: the bytes of a single process.
//!
//! In stages, after each of which all processes meet: if one fails, all do, and the file is the old one. The process that has
//! the first chunk of the model creates the new file, writes what all have alike, the checksum, and renames.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use crc32fast::Hasher;

use super::atomic_file::{Replacement, begun_elsewhere, named};
use super::container::{self, Entry};
use super::{Contents, From, Saved, memory_to_save, read_source};
use crate::backend::{Part, TextHash};
use crate::error::{Error, Result};
use crate::meta::Meta;
use crate::model::groups::Shard;
use crate::model::registration::Registration;
use crate::reserve;
use crate::run::Run;

const CHUNK: usize = Shard::ALIGNMENT as usize;

/// In the order of the numbers that processes share of a chunk.
const PARTS: [Part; 4] = [Part::ExpAvg, Part::ExpAvgSq, Part::Master, Part::Average];

/// Writes the run to a file that all processes see under this path; durable when it returns on all.
///
/// # Errors
/// [`Error::Io`]; [`Error::Reduction`]. The file is the old one then, but if only the last meeting failed.
pub(crate) fn save_together(registration: &Registration, run: &mut Run, meta: &Meta, path: &Path) -> Result<()> {
    meet(registration, run, meta)?;
    let first = registration.tensors.iter().position(|tensor| tensor.whole_numel > 0);
    let writes_rest = first.is_some_and(|i| registration.tensors[i].numel > 0 && registration.tensors[i].offset == 0);

    let layout = reserve::with(memory_to_save(registration, run), || Layout::new(Saved { registration, run, meta }));
    let begun = match (layout, first) {
        (Err(error), _) => Err(error),
        (_, None) => Err(Error::Unsupported { what: "a checkpoint of shards without elements".to_owned() }),
        (Ok(layout), Some(_)) if writes_rest => Replacement::begin(path).and_then(|new| {
            new.let_others_write()?;
            Ok((layout, Some(new)))
        }),
        (Ok(layout), Some(_)) => Ok((layout, None)),
    };
    let number = begun.as_ref().ok().and_then(|(_, new)| new.as_ref()).map_or(0, Replacement::number);
    let name = [f64::from(std::process::id()), (number >> 32) as f64, f64::from(number as u32), 0.0];
    let in_first = |tensor: usize, chunk: usize| Some(tensor) == first && chunk == 0;
    let (layout, mut new) = run.share(registration, format_args!("new file"), begun, &mut |tensor, chunk| {
        if in_first(tensor, chunk) { name } else { [0.0; 4] }
    })?;

    let [process, high, low, _] = run.shared(first.unwrap_or(0), 0);
    let mut sums = Vec::new();
    let written = match &mut new {
        Some(new) => layout.write_rest(new.file()).map_err(|e| new.named(e)).and_then(|()| {
            let file = new.file().try_clone().map_err(|e| new.named(Error::io("opening", &e)));
            file.map(|file| (file, None))
        }),
        None => begun_elsewhere(path, process as u32, (high as u64) << 32 | low as u64)
            .map(|(file, name)| (file, Some(name))),
    };
    let written = written.and_then(|(mut file, name)| {
        layout.write_own(registration, run, &mut file, &mut sums).map_err(|e| match (&name, &new) {
            (Some(name), _) => named(e, name),
            (None, Some(new)) => new.named(e),
            (None, None) => e,
        })
    });
    let mut sums = sums.into_iter();
    run.share(registration, format_args!("parts"), written, &mut |_, _| {
        sums.next().map_or([0.0; 4], |sums: [u32; 4]| sums.map(f64::from))
    })?;

    let finished = new.map_or(Ok(()), |mut new| {
        let checksum = layout.checksum(registration, |tensor, chunk| run.shared(tensor, chunk));
        let written = write_at(new.file(), layout.end, &checksum.to_le_bytes());
        written.map_err(|e| new.named(e)).and_then(|()| new.finish())
    });
    run.share(registration, format_args!("done"), finished, &mut |_, _| [0.0; 4])
}

/// The processes find out whether they would write the same file, and get the sums of their masters.
fn meet(registration: &Registration, run: &mut Run, meta: &Meta) -> Result<()> {
    let known: Vec<bool> = reserve::with(registration.tensors.len(), || {
        Ok((0..registration.tensors.len()).map(|i| run.master_sum(i).is_some()).collect())
    })?;
    // On some they may be current, and on others, where a call failed later, kept.
    let summed = run.recall_master_sums();
    let known = TextHash::of_numbers(known.iter().map(|flag| u64::from(*flag)));
    let call = (known, summed, meta.counters(run));
    run.meet(registration, format_args!("save {call:?}"), None)?;
    if summed {
        run.take_reduced_master_sums();
    }
    Ok(())
}

/// What is where in the file.
struct Layout {
    /// The header's length and text.
    head: Vec<u8>,
    /// With the first byte in the file.
    entries: Vec<(usize, Entry<From>)>,
    /// Where the checksum is.
    end: usize,
}

impl Layout {
    fn new(saved: Saved) -> Result<Self> {
        let (text, entries) = saved.contents(Contents::Run);
        let header = container::header(text, &entries)?;
        let head = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
        let mut end = head.len();
        let entries = entries.into_iter().map(|entry| {
            let start = end;
            end += entry.bytes();
            (start, entry)
        });
        let entries = entries.collect();
        Ok(Self { head, entries, end })
    }

    /// What all processes have alike, and the file's length.
    fn write_rest(&self, file: &mut File) -> Result<()> {
        file.set_len(self.end as u64 + 4).map_err(|e| Error::io("writing", &e))?;
        write_at(file, 0, &self.head)?;
        for (start, entry) in &self.entries {
            if let From::Values(bytes) = &entry.source {
                write_at(file, *start, bytes)?;
            }
        }
        Ok(())
    }

    /// What this process has of the state, durably. `sums`: the checksums of its chunks, in the order of the tensors.
    fn write_own(
        &self,
        registration: &Registration,
        run: &Run,
        file: &mut File,
        sums: &mut Vec<[u32; 4]>,
    ) -> Result<()> {
        let tensors = &registration.tensors;
        let mut first: Vec<usize> = reserve::defaults(tensors.len())?;
        let mut end = 0;
        for (first, tensor) in first.iter_mut().zip(tensors) {
            *first = end;
            end += tensor.numel.div_ceil(CHUNK);
        }
        *sums = reserve::defaults(end)?;
        let mut buffer: Vec<u8> = reserve::defaults(CHUNK * 8)?;
        for (start, entry) in &self.entries {
            let From::State(part, index) = entry.source else { continue };
            let (tensor, size) = (&registration.tensors[index], entry.dtype.bitsize() / 8);
            for (i, elements) in chunks(tensor.numel).enumerate() {
                let bytes = &mut buffer[..elements.len() * size];
                read_source(run, &entry.source, elements.start * size, bytes);
                write_at(file, start + (tensor.offset + elements.start) * size, bytes)?;
                sums[first[index] + i][place(part)] = crc32fast::hash(bytes);
            }
        }
        run.backend.health()?;
        file.sync_all().map_err(|e| Error::io("syncing", &e))
    }

    /// That of the whole file, from those of its pieces.
    fn checksum(&self, registration: &Registration, mut shared: impl FnMut(usize, usize) -> [f64; 4]) -> u32 {
        let mut crc = Hasher::new();
        crc.update(&self.head);
        for (_, entry) in &self.entries {
            match &entry.source {
                From::Values(bytes) => crc.update(bytes),
                From::State(part, index) => {
                    let size = entry.dtype.bitsize() / 8;
                    for (chunk, elements) in chunks(registration.tensors[*index].whole_numel).enumerate() {
                        let sum = shared(*index, chunk)[place(*part)] as u32;
                        crc.combine(&Hasher::new_with_initial_len(sum, (elements.len() * size) as u64));
                    }
                }
            }
        }
        crc.finalize()
    }
}

fn place(part: Part) -> usize {
    PARTS.iter().position(|known| *known == part).expect("all are there")
}

/// Elements of a tensor, or of a part of one, chunk by chunk.
fn chunks(numel: usize) -> impl Iterator<Item = Range<usize>> {
    (0..numel).step_by(CHUNK).map(move |start| start..numel.min(start + CHUNK))
}

fn write_at(file: &mut File, offset: usize, bytes: &[u8]) -> Result<()> {
    let written = file.seek(SeekFrom::Start(offset as u64)).and_then(|_| file.write_all(bytes));
    written.map_err(|e| Error::io("writing", &e))
}
