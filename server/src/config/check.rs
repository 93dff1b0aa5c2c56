//! Every refusal of a configuration, with what to do about it.

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::{NodeId, Region};
use common::storage::engine::FjallConfig;
use common::storage::wal::WalConfig;
use leader::quota::{Limit, Quota};

use super::{EngineKind, File, Problem, Strategy, lease_for};
use crate::command::write_mode;
use crate::service::Limits;
use crate::users::{PasswordDigest, Users};

/// The longest name of a cluster, region or rack in bytes: it travels in every handshake.
const LONGEST_NAME: usize = 255;

/// The bounds of how long a client may be waited for. Shorter would cut off honest clients.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

fn refuse<T>(key: impl Into<String>, problem: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::new(key, problem))
}

fn name(key: &str, value: &str) -> Result<(), Problem> {
    if value.trim().is_empty() {
        return refuse(key, "is empty: give it a name");
    }
    if value.len() > LONGEST_NAME {
        let length = value.len();
        return refuse(key, format!("has {length} bytes: at most {LONGEST_NAME} are possible"));
    }
    Ok(())
}

pub(super) fn names(file: &File) -> Result<(), Problem> {
    if file.id == 0 {
        return refuse("id", "is 0: ids begin with 1");
    }
    name("cluster", &file.cluster)?;
    if file.strategy != Strategy::Leader {
        return refuse(
            "strategy",
            format!("is {:?}, which is not built yet: use \"leader\"", file.strategy)
                .to_lowercase(),
        );
    }
    if file.data.as_os_str().is_empty() {
        return refuse("data", "is empty: name a folder that this node may fill");
    }
    Ok(())
}

/// `host:port`, with a port that others can be told where `port` says so.
fn address(key: &str, value: &str, port: Port) -> Result<(), Problem> {
    let wrong = |why: &str| {
        refuse(key, format!("is {value:?}: {why}; write \"host:port\", such as \"10.0.0.1:6379\""))
    };
    let Some((host, number)) = value.rsplit_once(':') else { return wrong("it has no port") };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return wrong("it has no host");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return wrong("an IPv6 address stands in brackets");
    }
    match number.parse::<u16>() {
        Ok(0) if matches!(port, Port::Told) => wrong("the others cannot be told port 0"),
        Ok(_) => Ok(()),
        Err(_) => wrong("its port is not a number from 1 to 65535"),
    }
}

enum Port {
    /// Others are told the address.
    Told,
    /// It is only bound.
    Bound,
}

pub(super) fn peers(file: &File) -> Result<(), Problem> {
    if file.peers.is_empty() {
        return refuse(
            "peers",
            "is empty: list every node of the cluster with its addresses, this one included",
        );
    }
    let mut ids = BTreeMap::new();
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    for (at, peer) in file.peers.iter().enumerate() {
        let key = |field: &str| format!("peers[{at}].{field}");
        if peer.id == 0 {
            return refuse(key("id"), "is 0: ids begin with 1");
        }
        if let Some(first) = ids.insert(peer.id, at) {
            return refuse(
                key("id"),
                format!("is {}, as peers[{first}].id is: every node has an id of its own", peer.id),
            );
        }
        for (field, value) in [("resp", &peer.resp), ("http", &peer.http), ("peer", &peer.peer)] {
            address(&key(field), value, Port::Told)?;
            if let Some(other) = taken.insert(value, key(field)) {
                return refuse(
                    key(field),
                    format!("is {value:?}, as {other} is: every address serves one purpose"),
                );
            }
        }
        for (field, value) in [("region", &peer.region), ("rack", &peer.rack)] {
            if let Some(value) = value {
                name(&key(field), value)?;
            }
        }
    }
    if !ids.contains_key(&file.id) {
        let known: Vec<String> = ids.keys().map(u64::to_string).collect();
        return refuse(
            "id",
            format!(
                "is {}, but `peers` lists {}: add this node's addresses to the list, or correct the id",
                file.id,
                known.join(", ")
            ),
        );
    }
    Ok(())
}

