//! What a property is: its name, what values it takes, what it means without one, and what it does.
//!
//! Knows no property by name; those are in `table.rs`.

use std::time::Duration;

use vltava_model::configs::{ConfigKey, nearest};

use super::address::{Listener, Voter};
use super::error::Complaint;
use super::shared;
use super::source::Setting;

/// One property of the config file.
#[derive(Clone, Debug)]
pub struct Property {
    /// Kafka's name where Kafka has it.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What holds when it is not set.
    pub default: Fallback,
    /// Under which heading it is listed.
    pub group: Group,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// A value as one would write it.
    pub example: &'static str,
}

/// Headings of the reference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Group {
    Node,
    Network,
    Storage,
    Controllers,
    Brokers,
    Replication,
    Limits,
    Topics,
    Accepted,
}

impl Group {
    /// All of them, in the order of the reference.
    pub const ALL: [Self; 9] = [
        Self::Node,
        Self::Network,
        Self::Storage,
        Self::Controllers,
        Self::Brokers,
        Self::Replication,
        Self::Limits,
        Self::Topics,
        Self::Accepted,
    ];

    /// The heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Node => "The node",
            Self::Network => "Addresses",
            Self::Storage => "Storage",
            Self::Controllers => "Controllers",
            Self::Brokers => "Brokers",
            Self::Replication => "Replication",
            Self::Limits => "Threads, queues and limits",
            Self::Topics => "Defaults of topics",
            Self::Accepted => "Accepted for later",
        }
    }
}

/// What holds when a property is not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallback {
    /// It must be set.
    Required,
    /// This value, as one would write it in the file.
    Value(&'static str),
    /// Something that is worked out, or nothing: in words.
    Words(&'static str),
}

/// What values a property takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// A whole number within a range.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A duration: a number of milliseconds, or text with a unit.
    Millis {
        /// The shortest, in milliseconds.
        min: i64,
        /// The longest, in milliseconds.
        max: i64,
    },
    /// A size: a number of bytes, or text with a unit.
    Bytes {
        /// The smallest, in bytes.
        min: i64,
        /// The largest, in bytes.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// Text without line breaks.
    Text,
    /// 32 hexadecimal digits.
    Identity,
    /// A directory.
    Directory,
    /// One directory or more.
    Directories,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// One word or more of a few.
    Words(&'static [&'static str]),
    /// A list of `NAME://HOST:PORT`.
    Listeners,
    /// A list of `ID@HOST:PORT`.
    Voters,
    /// Whatever the config takes that the file shares with the running cluster.
    Shared(&'static ConfigKey),
}

/// A value that has passed its kind's checks.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Integer(i64),
    Boolean(bool),
    Text(String),
    List(Vec<String>),
}

impl Value {
    /// As a topic config of that value is written: numbers as numbers, lists with commas.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(items) => items.join(","),
        }
    }
}

impl Kind {
    /// What it takes, in words, for messages and the reference.
    pub fn describe(self) -> String {
        match self {
            Self::Integer { min, max } => format!("a whole number from {}", range(min, max)),
            Self::Millis { min, max } => {
                format!("milliseconds from {}, or a duration as in \"30s\"", range(min, max))
            }
            Self::Bytes { min, max } => format!("bytes from {}, or a size as in \"64MiB\"", range(min, max)),
            Self::Boolean => "true or false".into(),
            Self::Text => "text".into(),
            Self::Identity => "32 hexadecimal digits".into(),
            Self::Directory => "a directory".into(),
            Self::Directories => "a list of directories".into(),
            Self::Word(words) => words.join(" or "),
            Self::Words(words) => format!("a list of {}", words.join(", ")),
            Self::Listeners => "a list of NAME://HOST:PORT".into(),
            Self::Voters => "a list of ID@HOST:PORT".into(),
            Self::Shared(key) => shared::describe(key),
        }
    }

    /// Checks a value.
    pub(crate) fn check(self, setting: &Setting) -> Result<Value, Complaint> {
        match self {
            Self::Integer { min, max } => self.number(setting, min, max, |_| None),
            Self::Millis { min, max } => self.number(setting, min, max, millis),
            Self::Bytes { min, max } => self.number(setting, min, max, bytes),
            Self::Boolean => match setting {
                Setting::Boolean(value) => Ok(Value::Boolean(*value)),
                other => Err(self.mismatch(other)),
            },
            Self::Text => self.text(setting).map(Value::Text),
            Self::Directory => match self.text(setting)? {
                text if text.is_empty() => Err(Complaint::new("is empty", "name a directory")),
                text => Ok(Value::Text(text)),
            },
            Self::Word(words) => match self.text(setting)? {
                text if words.contains(&text.as_str()) => Ok(Value::Text(text)),
                text => {
                    let advice = format!("write {}", words.join(" or "));
                    Err(Complaint::new(format!("\"{text}\" is not known"), advice))
                }
            },
            Self::Identity => {
                let text = self.text(setting)?;
                let id = text.parse::<vltava_model::ClusterId>();
                let advice = "write 32 hexadecimal digits, as in `openssl rand -hex 16`";
                id.map(|id| Value::Text(id.to_string()))
                    .map_err(|_| Complaint::new(format!("\"{text}\" is no id"), advice))
            }
            Self::Directories => {
                let items = self.list(setting)?;
                match items.iter().any(String::is_empty) || items.is_empty() {
                    true => Err(Complaint::new("names no directory", "name at least one, as in [\"data\"]")),
                    false => Ok(Value::List(items)),
                }
            }
            Self::Words(words) => {
                let items = self.list(setting)?;
                items.iter().try_for_each(|item| check_word(item, words))?;
                Ok(Value::List(items))
            }
            Self::Listeners => self.parsed_list(setting, |item| Listener::parse(item).map(drop)),
            Self::Voters => self.parsed_list(setting, |item| Voter::parse(item).map(drop)),
            Self::Shared(key) => shared::check(key, setting),
        }
    }

