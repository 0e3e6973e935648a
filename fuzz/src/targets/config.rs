//! A server's config file, and the values of configs as they come by request.
//!
//! Input: text.

use std::path::Path;

use vltava_model::configs::{ConfigScope, nearest, validate};
use vltava_node::config::{Address, Config, Listener, Setting, Voter, parse_duration, parse_size};

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(errors) = Config::parse("fuzz.toml", Path::new("/etc"), text) {
        assert!(!errors.0.is_empty(), "what is refused is refused for a reason");
        assert!(!errors.to_string().is_empty());
    }
    for line in text.lines().take(20) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let (name, value) = (name.trim(), value.trim().trim_matches('"'));
        for scope in [ConfigScope::Topic, ConfigScope::Cluster, ConfigScope::Broker] {
            if let Err(error) = validate(scope, name, value) {
                assert!(!error.to_string().is_empty());
            }
        }
        let _ = (parse_duration(value), parse_size(value), Setting::from_text(value));
        let _ = (Listener::parse(value), Voter::parse(value), nearest(name, ["log.dirs", "node.id"]));
        if let Ok(address) = Address::parse(value) {
            assert_eq!(
                Address::parse(&address.to_string()).as_ref(),
                Ok(&address),
                "an address is read as told"
            );
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "node.id = 1\nprocess.roles = [\"broker\", \"controller\"]\nlog.dirs = \"/var/lib/vltava\"\n\
         controller.quorum.voters = \"1@localhost:7093\"\nlisteners = \"GRPC://0.0.0.0:7092,CONTROLLER://[::1]:7093\"\n",
        "retention.ms=1h\nsegment.bytes=\"1 GiB\"\ncompression.type = zstd\nmin.insync.replicas=2",
        "advertised.listeners = ['GRPC://host.example:1']\nretention.bytes=-1\nflush.messages=1\n[table]\nx = 1.5",
        "node.id = -1\nlog.dirs = [1, 2]\nprocess.rolez = 'broker'\nnum.partitions = 99999999999999999999",
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}
