//! Parses and rebuilds a checkpoint, with a valid checksum, from docs/checkpoint_format.md alone; for tests of modified
//! files.

use serde_json::{Map, Value, json};

#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

/// Everything but the checksum, which `bytes` adds.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub description: Value,
    pub parts: Vec<Part>,
}

/// The header and the data of a safetensors file.
pub fn split(file: &[u8]) -> (Value, &[u8]) {
    let (length, rest) = file.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
    let header = serde_json::from_slice(&rest[..length]).expect("a header is JSON");
    (header, &rest[length..])
}

/// A file of this header and data; the last four bytes become the checksum.
pub fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    checksummed([&(header.len() as u64).to_le_bytes()[..], header, data].concat())
}

pub fn checksummed(mut file: Vec<u8>) -> Vec<u8> {
    let at = file.len() - 4;
    let crc = crc32(&file[..at]);
    file[at..].copy_from_slice(&crc.to_le_bytes());
    file
}

/// CRC-32 as in zip and PNG, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

impl Checkpoint {
    pub fn parse(file: &[u8]) -> Self {
        let (header, data) = split(file);
        let header = header.as_object().expect("a header is an object");
        let text = header["__metadata__"]["metaadamw"].as_str().expect("a description");
        let mut parts: Vec<(u64, Part)> = Vec::new();
        for (name, info) in header.iter().filter(|(name, _)| !["__metadata__", "checksum"].contains(&name.as_str())) {
            let offset = |i: usize| info["data_offsets"][i].as_u64().expect("an offset");
            let shape =
                info["shape"].as_array().expect("a shape").iter().map(|n| n.as_u64().expect("a length")).collect();
            let bytes = data[offset(0) as usize..offset(1) as usize].to_vec();
            let dtype = info["dtype"].as_str().expect("a dtype").to_owned();
            parts.push((offset(0), Part { name: name.clone(), dtype, shape, bytes }));
        }
        parts.sort_by_key(|(offset, _)| *offset);
        let parts = parts.into_iter().map(|(_, part)| part).collect();
        Self { description: serde_json::from_str(text).expect("a description is JSON"), parts }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let (mut header, mut data) = (Map::new(), Vec::new());
        header.insert("__metadata__".into(), json!({ "metaadamw": self.description.to_string() }));
        let mut add = |name: &str, dtype: &str, shape: &[u64], bytes: &[u8]| {
            let start = data.len();
            data.extend_from_slice(bytes);
            header.insert(name.into(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] }));
        };
        for part in &self.parts {
            add(&part.name, &part.dtype, &part.shape, &part.bytes);
        }
        add("checksum", "U32", &[1], &[0; 4]);
        file(Value::Object(header).to_string().as_bytes(), &data)
    }

    pub fn part(&mut self, name: &str) -> &mut Part {
        self.parts.iter_mut().find(|part| part.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// The same with one float64 of one tensor changed.
    pub fn with_float(&self, name: &str, index: usize, value: f64) -> Self {
        let mut other = self.clone();
        other.part(name).bytes[8 * index..8 * index + 8].copy_from_slice(&value.to_le_bytes());
        other
    }

    /// The same with something in the description changed.
    pub fn with(&self, change: impl FnOnce(&mut Value)) -> Self {
        let mut other = self.clone();
        change(&mut other.description);
        other
    }
}
