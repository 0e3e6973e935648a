//! Where the nodes of a dev cluster listen and keep their data, and the note that keeps a data directory from being
//! started as another cluster than it is.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vltava_node::config::{Config, ConfigErrors, Setting};

use crate::exit::{CliError, CliResult};

const NOTE: &str = "dev.json";

/// What a dev cluster looks like. Its nodes know each other's numbers and ports, so neither changes later.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Shape {
    /// How many nodes.
    pub nodes: u16,
    /// What is added to every port.
    pub port_offset: u16,
}

/// Makes sure that the directory belongs to a cluster of this shape, or to none yet.
pub fn claim(dir: &Path, shape: Shape) -> CliResult {
    let failed =
        |error: io::Error| CliError::failed(format!("{}: {error}; take another --data-dir", dir.display()));
    let note = dir.join(NOTE);
    match fs::read_to_string(&note) {
        Ok(text) => {
            let found: Shape = serde_json::from_str(&text).map_err(|error| {
                CliError::failed(format!("{}: {error}; take another --data-dir", note.display()))
            })?;
            if found == shape {
                return Ok(());
            }
            Err(CliError::usage(format!(
                "{} holds a cluster of {} nodes with --port-offset {}: start it as `--nodes {} --port-offset {}`, or take \
                 another --data-dir",
                dir.display(),
                found.nodes,
                found.port_offset,
                found.nodes,
                found.port_offset,
            )))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(failed)?;
            let text = serde_json::to_string(&shape).map_err(|error| CliError::failed(error.to_string()))?;
            fs::write(&note, text + "\n").map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The configuration of each node, in their order.
pub fn configs(dir: &Path, shape: Shape) -> Result<Vec<Config>, ConfigErrors> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    (0..shape.nodes).map(|i| config(&dir, shape, i)).collect()
}

fn config(dir: &Path, shape: Shape, i: u16) -> Result<Config, ConfigErrors> {
    let port = |base: u16, i: u16| base + shape.port_offset + i;
    let voters: Vec<String> =
        (0..shape.nodes).map(|i| format!("{}@127.0.0.1:{}", i + 1, port(7193, i))).collect();
    let listeners: Vec<String> = [("GRPC", 7092), ("CONTROLLER", 7193), ("HTTP", 8092)]
        .map(|(name, base)| format!("{name}://127.0.0.1:{}", port(base, i)))
        .into();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = (processors / usize::from(shape.nodes)).max(1);
    let settings = vec![
        ("node.id".to_owned(), Setting::from(i64::from(i) + 1)),
        ("log.dirs".to_owned(), Setting::from(vec![format!("node{}", i + 1)])),
        ("controller.quorum.voters".to_owned(), Setting::from(voters)),
        ("listeners".to_owned(), Setting::from(listeners)),
        ("default.replication.factor".to_owned(), Setting::from(i64::from(shape.nodes.min(3)))),
        ("num.io.threads".to_owned(), Setting::from(i64::try_from(threads).unwrap_or(1))),
        ("log.journal.file.bytes".to_owned(), Setting::from("16MiB")),
    ];
    Config::from_settings(&format!("node {} of vltava dev", i + 1), dir, settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_node::config::ListenerName;

    const SHAPE: Shape = Shape { nodes: 3, port_offset: 0 };

    #[test]
    fn nodes_have_their_own_ports_and_directories() {
        let configs = configs(Path::new("/base"), SHAPE).unwrap();
        assert_eq!(configs.len(), 3);
        for (i, config) in configs.iter().enumerate() {
            let port = |name| usize::from(config.listeners.get(name).unwrap().port);
            assert_eq!(config.node_id.get() as usize, i + 1);
            assert_eq!(port(ListenerName::Grpc), 7092 + i);
            assert_eq!(port(ListenerName::Controller), 7193 + i);
            assert_eq!(port(ListenerName::Http), 8092 + i);
            assert_eq!(config.storage.log_dirs, [Path::new(&format!("/base/node{}", i + 1))]);
            assert_eq!(config.voters.len(), 3);
            assert_eq!(config.cluster.default_replication_factor, 3);
            assert_eq!(config.warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn a_directory_keeps_its_shape() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        claim(dir, SHAPE).unwrap();
        claim(dir, SHAPE).unwrap();
        let refused = claim(dir, Shape { nodes: 1, port_offset: 0 }).unwrap_err().to_string();
        assert!(refused.contains("start it as `--nodes 3 --port-offset 0`"), "{refused}");
    }
}
