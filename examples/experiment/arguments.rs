//! Arguments of the form `--name value`.

use std::str::FromStr;

pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// `names` take a value, `switches` do not.
    pub fn parse(arguments: &[String], names: &[&str], switches: &[&str]) -> Result<Self, String> {
        let mut found = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let name = argument.strip_prefix("--").unwrap_or_default();
            if switches.contains(&name) {
                found.push((name.to_owned(), String::new()));
            } else if names.contains(&name) {
                let value = rest.next().ok_or_else(|| format!("{argument}: expected a value after it"))?;
                found.push((name.to_owned(), value.clone()));
            } else {
                let known: Vec<String> = names.iter().chain(switches).map(|name| format!("--{name}")).collect();
                return Err(format!("{argument}: expected one of {}", known.join(", ")));
            }
        }
        Ok(Self(found))
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The last of them.
    pub fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).last()
    }

    pub fn needed<'a>(&'a self, name: &'a str) -> Result<&'a str, String> {
        self.text(name).ok_or_else(|| format!("expected --{name}\n{}", super::USAGE))
    }

    pub fn number<T: FromStr + PartialOrd + From<u8>>(&self, name: &str, what: &str) -> Result<Option<T>, String> {
        let parse = |text: &str| {
            let number = text.parse::<T>().ok().filter(|number| *number > T::from(0));
            number.ok_or_else(|| format!("--{name}: expected {what} above 0, not {text}"))
        };
        self.text(name).map(parse).transpose()
    }
}
