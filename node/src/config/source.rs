//! Turns TOML text, or values given by a program, into a flat list of names and raw values.
//!
//! TOML reads `node.id = 1` as a table `node` with a key `id`; the names here are whole again, quoted or not. Knows
//! no property by name.

use toml::de::{DeArray, DeTable, DeValue};

use super::error::ConfigError;

/// A value as it was given, before it is known what it should be.
#[derive(Clone, PartialEq, Debug)]
pub enum Setting {
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// Text.
    Text(String),
    /// Several values.
    List(Vec<Setting>),
    /// Something that no property takes; what it is, in words.
    Other(&'static str),
}

impl From<i64> for Setting {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Setting {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<&str> for Setting {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Setting {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Setting>> From<Vec<T>> for Setting {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl Setting {
    /// Reads a value as it would stand in the file; text that is no TOML value is taken as text.
    pub fn from_text(text: &str) -> Self {
        match DeValue::parse(text) {
            Ok(value) => setting(value.get_ref()),
            Err(_) => Self::Text(text.into()),
        }
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Integer(value) => format!("the number {value}"),
            Self::Boolean(value) => format!("{value}"),
            Self::Text(text) => format!("the text \"{text}\""),
            Self::List(_) => "a list".into(),
            Self::Other(kind) => format!("a {kind}"),
        }
    }
}

/// A name and a value, and the line where they stand.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub value: Setting,
    pub line: Option<usize>,
}

/// Reads TOML. What can be read is returned beside the errors, so that all complaints can be made at once.
pub(crate) fn parse(origin: &str, text: &str) -> (Vec<Entry>, Vec<ConfigError>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let errors = errors.iter().map(|error| syntax_error(origin, text, error)).collect();
    let mut entries = Vec::new();
    flatten(text, "", table.get_ref(), &mut entries);
    // Tables are sorted by name; people read from the top.
    entries.sort_by_key(|entry| entry.line);
    (entries, errors)
}

fn syntax_error(origin: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let duplicate = error.message().contains("duplicate key");
    let advice = match duplicate {
        true => "keep one of the two",
        false => "write one `name = value` a line, text in \"quotes\", lists in [brackets]",
    };
    ConfigError {
        origin: origin.into(),
        line: error.span().map(|span| line_of(text, span.start)),
        key: None,
        problem: format!("not valid TOML: {}", error.message().trim().replace('\n', ", ")),
        advice: advice.into(),
    }
}

fn flatten(text: &str, prefix: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (key, value) in table.iter() {
        let name = match prefix {
            "" => key.get_ref().to_string(),
            prefix => format!("{prefix}.{}", key.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => flatten(text, &name, inner, entries),
            value => entries.push(Entry {
                key: name,
                value: setting(value),
                line: Some(line_of(text, key.span().start)),
            }),
        }
    }
}

fn setting(value: &DeValue<'_>) -> Setting {
    match value {
        DeValue::String(text) => Setting::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Setting::Other("number beyond 64 bits"), Setting::Integer),
        DeValue::Boolean(value) => Setting::Boolean(*value),
        DeValue::Array(values) => Setting::List(list(values)),
        DeValue::Float(_) => Setting::Other("fraction"),
        DeValue::Datetime(_) => Setting::Other("date"),
        DeValue::Table(_) => Setting::Other("table"),
    }
}

fn list(values: &DeArray<'_>) -> Vec<Setting> {
    values.iter().map(|value| setting(value.get_ref())).collect()
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_quoted_and_sectioned_names_are_the_same() {
        let text = "node.id = 1\n\"broker.rack\" = 'a'\n[log]\ndirs = [\"x\"]\n[log.retention]\nms = -1\n";
        let (entries, errors) = parse("f", text);
        assert_eq!(errors, []);
        let found: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.line.unwrap())).collect();
        assert_eq!(found, [("node.id", 1), ("broker.rack", 2), ("log.dirs", 4), ("log.retention.ms", 6)]);
        assert_eq!(entries[3].value, Setting::Integer(-1));
    }

    #[test]
    fn broken_toml_names_the_line() {
        let (_, errors) = parse("f.toml", "node.id = 1\nlog.dirs = [\n\"a\"\nbroker.rack = ???\n");
        assert!(!errors.is_empty());
        let (entries, errors) = parse("f.toml", "node.id = 1\nnode.id = 2\n");
        assert_eq!(errors[0].line, Some(2), "{errors:?}");
        assert!(errors[0].to_string().contains("keep one"), "{}", errors[0]);
        assert_eq!(entries.len(), 1);
    }

    #[test]
    fn text_of_a_command_line_is_read_as_in_the_file() {
        assert_eq!(Setting::from_text("12"), Setting::Integer(12));
        assert_eq!(Setting::from_text("[\"a\"]"), Setting::from(vec!["a"]));
        assert_eq!(Setting::from_text("10s"), Setting::from("10s"));
        assert_eq!(Setting::from_text("a/b c"), Setting::from("a/b c"));
    }
}
