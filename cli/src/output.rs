//! What goes to standard output: tables for people, JSON for scripts. A reader that went away is no error.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::exit::{CliError, CliResult};

/// In which form results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts: one JSON value.
    Json,
}

/// A table of text, its columns aligned.
#[derive(Debug)]
pub struct Rows {
    table: Table,
}

impl Rows {
    /// A table with headings.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = Table::new();
        // Never wrapped: a line is a row for grep and awk too.
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
        Self { table }
    }

    /// Adds a row.
    pub fn add<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.table.add_row(cells.into_iter().map(|cell| cell.to_string()));
    }

    /// As text; each line ends without blanks.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for line in self.table.lines() {
            // The style pads the first column with a blank that nobody needs.
            text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
            text.push('\n');
        }
        text
    }
}

/// Prints `value` as JSON, or what `table` makes of it.
pub fn print<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> CliResult {
    let text = match format {
        Format::Table => table(value),
        Format::Json => json(value)?,
    };
    write_out(text.as_bytes())
}

/// A value as indented JSON with a final line break.
pub fn json<T: Serialize>(value: &T) -> CliResult<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n")
        .map_err(|error| CliError::failed(format!("cannot be shown as JSON: {error}")))
}

/// Writes to standard output.
pub fn write_out(bytes: &[u8]) -> CliResult {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Judges a write to standard output: that nobody reads any more ends the process quietly, as `head` expects.
pub fn written(result: io::Result<()>) -> CliResult {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|error| CliError::failed(format!("standard output: {error}"))),
    }
}

/// Whether progress may be shown: only on a terminal.
pub fn shows_progress() -> bool {
    io::stderr().is_terminal()
}

/// A number with blanks between thousands, for people.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A list of numbers as Kafka's tools show it: `1,2,3`, and `-` for an empty one.
pub fn numbers(items: &[u32]) -> String {
    match items {
        [] => "-".into(),
        items => items.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    }
}

/// A value, or `-`.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_lines_of_aligned_columns() {
        let mut rows = Rows::new(&["name", "partitions"]);
        rows.add(["a-long-topic-name", "1"]);
        rows.add(["b", "12"]);
        assert_eq!(
            rows.render(),
            "NAME               PARTITIONS\na-long-topic-name  1\nb                  12\n"
        );
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(numbers(&[1, 2]), "1,2");
        assert_eq!(numbers(&[]), "-");
        assert_eq!(or_dash::<u32>(None), "-");
    }
}
