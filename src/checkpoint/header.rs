//! The header of a safetensors file, read with suspicion: what does not fit is refused, and no text, however it was made,
//! leads to more memory than a fixed number of entries.

use std::collections::HashSet;
use std::fmt::Formatter;
use std::marker::PhantomData;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::container::{CHECKSUM, Entry, KEY};
use crate::error::{Error, Remedy, Result};

/// Dimensions of a tensor, at most.
const MAX_DIMENSIONS: usize = 64;

/// The metadata under [`KEY`], and the tensors but the checksum in the order of their data, which is `data` bytes long.
///
/// # Errors
/// [`Error::Corrupt`]; [`Error::Mismatch`] for more than `most` tensors.
pub fn parse(text: &str, data: u64, most: usize) -> Result<(String, Vec<Entry<()>>)> {
    let corrupt = |what: String| Error::Corrupt { what };
    if !text.starts_with('{') {
        return Err(corrupt("its header does not begin with '{'".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let header = Header { most }.deserialize(&mut json).and_then(|header| json.end().map(|()| header));
    let Parsed { metadata, mut tensors, count } = header.map_err(|e| corrupt(format!("its header: {e}")))?;
    let text = match metadata {
        Some(Described { text: Some(text), others: false }) => text,
        Some(Described { text: Some(_), others: true }) => {
            return Err(corrupt(format!("it has metadata beside '{KEY}'")));
        }
        _ => return Err(corrupt(format!("it has no metadata '{KEY}': not a checkpoint"))),
    };
    if count > most {
        return Err(Error::Mismatch {
            what: format!("{count} tensors in the file, at most {most} expected"),
            remedy: Remedy::Register,
        });
    }
    let mut seen = HashSet::with_capacity(tensors.len());
    if let Some((twice, _)) = tensors.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        return Err(corrupt(format!("its header names '{twice}' twice")));
    }
    tensors.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
    let entries = lay_out(tensors, data).map_err(corrupt)?;
    Ok((text, entries))
}

/// Each tensor must begin where the one before it ends, and be as long as its shape says.
fn lay_out(tensors: Vec<(String, Info)>, data: u64) -> std::result::Result<Vec<Entry<()>>, String> {
    let mut end = 0;
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, Info { dtype, shape: Dimensions(shape), data_offsets: (from, to) }) in tensors {
        if from != end || to < from {
            return Err(format!("the data of '{name}' is at {from} to {to}, expected from {end} on"));
        }
        let bits = shape.iter().try_fold(1_usize, |n, length| n.checked_mul(*length));
        let bits = bits.and_then(|n| n.checked_mul(dtype.bitsize()));
        if bits.is_none_or(|bits| !bits.is_multiple_of(8) || bits as u64 / 8 != to - from) {
            return Err(format!("'{name}' has {} bytes of data, which is not a {dtype:?} of {shape:?}", to - from));
        }
        end = to;
        entries.push(Entry { name, dtype, shape, source: () });
    }
    if end != data {
        return Err(format!("its header describes {end} bytes of data, the file has {data}"));
    }
    match entries.pop() {
        Some(last) if last.name == CHECKSUM && last.dtype == Dtype::U32 && last.shape == [1] => Ok(entries),
        _ => Err(format!("its last tensor is not '{CHECKSUM}'")),
    }
}

/// What the header says of one tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: Dtype,
    shape: Dimensions<usize>,
    data_offsets: (u64, u64),
}

struct Parsed {
    metadata: Option<Described>,
    /// The first of them.
    tensors: Vec<(String, Info)>,
    /// All of them, but the checksum.
    count: usize,
}

