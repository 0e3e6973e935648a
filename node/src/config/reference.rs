//! `docs/configuration.md`, made from the table of properties.

use std::fmt::Write;

use super::property::{Fallback, Group, Property};
use super::table;

/// The reference of all properties, as Markdown.
pub fn reference_markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for group in Group::ALL {
        let properties: Vec<_> =
            table::properties().iter().filter(|property| property.group == group).collect();
        if properties.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {}\n", group.title());
        properties.into_iter().for_each(|property| describe(&mut page, property));
    }
    page
}

fn describe(page: &mut String, property: &Property) {
    let default = match property.default {
        Fallback::Required => "none: it must be set".to_owned(),
        Fallback::Value(text) => format!("`{}`", as_written(text)),
        Fallback::Words(words) => words.to_owned(),
    };
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "\n### `{}`\n{}\n- takes: {}\n- default: {}\n- example: `{} = {}`\n",
        property.name,
        property.doc,
        property.kind.describe(),
        default,
        property.name,
        as_written(property.example),
    );
}

/// A value as it stands in a file: words in quotes.
fn as_written(text: &str) -> String {
    match super::Setting::from_text(text) {
        super::Setting::Text(word) if !text.starts_with('"') => format!("\"{word}\""),
        _ => text.to_owned(),
    }
}

const INTRODUCTION: &str = "\
<!-- Made from the code by `cargo xtask docs`; edit node/src/config/table.rs instead. -->
# Configuration of a node

`vltava server --config FILE` reads one TOML file. Names are Kafka's wherever Kafka has the property. They may be
written with dots (`node.id = 1`), in quotes (`\"node.id\" = 1`) or under a heading (`[node]`, then `id = 1`).

- Durations (`….ms`) are milliseconds, or text with a unit: `\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"2h\"`, `\"7d\"`.
- Sizes (`….bytes`) are bytes, or text with a unit: `\"64KiB\"`, `\"1GiB\"`, or `\"1GB\"` for a thousand million.
- Relative directories are relative to the file.
- An unknown name or an illegal value is an error; all errors of a file are shown at once, each with its line.
- `vltava server --config FILE --override NAME=VALUE` lets one value win over the file.

The smallest file for a cluster of one node:

```toml
node.id = 1
log.dirs = [\"data\"]
controller.quorum.voters = [\"1@127.0.0.1:7093\"]
```

`deploy/examples/` has the files of a cluster of three. Logs are configured by flags and the environment, not here:
`--log-format human|json`, `VLTAVA_LOG=info` (or `VLTAVA_LOG=info,vltava_broker=debug`).
";
