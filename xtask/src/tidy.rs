//! The house rules that a machine can hold: headers, sizes, and words that have no place in the project.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines without tests that a file may have.
const LINES_MAX: usize = 800;

/// Folders that are not ours to check.
const SKIP: &[&str] = &["target", ".git"];

/// Checks every source file below `root`.
pub fn check(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    collect(root, &mut files);
    files.sort();
    files.iter().flat_map(|path| check_file(path)).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !SKIP.iter().any(|skip| name == *skip) {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn check_file(path: &Path) -> Vec<String> {
    match fs::read_to_string(path) {
        Ok(text) => {
            judge(&text).into_iter().map(|problem| format!("{}: {problem}", path.display())).collect()
        }
        Err(error) => vec![format!("{}: {error}", path.display())],
    }
}

fn judge(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//!") {
        problems.push("opens without a `//!` header that says why it exists".to_owned());
    }
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if lines > LINES_MAX {
        problems.push(format!("has {lines} lines without tests, {LINES_MAX} is the wall"));
    }
    for (number, line) in text.lines().enumerate() {
        let unfinished = ["TODO", "FIXME", "XXX"].iter().any(|word| line.contains(&format!("// {word}")));
        if unfinished {
            problems.push(format!("line {}: unfinished business belongs in an issue", number + 1));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_tidy() {
        assert_eq!(check(&crate::root()), Vec::<String>::new());
    }

    #[test]
    fn untidiness_is_found() {
        assert_eq!(judge("//! Fine.\nfn f() {}\n"), Vec::<String>::new());
        assert_eq!(judge("fn f() {}\n").len(), 1);
        assert_eq!(judge(&format!("//! Long.\n{}", "x\n".repeat(900))).len(), 1);
        assert_eq!(judge(&format!("//! Left.\n// {}: later\n", "TODO")).len(), 1);
    }
}
