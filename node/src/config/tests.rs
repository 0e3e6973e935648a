//! Whole files: what is accepted, and what is said of those that are not.

use super::*;

const MINIMAL: &str =
    "node.id = 1\nlog.dirs = [\"data\"]\ncontroller.quorum.voters = [\"1@127.0.0.1:7093\"]\n";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse("node.toml", Path::new("/etc/vltava"), text)
}

fn complaint(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn the_smallest_file_is_enough() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.node_id, NodeId::new(1));
    assert_eq!(config.roles, Roles::Both);
    assert_eq!(config.storage.log_dirs, [PathBuf::from("/etc/vltava/data")]);
    assert_eq!(config.storage.metadata_dir, PathBuf::from("/etc/vltava/data/__metadata"));
    assert_eq!(config.listeners.get(ListenerName::Grpc), Some(&Address::new("127.0.0.1", 7092)));
    assert_eq!(config.advertised.get(ListenerName::Controller), Some(&Address::new("127.0.0.1", 7093)));
    assert_eq!(config.cluster.broker_heartbeat_interval_ms, 500);
    assert_eq!(config.cluster.broker_session_timeout_ms, 3_000);
    assert_eq!(config.controller.election_timeout, Duration::from_secs(1));
    assert!(config.limits.io_threads >= 1 && config.limits.network_threads >= 1);
    assert!(config.cluster.auto_leader_rebalance);
    assert_eq!(config.cluster.num_partitions, 1);
    assert_eq!(config.topics, TopicConfig::default());
    assert_eq!(config.shared, BTreeMap::new());
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn a_file_of_a_combined_node_with_all_listeners_is_accepted() {
    let text = r#"
node.id = 2
process.roles = ["controller", "broker"]
log.dirs = ["/data/2"]
controller.quorum.voters = ["1@127.0.0.1:19301", "2@127.0.0.1:19302", "3@127.0.0.1:19303"]
listeners = ["KAFKA://127.0.0.1:9093", "GRPC://127.0.0.1:17093", "CONTROLLER://127.0.0.1:19302", "HTTP://127.0.0.1:18093"]
offsets.topic.replication.factor = 3
log.retention.ms = "2d"
log.cleanup.policy = "delete"
num.partitions = 6
"#;
    let config = parse(text).unwrap();
    assert_eq!(config.voters.len(), 3);
    assert_eq!(config.storage.log_dirs, [PathBuf::from("/data/2")]);
    assert_eq!(config.shared["log.retention.ms"], "172800000");
    assert_eq!(config.shared["log.cleanup.policy"], "delete");
    assert_eq!(config.topics.retention_ms, Some(172_800_000));
    assert_eq!(config.cluster.num_partitions, 6);
    assert!(config.warnings[0].contains("KAFKA"), "{:?}", config.warnings);
}

#[test]
fn every_error_is_told_at_once_with_its_line_and_what_to_do() {
    let text = "node.id = 1\nbroker.rcak = \"a\"\nprocess.roles = [\"brokr\"]\nnum.partitions = 0\n";
    let ConfigErrors(errors) = parse(text).unwrap_err();
    let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        all,
        [
            "node.toml:2: broker.rcak: no property has this name; did you mean `broker.rack`?",
            "node.toml:3: process.roles: \"brokr\" is not known; did you mean \"broker\"?",
            "node.toml:4: num.partitions: is the number 0; write an integer from 1 to 100000",
            "node.toml: controller.quorum.voters: is missing; add it, as in `controller.quorum.voters = \
             [\"1@10.0.0.1:7093\", \"2@10.0.0.2:7093\", \"3@10.0.0.3:7093\"]`",
            "node.toml: log.dirs: is missing; add it, as in `log.dirs = [\"/var/lib/vltava/data\"]`",
        ]
    );
    assert!(complaint(text).starts_with("the configuration has 5 errors:\n  node.toml:2"));
}