pub(super) fn listen(file: &File) -> Result<(), Problem> {
    let listen = &file.listen;
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, value) in [
        ("listen.resp", &listen.resp),
        ("listen.http", &listen.http),
        ("listen.peer", &listen.peer),
    ] {
        let Some(value) = value else { continue };
        address(key, value, Port::Bound)?;
        if value.ends_with(":0") {
            continue;
        }
        if let Some(other) = taken.insert(value, key) {
            return refuse(key, format!("is {value:?}, as `{other}` is: use another port"));
        }
    }
    Ok(())
}

pub(super) fn knobs(file: &File) -> Result<leader::Config, Problem> {
    let knobs = &file.leader;
    let mut config = leader::Config::new(NodeId(file.id), file.cluster.clone());
    macro_rules! take {
        ($($knob:ident: $with:expr),* $(,)?) => {
            $(if let Some(value) = knobs.$knob { config.$knob = $with(value); })*
        };
    }
    if let Some(longest) = knobs.election_timeout_max {
        config.lease_read_max_age = lease_for(longest.0);
        config.disk_stall_limit = longest.0 * 2;
    }
    let bytes = |size: super::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    let time = |span: super::Span| span.0;
    take! {
        heartbeat_interval: time,
        election_timeout_min: time,
        election_timeout_max: time,
        election_priority: |priority| priority,
        disk_stall_limit: time,
        max_clock_drift: |drift| drift,
        lease_read_max_age: time,
        batch_commands: |count| count,
        batch_bytes: bytes,
        max_command_bytes: bytes,
        max_uncommitted_bytes: bytes,
        checkpoint_bytes: |size: super::Size| size.0,
        checkpoint_interval: time,
        keep_entries: |count| count,
        log_cache_bytes: bytes,
        snapshot_chunk_bytes: bytes,
        change_feed: |keeps| keeps,
        snapshot_retention: time,
        max_snapshots: |count| count,
        check_interval: |span: super::Span| Some(span.0).filter(|span| !span.is_zero()),
        check_bytes_per_second: |size: super::Size| size.0,
    }
    if let Some(words) = &knobs.write_mode {
        let Some(mode) = write_mode(words) else {
            let problem = format!("is \"{words}\": write what REPL ACK takes, such as \"semi 1\"");
            return refuse("leader.write_mode", problem);
        };
        config.write_mode = mode;
    }
    let labelled = file.peers.iter().filter_map(|peer| Some((peer.id, peer.region.clone()?)));
    config.regions = labelled.map(|(id, region)| (NodeId(id), Region(region))).collect();
    let others = file.peers.iter().filter(|peer| peer.id != file.id);
    config.contacts = others.map(|peer| (NodeId(peer.id), peer.peer.clone())).collect();
    let racked = file.peers.iter().filter_map(|peer| Some((NodeId(peer.id), peer.rack.clone()?)));
    config.racks = racked.collect();
    config.wal = wal(file)?;
    let (quota, size) = (&file.quota, |size: super::Size| size.0);
    config.quota = Quota {
        bytes: Limit { soft: quota.soft_bytes.map(size), hard: quota.hard_bytes.map(size) },
        keys: Limit { soft: quota.soft_keys, hard: quota.hard_keys },
    };
    config
        .quota
        .validate()
        .map_err(|problem| Problem::new("quota", format!("is refused: {problem}")))?;
    config.validate().map_err(|error| {
        Problem::new(format!("leader.{}", error.knob), format!("is refused: {}", error.problem))
    })?;
    Ok(config)
}

pub(super) fn users(file: &File) -> Result<Users, Problem> {
    let mut users = BTreeMap::new();
    for (number, user) in file.users.iter().enumerate() {
        let key = |field: &str| format!("users[{number}].{field}");
        name(&key("name"), &user.name)?;
        let Some(digest) = PasswordDigest::from_hex(&user.password_sha256) else {
            let problem = "is not 64 hexadecimal digits: write what `printf %s PASSWORD | \
                           sha256sum` prints";
            return refuse(key("password_sha256"), problem);
        };
        if users.insert(user.name.clone(), (digest, user.role)).is_some() {
            return refuse(key("name"), format!("is \"{}\", as another one is", user.name));
        }
    }
    Ok(Users::new(users))
}

