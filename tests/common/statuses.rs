//! Which statuses the header's comments list for each function.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

const HEADER: &str = include_str!("../../include/metaadamw.h");
/// Begins the sentence on the statuses of every call on an optimizer.
const GENERAL: &str = "Any call on an optimizer may also return";
/// A comment with it includes the statuses of `maw_prepare`.
const PREPARES: &str = "Prepares the optimizer if needed";

/// A function of the header.
struct Function {
    comment: String,
    takes_optimizer: bool,
}

struct Manual {
    numbers: BTreeMap<i32, &'static str>,
    functions: BTreeMap<&'static str, Function>,
    general: BTreeSet<i32>,
}

fn manual() -> &'static Manual {
    static MANUAL: OnceLock<Manual> = OnceLock::new();
    MANUAL.get_or_init(|| {
        let numbers = HEADER.lines().filter_map(status).collect();
        let mut manual = Manual { numbers, functions: functions(), general: BTreeSet::new() };
        let chapters: Vec<&str> = HEADER.lines().map_while(|line| line.strip_prefix("///")).map(str::trim).collect();
        let chapters = chapters.join(" ");
        let (_, general) = chapters.split_once(GENERAL).expect("the header's chapter on errors has that sentence");
        manual.general = manual.statuses_in(general.split_once(". ").map_or(general, |(sentence, _)| sentence));
        manual
    })
}

/// Number and name of a status, if the line defines one: 0 or a number in parentheses.
fn status(line: &'static str) -> Option<(i32, &'static str)> {
    let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
    let negative = value.strip_prefix('(').and_then(|value| value.strip_suffix(')'));
    let number = if name == "MAW_OK" { Some(value) } else { negative }?;
    Some((number.parse().expect("a number"), name))
}

/// Declarations begin at the left margin, right below their comments.
fn functions() -> BTreeMap<&'static str, Function> {
    let (mut functions, mut comment) = (BTreeMap::new(), String::new());
    let mut lines = HEADER.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
            continue;
        }
        let before = line.split_once('(').map_or("", |(before, _)| before);
        let name = before.rsplit([' ', '*']).next().unwrap_or_default();
        if name.starts_with("maw_") && !line.starts_with([' ', '#']) && !line.starts_with("typedef") {
            let mut declaration = line.to_owned();
            while !declaration.ends_with(';') {
                declaration.push_str(lines.next().expect("a declaration ends"));
            }
            let takes_optimizer = declaration.contains("maw_optimizer *optimizer");
            functions.insert(name, Function { comment: std::mem::take(&mut comment), takes_optimizer });
        }
        comment.clear();
    }
    functions
}

impl Manual {
    fn statuses_in(&self, text: &str) -> BTreeSet<i32> {
        let quoted: BTreeSet<&str> = text.split('`').skip(1).step_by(2).collect();
        self.numbers.iter().filter(|(_, name)| quoted.contains(*name)).map(|(number, _)| *number).collect()
    }

    /// Those that the comment names, and those of the comments that it refers to.
    fn of(&self, function: &str) -> BTreeSet<i32> {
        let Some(Function { comment, takes_optimizer }) = self.functions.get(function) else { return BTreeSet::new() };
        let mut statuses = self.statuses_in(comment);
        let others = comment.split("As `").skip(1).filter_map(|text| text.split_once('`')).map(|(name, _)| name);
        others.for_each(|other| statuses.extend(self.of(other)));
        if comment.contains(PREPARES) {
            statuses.extend(self.of("maw_prepare"));
        }
        if *takes_optimizer {
            statuses.extend(&self.general);
        }
        statuses
    }
}

/// What is wrong if this function returned this status: nothing if the header lists it there.
pub fn missing(function: &str, status: i32) -> Option<String> {
    let manual = manual();
    let name = manual.numbers.get(&status).copied().unwrap_or("an unknown status");
    let listed = manual.of(function).contains(&status);
    (!listed).then(|| format!("{function} returned {name} ({status}), which its comment in the header does not list"))
}

/// Every function of the header that lists no status: those that return something else.
pub fn without_statuses() -> Vec<&'static str> {
    let manual = manual();
    manual.functions.keys().copied().filter(|function| manual.of(function).is_empty()).collect()
}
