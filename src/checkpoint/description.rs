//! The text in the metadata: all of a checkpoint that is not a float.
//!
//! With visitors of its own instead of `derive`, so that lists longer than the optimizer's are counted and not stored.

use std::fmt::Formatter;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::header::{Dimensions, First};
use super::{Contents, FORMAT_VERSION};
use crate::error::{Error, Result};
use crate::model::dtype::{DType, Precision};
use crate::model::report::Counters;

/// Options are about 40.
const MOST_OPTIONS: usize = 256;
/// Their words are shorter.
const LONGEST_WORD: usize = 256;

/// What the file says of itself.
#[derive(Debug, Serialize)]
pub struct Description {
    pub format_version: u32,
    pub library_version: String,
    pub contents: Contents,
    /// Those that are not floats; of an attention module alone: those that say what it reads.
    pub options: Map<String, Value>,
    /// Names of the modulation groups, in the order of the file's matrices.
    pub groups: Vec<String>,
    pub tensors: Vec<TensorRecord>,
    pub counters: Counters,
    /// How many groups and tensors there are; the lists may be shorter.
    #[serde(skip)]
    pub group_count: usize,
    #[serde(skip)]
    pub tensor_count: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorRecord {
    pub name: String,
    pub shape: Dimensions<u64>,
    pub dtype: DType,
    /// Only if there is something to say.
    #[serde(default, skip_serializing_if = "is_nearest")]
    pub precision: Precision,
    /// Only if it isn't what is computed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment_dtype: Option<DType>,
    pub param_group: usize,
    pub modulation_group: String,
    /// Number of its layer; only if the host said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_nearest(precision: &Precision) -> bool {
    *precision == Precision::Nearest
}

impl Serialize for Dimensions<u64> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The description; of its lists no more than `most` elements.
///
/// # Errors
/// [`Error::Unsupported`] names another format version; [`Error::Corrupt`].
pub fn parse(text: &str, most: usize) -> Result<Description> {
    #[derive(Deserialize)]
    struct Version {
        format_version: Option<u64>,
    }
    let corrupt = |e: &dyn std::fmt::Display| Error::Corrupt { what: format!("its description: {e}") };
    let version: Version = serde_json::from_str(text).map_err(|e| corrupt(&e))?;
    match version.format_version {
        Some(version) if version == u64::from(FORMAT_VERSION) => {}
        Some(version) => {
            return Err(Error::Unsupported {
                what: format!("a checkpoint of format version {version} (this library reads {FORMAT_VERSION})"),
            });
        }
        None => return Err(corrupt(&"it has no format_version")),
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let description = Seed { most }.deserialize(&mut json).map_err(|e| corrupt(&e))?;
    json.end().map_err(|e| corrupt(&e))?;
    Ok(description)
}

struct Seed {
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Description;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Description, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Description;
    fn expecting(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str("a description")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Description, A::Error> {
        let (mut version, mut library, mut contents, mut options) = (None, None, None, None);
        let (mut groups, mut tensors, mut counters) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let again = match key.as_str() {
                "format_version" => version.replace(map.next_value()?).is_some(),
                "library_version" => library.replace(map.next_value()?).is_some(),
                "contents" => contents.replace(map.next_value()?).is_some(),
                "options" => options.replace(map.next_value::<Words>()?).is_some(),
                "groups" => groups.replace(map.next_value_seed(First::new(self.most))?).is_some(),
                "tensors" => tensors.replace(map.next_value_seed(First::new(self.most))?).is_some(),
                "counters" => counters.replace(map.next_value()?).is_some(),
                _ => return Err(A::Error::custom(format!("unknown field '{key}'"))),
            };
            if again {
                return Err(A::Error::custom(format!("field '{key}' is there twice")));
            }
        }
        let missing = A::Error::missing_field;
        let (groups, group_count) = groups.ok_or_else(|| missing("groups"))?;
        let (tensors, tensor_count) = tensors.ok_or_else(|| missing("tensors"))?;
        Ok(Description {
            format_version: version.ok_or_else(|| missing("format_version"))?,
            library_version: library.ok_or_else(|| missing("library_version"))?,
            contents: contents.ok_or_else(|| missing("contents"))?,
            options: options.ok_or_else(|| missing("options"))?.0,
            groups,
            tensors,
            counters: counters.ok_or_else(|| missing("counters"))?,
            group_count,
            tensor_count,
        })
    }
}

/// Options: words, whole numbers, booleans, and arrays of three words.
struct Words(Map<String, Value>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Options;
        impl<'de> Visitor<'de> for Options {
            type Value = Words;
            fn expecting(&self, f: &mut Formatter) -> std::fmt::Result {
                f.write_str("an object of options")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Words, A::Error> {
                let mut words = Map::new();
                while let Some(name) = map.next_key::<String>()? {
                    let Word(value) = map.next_value()?;
                    if words.len() == MOST_OPTIONS || words.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("option '{name}' is there twice, or one of too many")));
                    }
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_map(Options)
    }
}

struct Word(Value);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Word;
            fn expecting(&self, f: &mut Formatter) -> std::fmt::Result {
                f.write_str("a word, a whole number, a boolean or an array of words")
            }
            fn visit_bool<E>(self, value: bool) -> std::result::Result<Word, E> {
                Ok(Word(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> std::result::Result<Word, E> {
                Ok(Word(value.into()))
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> std::result::Result<Word, E> {
                // It comes back in errors.
                if value.len() > LONGEST_WORD {
                    return Err(E::custom(format!("an option of {} bytes", value.len())));
                }
                Ok(Word(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> std::result::Result<Word, A::Error> {
                let (words, count): (Vec<String>, usize) = First::new(3).visit_seq(seq)?;
                if count > 3 {
                    return Err(A::Error::custom("an option of more than three words"));
                }
                Ok(Word(words.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
