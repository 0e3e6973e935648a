//! What the lock file brings in: from where, and under which licence. Knows no network; whether a version has a known flaw is
//! not to be seen from here.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Licences that a binary under Apache-2.0 may carry, as SPDX names them.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    // Holds for the files of the library alone.
    "MPL-2.0",
    "MPL-2.0+",
];

/// Looks at every package of the lock file.
pub fn check(root: &Path) -> Vec<String> {
    let printed = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--locked"])
        .output();
    let printed = match printed {
        Ok(printed) if printed.status.success() => printed.stdout,
        Ok(printed) => return vec![String::from_utf8_lossy(&printed.stderr).into_owned()],
        Err(error) => return vec![format!("cargo metadata: {error}")],
    };
    match serde_json::from_slice::<Value>(&printed) {
        Ok(metadata) => problems(&metadata),
        Err(error) => vec![format!("cargo metadata: {error}")],
    }
}

fn problems(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let found: Vec<String> = packages.flat_map(problems_of).collect();
    let none = metadata["packages"].as_array().is_none_or(Vec::is_empty);
    if none { vec!["cargo metadata names no package".to_owned()] } else { found }
}

fn problems_of(package: &Value) -> Vec<String> {
    let text = |field: &str| package[field].as_str().unwrap_or_default();
    let named = format!("{} {}", text("name"), text("version"));
    // A package of this workspace has no source.
    let Some(source) = package["source"].as_str() else { return Vec::new() };
    let mut problems = Vec::new();
    if !source.starts_with("registry+") {
        problems.push(format!(
            "{named} comes from {source}: only released versions from the registry may be used"
        ));
    }
    let licence = text("license");
    if !Licence::of(licence).allowed() {
        problems.push(format!(
            "{named} is under {licence:?}, which is not on the list in xtask/src/dependencies.rs"
        ));
    }
    problems
}

/// Reads an SPDX expression; `/` is how older packages write OR.
struct Licence {
    tokens: Vec<String>,
    next: usize,
}

impl Licence {
    fn of(expression: &str) -> Self {
        let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let mut tokens: Vec<String> = Vec::new();
        let mut words = spaced.split_whitespace();
        while let Some(word) = words.next() {
            match (word, tokens.last_mut()) {
                ("WITH", Some(last)) => *last = format!("{last} WITH {}", words.next().unwrap_or_default()),
                _ => tokens.push(word.to_owned()),
            }
        }
        Self { tokens, next: 0 }
    }

    fn allowed(mut self) -> bool {
        let allowed = self.any();
        allowed && self.next == self.tokens.len()
    }

    fn take(&mut self, token: &str) -> bool {
        let is = self.tokens.get(self.next).is_some_and(|next| next == token);
        self.next += usize::from(is);
        is
    }

    fn any(&mut self) -> bool {
        let mut allowed = self.all();
        while self.take("OR") {
            allowed |= self.all();
        }
        allowed
    }

    fn all(&mut self) -> bool {
        let mut allowed = self.one();
        while self.take("AND") {
            allowed &= self.one();
        }
        allowed
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let allowed = self.any();
            return self.take(")") && allowed;
        }
        let Some(name) = self.tokens.get(self.next) else {
            // Ends too early: never equal to the length, so nothing is allowed.
            self.next = usize::MAX;
            return false;
        };
        self.next += 1;
        ALLOWED.contains(&name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn licences_are_read_as_they_are_meant() {
        let allowed = |text: &str| Licence::of(text).allowed();
        for fine in [
            "MIT",
            "MIT/Apache-2.0",
            "MIT OR GPL-3.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(allowed(fine), "{fine}");
        }
        for wrong in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT",
            "MIT)",
            "MIT MIT",
            "MIT OR",
            "MIT WITH nothing",
            "AND MIT",
        ] {
            assert!(!allowed(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_come_from_the_registry_is_found() {
        let package = |source: Value, licence: &str| json!({"name": "p", "version": "1.0.0", "source": source, "license": licence});
        let found = |packages: Vec<Value>| problems(&json!({ "packages": packages })).len();
        assert_eq!(found(vec![package(json!("registry+x"), "MIT"), package(Value::Null, "")]), 0);
        assert_eq!(found(vec![package(json!("git+x"), "MIT"), package(json!("registry+x"), "GPL-3.0")]), 2);
        assert_eq!(found(vec![]), 1);
    }

    #[test]
    fn the_lock_file_brings_in_nothing_unexpected() {
        assert_eq!(check(&crate::root()), Vec::<String>::new());
    }
}
