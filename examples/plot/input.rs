//! Reading JSON objects, with messages that say where and what was expected.

use serde_json::{Deserializer, Map, Value};

/// The JSON values of the text, with the lines in which they begin.
pub fn objects(file: &str, text: &str) -> Result<Vec<(usize, Value)>, String> {
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let (mut found, mut line, mut counted) = (Vec::new(), 1, 0);
    loop {
        let rest = &text[values.byte_offset()..];
        let start = text.len() - rest.trim_start().len();
        line += text[counted..start].matches('\n').count();
        counted = start;
        match values.next() {
            None => return Ok(found),
            Some(Ok(value)) => found.push((line, value)),
            Some(Err(error)) => return Err(format!("{file}:{}: expected a JSON object: {error}", error.line())),
        }
    }
}

/// Larger values are drawn as if they were not finite.
pub const LARGE: f64 = 1e100;

/// None if it is missing, or null, which means a number that is not finite.
pub fn number(object: &Map<String, Value>, name: &str) -> Result<Option<f64>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) if value.as_f64().is_some_and(|x| x.abs() > LARGE) => Ok(None),
        Some(value) => {
            value.as_f64().map(Some).ok_or_else(|| format!("\"{name}\": expected a number or null, not {value}"))
        }
    }
}

pub fn string<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| format!("\"{name}\": expected a string, not {value}")),
    }
}