#[test]
fn parts_that_do_not_fit_together_are_errors() {
    let cases = [
        ("process.roles = [\"broker\"]", "names this node (1), which is no controller"),
        ("process.roles = []", "names no role"),
        ("listeners = [\"GRPC://h:1\"]", "names no CONTROLLER listener, which a controller needs"),
        (
            "listeners = [\"GRPC://h:7093\", \"CONTROLLER://h:7093\"]",
            "CONTROLLER://h:7093 and GRPC://h:7093 share a port",
        ),
        ("listeners = [\"GRPC://0.0.0.0:1\", \"CONTROLLER://h:7093\"]", "means every interface"),
        ("listeners = [\"GRPC://h:1\", \"CONTROLLER://h:7000\"]", "has this node at 127.0.0.1:7093"),
        ("advertised.listeners = [\"KAFKA://h:1\"]", "advertises KAFKA"),
        ("advertised.listeners = [\"GRPC://0.0.0.0:1\"]", "no address that others could connect to"),
        ("metadata.log.dir = \"data\"", "is one of `log.dirs`"),
        ("broker.session.timeout.ms = 600", "leaves no room"),
        ("controller.quorum.election.timeout.ms = 300", "more than a third"),
        ("cluster.id = \"my cluster\"", "is no id"),
        ("metadata.log.engine = \"rocks\"", "write wal or sled"),
        ("\"node.id\" = 2", "keep one of the two"),
        ("listeners = [\"PLAINTEXT://h:1\"]", "is no listener's name"),
        ("zookeeper.connect = \"h:2181\"", "docs/configuration.md lists all names"),
        ("log.retention.ms = 1.5", "is a fraction"),
        (
            "log.retention.ms = \"7 weeks\"",
            "write an integer of at least 0, or -1 for no limit, or a duration",
        ),
        ("num.partitions = \"3\"", "write 3 without quotes"),
        ("unclean.leader.election.enable = \"true\"", "write true or false"),
        ("log.message.timestamp.type = \"CreatTime\"", "one of CreateTime, LogAppendTime"),
    ];
    for (line, expected) in cases {
        let said = complaint(&format!("{MINIMAL}{line}\n"));
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
fn overrides_win_and_are_checked_like_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n.toml");
    std::fs::write(&path, MINIMAL).unwrap();
    let with =
        |key: &str, value: &str| Config::load_with(&path, vec![(key.into(), Setting::from_text(value))]);
    assert_eq!(with("node.id", "1").unwrap().node_id, NodeId::new(1));
    assert_eq!(with("broker.rack", "r1").unwrap().rack.as_deref(), Some("r1"));
    assert!(with("broker.rak", "r1").unwrap_err().to_string().contains("broker.rack"));
    assert_eq!(Config::load(&path).unwrap().storage.log_dirs, [dir.path().join("data")]);
    let moved = with("log.dirs", "[\"../a/../b\", \"./c\", \"/d\"]").unwrap();
    let beside = dir.path().parent().unwrap().join("a/../b");
    assert_eq!(moved.storage.log_dirs, [beside, dir.path().join("c"), PathBuf::from("/d")]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Config::load(&dir.path().join("missing.toml")).unwrap_err().to_string();
    assert!(
        missing.contains("missing.toml: cannot be read") && missing.contains("deploy/examples"),
        "{missing}"
    );
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    assert!(Config::load(&binary).unwrap_err().to_string().contains("not text in UTF-8"));
}

#[test]
fn settings_of_a_program_get_the_same_checks() {
    let settings = vec![
        ("node.id".to_owned(), Setting::from(2)),
        ("log.dirs".to_owned(), Setting::from(vec!["d"])),
        ("controller.quorum.voters".to_owned(), Setting::from(vec!["2@127.0.0.1:7093"])),
    ];
    let config = Config::from_settings("dev", Path::new("/base"), settings.clone()).unwrap();
    assert_eq!(config.storage.log_dirs, [PathBuf::from("/base/d")]);
    let errors = Config::from_settings("dev", Path::new("/"), settings[..1].to_vec()).unwrap_err();
    assert!(errors.to_string().contains("dev: log.dirs: is missing"), "{errors}");
}

#[test]
fn the_reference_names_every_property() {
    let page = reference_markdown();
    for property in properties() {
        assert!(page.contains(&format!("### `{}`\n", property.name)), "{}", property.name);
    }
}

#[test]
fn random_text_never_panics() {
    let mut seed = 7_u64;
    for _ in 0..2_000 {
        let text: String = (0..40)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let alphabet = b"ab.=[]\"'\n{}01,_# \\x\xc3";
                alphabet[(seed >> 33) as usize % alphabet.len()] as char
            })
            .collect();
        let _ = parse(&text);
    }
}

#[test]
fn the_printed_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let printed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(printed == reference_markdown(), "docs/configuration.md is out of date: run `cargo xtask docs`");
}
