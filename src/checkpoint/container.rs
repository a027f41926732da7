//! The container: a safetensors file whose last tensor is the CRC-32 of every byte before it.
//!
//! Header and validation are the safetensors crate's. Data is streamed through one buffer, so that a checkpoint of any
//! size needs no memory of its size; the checksum is taken on the way.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom, Write};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};

/// The one metadata key: a map with more would have no fixed order.
pub const KEY: &str = "metaadamw";
/// Name of the last tensor: U32, one element.
pub const CHECKSUM: &str = "checksum";
/// A header beyond this is refused, as by the safetensors project.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes on their way at a time.
const BUFFER: usize = 1 << 20;

/// A tensor of a checkpoint and where its bytes are.
#[derive(Debug)]
pub struct Entry<S> {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions.
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
}

/// Writes a container. `read(source, offset, buffer)` fills the buffer from a tensor's bytes.
///
/// # Errors
/// What the output answers.
pub fn write<S>(
    out: &mut dyn Write,
    metadata: String,
    entries: &[Entry<S>],
    mut read: impl FnMut(&S, usize, &mut [u8]),
) -> Result<()> {
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

    let mut out = Summed { inner: out, crc: crc32fast::Hasher::new() };
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
    crc: crc32fast::Hasher,
}

impl Summed<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.inner.write_all(bytes).map_err(|e| Error::io("writing", &e))
    }
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
    header: Vec<u8>,
    data_start: u64,
}

impl Container {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// [`Error::Corrupt`] says what is wrong; [`Error::Io`].
    pub fn open(source: &mut dyn Source) -> Result<Self> {
        let size = source.seek(SeekFrom::End(0)).map_err(|e| Error::io("reading", &e))?;
        source.rewind().map_err(|e| Error::io("reading", &e))?;
        let corrupt = |what: String| Error::Corrupt { what };
        if size < 8 {
            return Err(corrupt(format!("it has {size} bytes, fewer than the 8 of the header's length")));
        }
        let mut length = [0; 8];
        read_exact(source, &mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length > size - 8 {
            return Err(corrupt(format!("its header claims {length} bytes, the file has {size}")));
        }
        let mut header = vec![0; usize::try_from(length).expect("64-bit")];
        read_exact(source, &mut header)?;
        let text = std::str::from_utf8(&header).map_err(|_| corrupt("its header is not UTF-8".to_owned()))?;
        let names = serde_json::from_str::<Names>(text).map_err(|e| corrupt(format!("its header: {e}")))?.0;
        let mut seen = HashSet::with_capacity(names.len());
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(corrupt(format!("its header names '{twice}' twice")));
        }
        let parsed: Metadata = serde_json::from_str(text).map_err(|e| corrupt(format!("its header: {e}")))?;
        let data_start = 8 + length;
        if parsed.data_len() as u64 != size - data_start {
            return Err(corrupt(format!(
                "its header describes {} bytes of data, the file has {}",
                parsed.data_len(),
                size - data_start
            )));
        }
        let metadata = parsed.metadata().as_ref().and_then(|m| m.get(KEY)).cloned();
        let metadata = metadata.ok_or_else(|| corrupt(format!("it has no metadata '{KEY}': not a checkpoint")))?;
        let mut entries: Vec<(usize, usize, Entry<()>)> = parsed
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (start, end) = info.data_offsets;
                (start, end, Entry { name, dtype: info.dtype, shape: info.shape.clone(), source: () })
            })
            .collect();
        entries.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
        let mut entries: Vec<_> = entries.into_iter().map(|(_, _, entry)| entry).collect();
        match entries.pop() {
            Some(last) if last.name == CHECKSUM && last.dtype == Dtype::U32 && last.shape == [1] => {}
            _ => return Err(corrupt(format!("its last tensor is not '{CHECKSUM}'"))),
        }
        let header = [&length.to_le_bytes()[..], &header].concat();
        Ok(Self { metadata, entries, header, data_start })
    }

    /// Reads all data once: `each(entry, offset, bytes)`; then compares the checksum.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a wrong checksum; [`Error::Io`]; what `each` answers.
    pub fn stream(
        &self,
        source: &mut dyn Source,
        mut each: impl FnMut(&Entry<()>, usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.header);
        source.seek(SeekFrom::Start(self.data_start)).map_err(|e| Error::io("reading", &e))?;
        let largest = self.entries.iter().map(Entry::bytes).max().unwrap_or(0);
        let mut buffer = vec![0; BUFFER.min(largest)];
        for entry in &self.entries {
            for start in (0..entry.bytes()).step_by(BUFFER) {
                let part = &mut buffer[..BUFFER.min(entry.bytes() - start)];
                read_exact(source, part)?;
                crc.update(part);
                each(entry, start, part)?;
            }
        }
        let mut stored = [0; 4];
        read_exact(source, &mut stored)?;
        if crc.finalize() == u32::from_le_bytes(stored) {
            Ok(())
        } else {
            Err(Error::Corrupt { what: "its checksum does not match its contents".to_owned() })
        }
    }
}

fn read_exact(source: &mut dyn Source, buffer: &mut [u8]) -> Result<()> {
    source.read_exact(buffer).map_err(|e| Error::io("reading", &e))
}

/// The keys of the header's object, with repetitions: a map would keep the last of them and say nothing.
struct Names(Vec<String>);

impl<'de> serde::Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Names;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