pub(super) fn limits(file: &File, leader: &leader::Config) -> Result<Limits, Problem> {
    let knobs = &file.limits;
    let mut limits = Limits { request_bytes: leader.max_command_bytes * 2, ..Limits::default() };
    for (key, value, into) in [
        ("limits.clients", knobs.clients, &mut limits.connections),
        ("limits.pipeline", knobs.pipeline, &mut limits.pipeline),
    ] {
        match value {
            Some(0) => return refuse(key, "is 0: nobody could be served; it must be at least 1"),
            Some(value) => *into = value,
            None => {}
        }
    }
    for (key, value, into) in [
        ("limits.request_bytes", knobs.request_bytes, &mut limits.request_bytes),
        ("limits.unsent_bytes", knobs.unsent_bytes, &mut limits.unsent_bytes),
    ] {
        let Some(size) = value else { continue };
        if size.0 < 16 << 10 || size.0 > 1 << 30 {
            return refuse(key, format!("is {size}: it must be 16KiB to 1GiB"));
        }
        *into = usize::try_from(size.0).unwrap_or(usize::MAX);
    }
    for (key, value) in [
        ("limits.idle_timeout", knobs.idle_timeout),
        ("limits.unsent_timeout", knobs.unsent_timeout),
        ("limits.handshake_timeout", knobs.handshake_timeout),
    ] {
        let Some(span) = value else { continue };
        if span.0 < SHORTEST_TIMEOUT || span.0 > LONGEST_TIMEOUT {
            let hint = if key == "limits.idle_timeout" { "; leave it out for never" } else { "" };
            return refuse(key, format!("is {span}: it must be 100ms to 8760h{hint}"));
        }
    }
    limits.idle = knobs.idle_timeout.map(|span| span.0);
    limits.stall = knobs.unsent_timeout.map_or(limits.stall, |span| span.0);
    limits.handshake = knobs.handshake_timeout.map_or(limits.handshake, |span| span.0);
    Ok(limits)
}

fn wal(file: &File) -> Result<WalConfig, Problem> {
    let mut config = WalConfig::default();
    let bytes = |size: super::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    if let Some(size) = file.wal.segment_bytes {
        if size.0 < 4096 {
            return refuse("wal.segment_bytes", format!("is {size}: it must be at least 4KiB"));
        }
        config.segment_bytes = size.0;
    }
    if let Some(size) = file.wal.max_record {
        if size.0 == 0 || size.0 > 1 << 30 {
            return refuse("wal.max_record", format!("is {size}: it must be 1B to 1GiB"));
        }
        config.max_record = bytes(size);
    }
    if let Some(size) = file.wal.group_bytes {
        if size.0 == 0 || size.0 > 1 << 30 {
            return refuse("wal.group_bytes", format!("is {size}: it must be 1B to 1GiB"));
        }
        config.group_bytes = bytes(size);
    }
    Ok(config)
}

pub(super) fn engine(file: &File) -> Result<FjallConfig, Problem> {
    let mut config = FjallConfig::default();
    let Some(knobs) = &file.fjall else { return Ok(config) };
    if file.engine == EngineKind::Memory {
        return refuse(
            "fjall",
            "has no effect with `engine = \"memory\"`: remove the section, or use engine \"fjall\"",
        );
    }
    if let Some(size) = knobs.cache_bytes {
        config.cache_bytes = size.0;
    }
    if let Some(size) = knobs.buffer_bytes {
        if size.0 < 1 << 20 {
            return refuse("fjall.buffer_bytes", format!("is {size}: it must be at least 1MiB"));
        }
        config.buffer_bytes = size.0;
    }
    if let Some(workers) = knobs.workers {
        if workers == 0 || workers > 64 {
            return refuse("fjall.workers", format!("is {workers}: it must be 1 to 64"));
        }
        config.workers = workers;
    }
    Ok(config)
}

pub(super) fn log(file: &File) -> Result<(), Problem> {
    let Some(filter) = &file.log else { return Ok(()) };
    crate::logging::filter(filter)
        .map(drop)
        .map_err(|error| Problem::new("log", format!("is {filter:?}: {error}")))
}