    fn number(
        self,
        setting: &Setting,
        min: i64,
        max: i64,
        unit: fn(&str) -> Option<i64>,
    ) -> Result<Value, Complaint> {
        let number = match setting {
            Setting::Integer(value) => *value,
            Setting::Text(text) => match (unit(text), text.trim().parse::<i64>()) {
                (Some(value), _) => value,
                (None, Ok(value)) => {
                    return Err(Complaint::new("is text", format!("write {value} without quotes")));
                }
                (None, Err(_)) => return Err(self.mismatch(setting)),
            },
            other => return Err(self.mismatch(other)),
        };
        match number >= min && number <= max {
            true => Ok(Value::Integer(number)),
            false => {
                Err(Complaint::new(format!("{number} is out of range"), format!("write {}", self.describe())))
            }
        }
    }

    fn text(self, setting: &Setting) -> Result<String, Complaint> {
        match setting {
            Setting::Text(text) if text.chars().any(char::is_control) => {
                Err(Complaint::new("contains control characters", "leave them out"))
            }
            Setting::Text(text) => Ok(text.clone()),
            other => Err(self.mismatch(other)),
        }
    }

    /// A list of texts; a single text with commas is read as Kafka's properties files are.
    fn list(self, setting: &Setting) -> Result<Vec<String>, Complaint> {
        match setting {
            Setting::Text(text) => Ok(text.split(',').map(|item| item.trim().to_owned()).collect()),
            Setting::List(items) => items
                .iter()
                .map(|item| match item {
                    Setting::Text(text) => Ok(text.clone()),
                    other => Err(self.mismatch(other)),
                })
                .collect(),
            other => Err(self.mismatch(other)),
        }
    }

    fn parsed_list(
        self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Value, Complaint> {
        let items = self.list(setting)?;
        for item in &items {
            parse(item).map_err(|problem| Complaint::new(problem, ""))?;
        }
        Ok(Value::List(items))
    }

    fn mismatch(self, setting: &Setting) -> Complaint {
        Complaint::new(format!("is {}", setting.describe()), format!("write {}", self.describe()))
    }
}

fn check_word(item: &str, words: &[&'static str]) -> Result<(), Complaint> {
    if words.contains(&item) {
        return Ok(());
    }
    let advice = match nearest(item, words.iter().copied()) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => format!("write one of {}", words.join(", ")),
    };
    Err(Complaint::new(format!("\"{item}\" is not known"), advice))
}

fn range(min: i64, max: i64) -> String {
    match max {
        i64::MAX => format!("{min}"),
        max => format!("{min} to {max}"),
    }
}

const DURATIONS: &[(&str, i64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: &[(&str, i64)] = &[
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// Reads a duration with a unit, as milliseconds.
pub(crate) fn millis(text: &str) -> Option<i64> {
    with_unit(text, DURATIONS)
}

/// Reads a size with a unit, as bytes.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    with_unit(text, SIZES)
}

/// Reads a duration as a user would write it on a command line: a number of milliseconds, or a number with a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let number = text.trim().parse::<u64>().ok().or_else(|| millis(text).map(i64::cast_unsigned));
    number
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a duration, as in 500ms, 10s or 2h"))
}

/// Reads a size as a user would write it on a command line: a number of bytes, or a number with a unit.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let number = text.trim().parse::<u64>().ok().or_else(|| bytes(text).map(i64::cast_unsigned));
    number.ok_or_else(|| format!("`{text}` is not a size, as in 1024, 64KiB or 1GiB"))
}

fn with_unit(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: i64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_units_where_they_have_one() {
        let time = Kind::Millis { min: 1, max: 100_000 };
        assert_eq!(time.check(&Setting::from("10s")), Ok(Value::Integer(10_000)));
        assert_eq!(time.check(&Setting::from(5)), Ok(Value::Integer(5)));
        assert!(time.check(&Setting::from("10 parsecs")).is_err());
        assert!(time.check(&Setting::from("1h")).unwrap_err().problem.contains("out of range"));
        let size = Kind::Bytes { min: 0, max: i64::MAX };
        assert_eq!(size.check(&Setting::from("64 KiB")), Ok(Value::Integer(65_536)));
        assert_eq!(
            size.check(&Setting::from("9999999999TiB")).unwrap_err().problem,
            "is the text \"9999999999TiB\""
        );
        let quoted = Kind::Integer { min: 0, max: 9 }.check(&Setting::from("3")).unwrap_err();
        assert_eq!(quoted.advice, "write 3 without quotes");
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("250"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert!(parse_size("-1").is_err());
    }

    #[test]
    fn lists_may_be_written_with_commas() {
        let kind = Kind::Words(&["controller", "broker"]);
        let both = Value::List(vec!["controller".into(), "broker".into()]);
        assert_eq!(kind.check(&Setting::from("controller, broker")), Ok(both.clone()));
        assert_eq!(kind.check(&Setting::from(vec!["controller", "broker"])), Ok(both));
        let typo = kind.check(&Setting::from(vec!["brokr"])).unwrap_err();
        assert_eq!(typo.advice, "did you mean \"broker\"?");
        assert!(Kind::Directories.check(&Setting::List(vec![])).is_err());
        assert!(Kind::Listeners.check(&Setting::from(vec!["GRPC:1"])).is_err());
        assert!(Kind::Identity.check(&Setting::from("abc")).is_err());
        assert!(Kind::Text.check(&Setting::from("a\nb")).is_err());
    }
}
