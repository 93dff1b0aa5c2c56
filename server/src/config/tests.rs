//! What is accepted, and a table of what is refused with which words.

use super::*;

fn example() -> String {
    TEMPLATE.to_owned()
}

/// Writes `text` where a node would find it and loads it.
fn load(text: &str) -> Result<NodeConfig, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    NodeConfig::load(&path).map_err(|error| error.to_string())
}

#[test]
fn the_printed_default_is_a_valid_configuration() {
    let config = load(&example()).unwrap();
    assert_eq!(config.id, NodeId(1));
    assert_eq!(config.cluster, "tercet");
    assert_eq!(config.founder(), NodeId(1));
    assert_eq!(config.others().count(), 2);
    assert!(config.bootstrap);
    assert_eq!(config.listen.resp, "127.0.0.1:6379");
    assert!(config.data.ends_with("tercet-data/node-1"));
}

/// Every `#key = value` of the template with its comment mark removed.
fn uncommented() -> String {
    let mut text = String::new();
    for line in TEMPLATE.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        let is_key = bare.split_once(" = ").is_some_and(|(key, _)| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        });
        let is_key = is_key && !bare.starts_with(' ');
        text.push_str(if is_key { bare } else { line });
        text.push('\n');
    }
    text
}

#[test]
fn what_the_template_shows_as_default_is_the_default() {
    let shown: File = toml::from_str(&uncommented()).unwrap();
    let knobs = format!("{:?}{:?}{:?}", shown.leader, shown.wal, shown.fjall);
    assert!(!knobs.contains("None"), "the template leaves a knob out: {knobs}");
    let mut shown = NodeConfig::check(shown, Path::new("")).unwrap();
    // Labels of peers are examples, not defaults.
    shown.leader.regions.clear();
    shown.leader.racks.clear();
    let plain = load(&example()).unwrap();
    assert_eq!(format!("{:?}", shown.leader), format!("{:?}", plain.leader));
    assert_eq!(format!("{:?}", shown.fjall), format!("{:?}", plain.fjall));
    assert_eq!(shown.listen, plain.listen);
    assert_eq!(format!("{:?}", shown.limits), format!("{:?}", plain.limits));
    assert_eq!(format!("{:?}", plain.limits), format!("{:?}", Limits::default()));
    assert_eq!((shown.strategy, shown.engine), (plain.strategy, plain.engine));
    assert_eq!(shown.bootstrap, plain.bootstrap);
}

#[test]
fn a_written_file_reads_back_as_it_was() {
    let file: File = toml::from_str(&uncommented()).unwrap();
    let text = toml::to_string(&file).unwrap();
    assert_eq!(toml::from_str::<File>(&text).unwrap(), file, "{text}");
    let bare: File = toml::from_str(TEMPLATE).unwrap();
    let text = toml::to_string(&bare).unwrap();
    assert_eq!(toml::from_str::<File>(&text).unwrap(), bare, "{text}");
}

#[test]
fn a_shorter_lease_follows_a_shorter_election_timeout() {
    let text = example().replace(
        "[leader]",
        "[leader]\nelection_timeout_min = \"150ms\"\nelection_timeout_max = \"200ms\"",
    );
    let config = load(&text).unwrap();
    assert_eq!(config.leader.lease_read_max_age, Duration::from_millis(180));
}

