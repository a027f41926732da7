//! `condense`: copies of finished logs, small enough to keep. Of the optimizer's dumps only what the report reads is left.
//!
//! The copies can be used in place of the logs: a matrix is continued from them, a report of them is the same.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::log;
use super::resolve::Logs;
use super::scales::SCALES;

pub fn command(arguments: &[String]) -> Result<bool, String> {
    let arguments = Arguments::parse(arguments, &["logs", "out"], &[])?;
    let (folder, out) = (Path::new(arguments.needed("logs")?), Path::new(arguments.needed("out")?));
    let mut count = 0;
    for scale in SCALES {
        let logs = Logs::read(folder, scale)?;
        for (name, _) in logs.logs.iter().filter(|(_, log)| log.end.is_some()) {
            let to = out.join(scale.name).join(format!("{name}.jsonl"));
            condense(&logs.file(name), &to)?;
            count += 1;
        }
    }
    if count == 0 {
        return Err(format!("{}: no finished logs", folder.display()));
    }
    println!("{count} logs in {}", out.display());
    Ok(true)
}

fn condense(from: &Path, to: &Path) -> Result<(), String> {
    let text = fs::read_to_string(from).map_err(|error| format!("{}: {error}", from.display()))?;
    let objects = log::lines(&text).map_err(|(line, message)| format!("{}:{line}: {message}", from.display()))?;
    let mut small = String::new();
    for (_, mut object) in objects {
        if let Some(state) = object.get_mut("state").filter(|state| state.is_object()) {
            *state = json!({
                "options": { "meta_interval": state["options"]["meta_interval"] },
                "meta": { "updates": state["meta"]["updates"] },
                "uncertainty": state["uncertainty"],
            });
        }
        small += &Value::Object(object).to_string();
        small.push('\n');
    }
    let written = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(to, small));
    written.map_err(|error| format!("{}: {error}", to.display()))
}
