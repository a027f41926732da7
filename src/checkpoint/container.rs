//! The container: a safetensors file whose last tensor is the CRC-32 of every byte before it.
//!
//! Data is streamed through one buffer, so that a checkpoint of any size needs no memory of its size; the checksum is
//! taken on the way. The header is read by `header.rs`, in memory that hostile text cannot drive up.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom, Write};

use crc32fast::Hasher;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::header;
use crate::error::{Error, Result};

/// The one metadata key: a map with more would have no fixed order.
pub const KEY: &str = "metaadamw";
/// Name of the last tensor: U32, one element.
pub const CHECKSUM: &str = "checksum";
/// A header beyond this is refused, as by the safetensors project.
pub const MAX_HEADER: u64 = 100_000_000;
/// Bytes on their way at a time: they stay in the second-level cache.
const BUFFER: usize = 1 << 18;

/// What is allocated at most to read or write the data of a checkpoint, whatever its size.
pub const MEMORY_OF_DATA: usize = 4 * BUFFER;

/// A tensor of a checkpoint and where its bytes are.
#[derive(Debug)]
pub struct Entry<S> {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions. Their product does not overflow.
    pub shape: Vec<usize>,
    /// What it is made of.
    pub source: S,
}

impl<S> Entry<S> {
    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }

    /// Its name, dtype and shape alone.
    #[must_use]
    pub fn outline(self) -> Entry<()> {
        Entry { name: self.name, dtype: self.dtype, shape: self.shape, source: () }
    }
}

/// The header of a container, padded as its data wants it.
///
/// # Errors
/// [`Error::Unsupported`]: no reader would take it.
pub fn header<S>(metadata: String, entries: &[Entry<S>]) -> Result<Vec<u8>> {
    let mut end = 0;
    let mut infos = Vec::with_capacity(entries.len() + 1);
    let mut place = |dtype, shape: &[usize], bytes: usize| {
        let start = end;
        end += bytes;
        TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (start, end) }
    };
    for entry in entries {
        infos.push((entry.name.clone(), place(entry.dtype, &entry.shape, entry.bytes())));
    }
    infos.push((CHECKSUM.to_owned(), place(Dtype::U32, &[1], 4)));
    let metadata =
        Metadata::new(Some(HashMap::from([(KEY.to_owned(), metadata)])), infos).expect("offsets follow one another");
    let mut header = serde_json::to_vec(&metadata).expect("strings and numbers");
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > MAX_HEADER {
        let what =
            format!("a model whose checkpoints have a header of {} bytes, more than {MAX_HEADER},", header.len());
        return Err(Error::Unsupported { what });
    }
    Ok(header)
}

/// Writes a container. `read(source, offset, buffer)` fills the buffer from a tensor's bytes.
///
/// # Errors
/// What the output answers; a header that no reader would take.
pub fn write<S>(
    out: &mut dyn Write,
    metadata: String,
    entries: &[Entry<S>],
    mut read: impl FnMut(&S, usize, &mut [u8]),
) -> Result<()> {
    let header = header(metadata, entries)?;
    let mut out = Summed { inner: out, crc: Hasher::new() };
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut buffer = vec![0; BUFFER];
    for entry in entries {
        for start in (0..entry.bytes()).step_by(BUFFER) {
            let part = &mut buffer[..BUFFER.min(entry.bytes() - start)];
            read(&entry.source, start, part);
            out.write_all(part)?;
        }
    }
    let crc = out.crc.clone().finalize();
    out.write_all(&crc.to_le_bytes())
}

struct Summed<'a> {
    inner: &'a mut dyn Write,
    crc: Hasher,
}

impl Summed<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.inner.write_all(bytes).map_err(|e| Error::io("writing", &e))
    }
}

/// The length that a container's header has, as far as there can be one: 0 for what is none.
///
/// # Errors
/// [`Error::Io`].
pub fn header_length(source: &mut dyn Source) -> Result<usize> {
    let size = source.seek(SeekFrom::End(0)).map_err(|e| Error::io("reading", &e))?;
    source.rewind().map_err(|e| Error::io("reading", &e))?;
    let mut length = [0; 8];
    if size < 8 {
        return Ok(0);
    }
    read_exact(source, &mut length)?;
    let length = u64::from_le_bytes(length);
    Ok(if length > MAX_HEADER.min(size - 8) { 0 } else { length as usize })
}

/// What a container is read from.
pub trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// An opened container: its header has been checked, its data not yet.
#[derive(Debug)]
pub struct Container {
    /// The text under [`KEY`].
    pub metadata: String,
    /// Every tensor but the checksum, in the order of the data.
    pub entries: Vec<Entry<()>>,
    /// Of everything before the data.
    crc: Hasher,
    data_start: u64,
}

impl Container {
    /// Reads and checks the header. A file of more than `most` tensors is a [`Error::Mismatch`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] says what is wrong; [`Error::Io`].
    pub fn open(source: &mut dyn Source, most: usize) -> Result<Self> {
        let size = source.seek(SeekFrom::End(0)).map_err(|e| Error::io("reading", &e))?;
        source.rewind().map_err(|e| Error::io("reading", &e))?;
        let corrupt = |what: String| Error::Corrupt { what };
        if size < 8 {
            return Err(corrupt(format!("it has {size} bytes, fewer than the 8 of the header's length")));
        }
        let mut length = [0; 8];
        read_exact(source, &mut length)?;
        let mut crc = Hasher::new();
        crc.update(&length);
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length > size - 8 {
            return Err(corrupt(format!("its header claims {length} bytes, the file has {size}")));
        }
        let mut text = vec![0; usize::try_from(length).expect("64-bit")];
        read_exact(source, &mut text)?;
        crc.update(&text);
        let text = std::str::from_utf8(&text).map_err(|_| corrupt("its header is not UTF-8".to_owned()))?;
        let (metadata, entries) = header::parse(text, size - 8 - length, most)?;
        Ok(Self { metadata, entries, crc, data_start: 8 + length })
    }

    /// Reads all data once: `each(entry, offset, bytes)`; then compares the checksum, and answers it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a wrong checksum; [`Error::Io`].
    pub fn stream(&self, source: &mut dyn Source, mut each: impl FnMut(&Entry<()>, usize, &[u8])) -> Result<u32> {
        let mut crc = self.crc.clone();
        source.seek(SeekFrom::Start(self.data_start)).map_err(|e| Error::io("reading", &e))?;
        let largest = self.entries.iter().map(Entry::bytes).max().unwrap_or(0);
        let mut buffer = vec![0; BUFFER.min(largest)];
        for entry in &self.entries {
            for start in (0..entry.bytes()).step_by(BUFFER) {
                let part = &mut buffer[..BUFFER.min(entry.bytes() - start)];
                read_exact(source, part)?;
                crc.update(part);
                each(entry, start, part);
            }
        }
        let mut stored = [0; 4];
        read_exact(source, &mut stored)?;
        let crc = crc.finalize();
        if crc == u32::from_le_bytes(stored) {
            Ok(crc)
        } else {
            Err(Error::Corrupt { what: "its checksum does not match its contents".to_owned() })
        }
    }
}

fn read_exact(source: &mut dyn Source, buffer: &mut [u8]) -> Result<()> {
    source.read_exact(buffer).map_err(|e| Error::io("reading", &e))
}