/// What is changed in the template (text, replacement), and what the refusal must say.
const REFUSED: &[(&str, &str, &[&str])] = &[
    ("id = 1\n\n", "id = 0\n\n", &["`id` is 0", "begin with 1"]),
    ("id = 1\n\n", "id = 9\n\n", &["`id` is 9", "lists 1, 2, 3", "add this node's addresses"]),
    ("id = 1\n\n", "id = \"one\"\n\n", &["invalid type", "expected u64", "--print-config"]),
    ("id = 1\n\n", "\n", &["missing field `id`", "--print-config"]),
    ("cluster = \"tercet\"", "cluster = \"\"", &["`cluster` is empty"]),
    ("cluster = \"tercet\"", "clutser = \"x\"", &["unknown field `clutser`", "cluster", "hint"]),
    ("data = \"tercet-data/node-1\"", "data = \"\"", &["`data` is empty", "folder"]),
    ("#strategy = \"leader\"", "strategy = \"leaderless\"", &["`strategy`", "not built yet"]),
    ("#strategy = \"leader\"", "strategy = \"rafty\"", &["unknown variant `rafty`", "`leader`"]),
    ("#engine = \"fjall\"", "engine = \"rocks\"", &["unknown variant `rocks`", "`memory`"]),
    ("#engine = \"fjall\"", "engine = \"memory\"", &["`fjall`", "no effect", "remove the section"]),
    ("#log = \"info\"", "log = \"loud\"", &["`log` is \"loud\"", "debug"]),
    ("id = 3\n", "id = 2\n", &["`peers[2].id` is 2", "peers[1].id"]),
    ("127.0.0.1:8381", "127.0.0.1:6379", &["`peers[2].http`", "peers[0].resp"]),
    ("127.0.0.1:8381", "127.0.0.1", &["`peers[2].http`", "no port", "host:port"]),
    ("127.0.0.1:8381", "127.0.0.1:0", &["`peers[2].http`", "port 0"]),
    ("127.0.0.1:8381", ":8381", &["`peers[2].http`", "no host"]),
    ("127.0.0.1:8381", "::1:8381", &["`peers[2].http`", "brackets"]),
    ("127.0.0.1:8381", "127.0.0.1:99999", &["`peers[2].http`", "1 to 65535"]),
    ("#region = \"eu-1\"", "region = \"\"", &["`peers[0].region` is empty"]),
    ("#region = \"eu-1\"", "regoin = \"x\"", &["unknown field `regoin`", "region"]),
    ("[listen]", "[listen]\nresp = \"nowhere\"", &["`listen.resp`", "no port"]),
    (
        "[listen]",
        "[listen]\nresp = \"0.0.0.0:1\"\npeer = \"0.0.0.0:1\"",
        &["`listen.peer`", "`listen.resp`", "another port"],
    ),
    ("[leader]", "[leader]\nheartbeat = \"50ms\"", &["unknown field `heartbeat`", "interval"]),
    ("[leader]", "[leader]\nheartbeat_interval = 50", &["\"50\" is not a time", "50ms"]),
    ("[leader]", "[leader]\nbatch_bytes = \"64MB\"", &["\"64MB\" is not a size", "64MiB"]),
    (
        "[leader]",
        "[leader]\nheartbeat_interval = \"200ms\"",
        &["`leader.election_timeout_min`", "three times heartbeat_interval"],
    ),
    (
        "[leader]",
        "[leader]\nlease_read_max_age = \"600ms\"",
        &["`leader.lease_read_max_age`", "could be stale"],
    ),
    ("[leader]", "[leader]\nmax_command_bytes = \"9MiB\"", &["max_command_bytes", "max_record"]),
    (
        "[listen]",
        "[[users]]\nname = \"a\"\npassword_sha256 = \"secret\"\nrole = \"read\"\n[listen]",
        &["`users[0].password_sha256`", "sha256sum"],
    ),
    (
        "[listen]",
        "[[users]]\nname = \"a\"\npassword_sha256 = \"\"\nrole = \"root\"\n[listen]",
        &["unknown variant `root`", "`admin`"],
    ),
    ("[leader]", "[leader]\nwrite_mode = \"fast\"", &["`leader.write_mode`", "REPL ACK"]),
    ("[limits]", "[limits]\nclients = 0", &["`limits.clients` is 0", "at least 1"]),
    ("[limits]", "[limits]\nidle_timeout = \"0s\"", &["`limits.idle_timeout`", "for never"]),
    ("[limits]", "[limits]\nunsent_bytes = \"1KiB\"", &["`limits.unsent_bytes`", "16KiB"]),
    (
        "[limits]",
        "[tls.clients]\ncertificate = \"nowhere.pem\"\nkey = \"nowhere.key\"\n[limits]",
        &["`tls.clients` cannot be used", "nowhere.pem: No such file"],
    ),
    (
        "[limits]",
        "[tls.peers]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n[limits]",
        &["missing field `ca`"],
    ),
    ("[wal]", "[wal]\nsegment_bytes = \"1KiB\"", &["`wal.segment_bytes` is 1KiB", "4KiB"]),
    ("[fjall]", "[fjall]\nworkers = 0", &["`fjall.workers` is 0", "1 to 64"]),
    ("[fjall]", "[fjall]\nbuffer_bytes = \"4KiB\"", &["`fjall.buffer_bytes`", "1MiB"]),
    ("[fjall]", "[rocksdb]", &["unknown field `rocksdb`", "fjall"]),
    ("[leader]", "[leader", &["TOML parse error"]),
];

#[test]
fn what_cannot_work_is_refused_by_name_with_a_hint() {
    for (from, to, expected) in REFUSED {
        let text = example().replacen(from, to, 1);
        assert_ne!(text, TEMPLATE, "{from:?} is not in the template");
        let error = load(&text).expect_err(to);
        for part in *expected {
            assert!(error.contains(part), "{to:?}: {part:?} is not in:\n{error}");
        }
        assert!(error.contains("node.toml"), "the file is not named in: {error}");
    }
}

#[test]
fn a_missing_file_says_how_to_write_one() {
    let error = NodeConfig::load(Path::new("/nowhere/node.toml")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/node.toml") && error.contains("--print-config"), "{error}");
}