/// An object of tensors, the first `most` (and the checksum) of which are returned.
struct Header {
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Header {
    type Value = Parsed;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Parsed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Header {
    type Value = Parsed;
    fn expecting(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Parsed, A::Error> {
        let mut parsed = Parsed { metadata: None, tensors: Vec::new(), count: 0 };
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if parsed.metadata.replace(map.next_value()?).is_some() {
                    return Err(A::Error::custom("__metadata__ is there twice"));
                }
                continue;
            }
            let info = map.next_value()?;
            parsed.count += usize::from(name != CHECKSUM);
            if parsed.tensors.len() <= self.most {
                parsed.tensors.push((name, info));
            }
        }
        Ok(parsed)
    }
}

/// The metadata: ours, and whether there is anything else.
struct Described {
    text: Option<String>,
    others: bool,
}

impl<'de> Deserialize<'de> for Described {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Described;
            fn expecting(&self, f: &mut Formatter) -> std::fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Described, A::Error> {
                let mut found = Described { text: None, others: false };
                while let Some(key) = map.next_key::<String>()? {
                    if key != KEY {
                        let _: IgnoredAny = map.next_value()?;
                        found.others = true;
                        continue;
                    }
                    let text: &RawValue = map.next_value()?;
                    let text = unescape(text.get()).ok_or_else(|| A::Error::custom("its description is no text"))?;
                    if found.text.replace(text).is_some() {
                        return Err(A::Error::custom("a key of __metadata__ is there twice"));
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// The text of a JSON string. By hand, since a reader that does not know how long it becomes takes up to twice the memory.
fn unescape(json: &str) -> Option<String> {
    let mut rest = json.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(rest.len());
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let letter = *rest.as_bytes().get(at + 1)?;
        if matches!(letter, b'"' | b'\\' | b'/') {
            text.push(char::from(letter));
            rest = &rest[at + 2..];
            continue;
        }
        // A pair of surrogates (\uD800 to \uDFFF) is two escapes.
        let surrogate = rest
            .get(at + 2..at + 4)
            .is_some_and(|code| matches!(code.as_bytes(), [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F']));
        let length = match letter {
            b'u' if surrogate => 12,
            b'u' => 6,
            _ => 2,
        };
        let escaped = rest.get(at..at + length)?;
        text.push(serde_json::from_str(&format!("\"{escaped}\"")).ok()?);
        rest = &rest[at + escaped.len()..];
    }
    text.push_str(rest);
    Some(text)
}

/// Lengths of a tensor's dimensions.
#[derive(Debug, PartialEq)]
pub struct Dimensions<N>(pub Vec<N>);

impl<'de, N: Deserialize<'de>> Deserialize<'de> for Dimensions<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (lengths, count) = First::new(MAX_DIMENSIONS).deserialize(deserializer)?;
        if count > MAX_DIMENSIONS {
            return Err(D::Error::custom(format!("{count} dimensions, more than {MAX_DIMENSIONS}")));
        }
        Ok(Self(lengths))
    }
}

/// The first elements of an array, and the number of all.
pub struct First<T> {
    most: usize,
    kind: PhantomData<T>,
}

impl<T> First<T> {
    pub fn new(most: usize) -> Self {
        Self { most, kind: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for First<T> {
    type Value = (Vec<T>, usize);
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
    type Value = (Vec<T>, usize);
    fn expecting(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
        let (mut first, mut count) = (Vec::new(), 0);
        loop {
            if count < self.most {
                let Some(element) = seq.next_element()? else { break };
                first.push(element);
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
            count += 1;
        }
        Ok((first, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_means_what_the_json_reader_says() {
        let strings = [
            "",
            "a",
            "é\u{1F980}",
            "\"",
            "\\",
            "\\\"",
            "\n\t\r\u{8}\u{c}\u{1}",
            "/",
            "a\\u0041",
            "\u{7f}\u{d7ff}\u{e000}\u{10ffff}",
        ];
        for text in strings {
            let json = serde_json::to_string(text).expect("a string");
            assert_eq!(unescape(&json).as_deref(), Some(text), "{json}");
        }
        for json in [r#""\u0041\/\ud83e\udd80x""#, r#""\uD7FF\uE000\uDBFF\uDFFF""#] {
            assert_eq!(unescape(json), serde_json::from_str(json).ok(), "{json}");
        }
        for json in [
            "1",
            "{}",
            r#""\ud800""#,
            r#""\ud800x""#,
            r#""\udc00\ud800""#,
            r#""\ud800\u0041""#,
            r#""\u12""#,
            r#""\x""#,
            "\"",
        ] {
            assert_eq!(unescape(json), None, "{json}");
        }
    }
}
