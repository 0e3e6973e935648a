//! Which crate may know which: arrows point down only. A new edge is a decision, so it is made here, in sight.

use std::fs;
use std::path::Path;

/// The crates, top floor first, with what each may depend on besides itself.
const GRAPH: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("proto", &["model"]),
    ("threads", &[]),
    ("transport", &[]),
    ("storage", &[]),
    ("raft-store", &["storage", "threads", "model"]),
    ("metadata", &["proto", "model"]),
    ("partition", &["model"]),
    ("commitlog", &["storage", "threads", "model"]),
    ("node", &["model"]),
    ("controller", &["raft-store", "storage", "metadata", "node", "threads", "transport", "proto", "model"]),
    (
        "broker",
        &["partition", "commitlog", "storage", "metadata", "node", "threads", "transport", "proto", "model"],
    ),
    ("client", &["transport", "proto", "model"]),
    (
        "cli",
        &[
            "client",
            "broker",
            "controller",
            "node",
            "metadata",
            "commitlog",
            "storage",
            "raft-store",
            "threads",
            "proto",
            "model",
        ],
    ),
    ("history", &["model"]),
    (
        "fuzz",
        &[
            "history",
            "broker",
            "controller",
            "node",
            "commitlog",
            "metadata",
            "raft-store",
            "storage",
            "proto",
            "model",
        ],
    ),
    (
        "tests",
        &[
            "history",
            "storage",
            "client",
            "metadata",
            "partition",
            "commitlog",
            "raft-store",
            "proto",
            "model",
        ],
    ),
    ("bench", &["client", "metadata", "partition", "commitlog", "proto", "storage", "model"]),
    ("chaos", &["history", "client", "proto", "model"]),
    (
        "sim",
        &[
            "history",
            "client",
            "broker",
            "controller",
            "metadata",
            "commitlog",
            "storage",
            "threads",
            "transport",
            "proto",
            "model",
        ],
    ),
    ("crash", &["raft-store", "broker", "commitlog", "storage", "threads", "model"]),
    ("xtask", &["node"]),
];

/// Compares every manifest with the graph.
pub fn check(root: &Path) -> Vec<String> {
    GRAPH.iter().flat_map(|(name, allowed)| check_crate(root, name, allowed)).collect()
}

fn check_crate(root: &Path, name: &str, allowed: &[&str]) -> Vec<String> {
    let path = root.join(name).join("Cargo.toml");
    match fs::read_to_string(&path) {
        Ok(manifest) => edges(&manifest)
            .filter(|edge| !allowed.contains(&edge.as_str()))
            .map(|edge| format!("{}: vltava-{name} may not depend on vltava-{edge}", path.display()))
            .collect(),
        Err(error) => vec![format!("{}: {error}", path.display())],
    }
}

/// The crates of this workspace that a manifest names as dependencies of any kind.
fn edges(manifest: &str) -> impl Iterator<Item = String> + '_ {
    manifest.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("vltava-")?;
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        Some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_keep_the_layers() {
        assert_eq!(check(&crate::root()), Vec::<String>::new());
    }

    #[test]
    fn a_sideways_edge_is_found() {
        let found: Vec<String> =
            edges("[dependencies]\nvltava-broker.workspace = true\nbytes = \"1\"\n").collect();
        assert_eq!(found, ["broker"]);
    }
}
