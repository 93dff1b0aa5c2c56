//! Figures for Prometheus, rendered from what the node knows when it is asked.
//!
//! Nothing is kept here: every figure is read from the node's status or from the listener's
//! counters, so that `/metrics` can never disagree with `/status`. Every name is listed in
//! [`names`], which the documentation and its test read.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::listener::Counters;
use crate::status::StatusReport;

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows, until the process restarts.
    Counter,
}

/// One figure: its name, how it behaves and what it means.
type Name = (&'static str, Kind, &'static str);

const UP: Name = ("tercet_up", Kind::Gauge, "1 while the node takes part, 0 after it has failed");
const ROLE: Name = ("tercet_role", Kind::Gauge, "1 for the role that the node has, by `role`");
const TERM: Name = ("tercet_term", Kind::Gauge, "the node's term; it grows with every election");
const LEADER: Name =
    ("tercet_leader", Kind::Gauge, "the id of the leader that the node knows of, 0 if none");
const LEADER_CHANGES: Name =
    ("tercet_leader_changes_total", Kind::Counter, "times that another leader was seen");
const MEMBERS: Name = ("tercet_members", Kind::Gauge, "members of the cluster, by `voter`");
const LAST: Name = ("tercet_log_last_index", Kind::Gauge, "last entry in the log");
const COMMITTED: Name =
    ("tercet_log_committed_index", Kind::Gauge, "last entry known to be committed");
const APPLIED: Name = ("tercet_log_applied_index", Kind::Gauge, "last entry applied");
const SNAPSHOT: Name =
    ("tercet_log_snapshot_index", Kind::Gauge, "last entry in the newest checkpoint");
const PURGED: Name = ("tercet_log_purged_index", Kind::Gauge, "last entry dropped from the log");
const MATCHED: Name = (
    "tercet_member_matched_index",
    Kind::Gauge,
    "on the leader: last entry that the member holds durably, by `member`",
);
const LOG_BYTES: Name = ("tercet_wal_bytes", Kind::Gauge, "bytes in the log's segments");
const SYNCS: Name = ("tercet_wal_syncs_total", Kind::Counter, "syncs of the log");
const RECORDS: Name = ("tercet_wal_records_total", Kind::Counter, "records written to the log");
const SYNC_P99: Name =
    ("tercet_wal_sync_p99_seconds", Kind::Gauge, "99th percentile of recent syncs");
const UNSYNCED: Name = (
    "tercet_wal_oldest_unsynced_seconds",
    Kind::Gauge,
    "how long the oldest record has waited for its sync",
);
const FULL: Name = ("tercet_disk_full", Kind::Gauge, "1 while the disk is full");
const STATE_BYTES: Name =
    ("tercet_state_bytes", Kind::Gauge, "size of the state, roughly, by `engine`");
const QUOTA_BYTES: Name = (
    "tercet_quota_bytes",
    Kind::Gauge,
    "bytes of keys and values by which the quota judges the state",
);
const QUOTA_KEYS: Name =
    ("tercet_quota_keys", Kind::Gauge, "keys by which the quota judges the state");
const QUOTA_HARD_BYTES: Name = (
    "tercet_quota_hard_bytes",
    Kind::Gauge,
    "most bytes that the state may have, 0 without a limit",
);
const QUOTA_HARD_KEYS: Name =
    ("tercet_quota_hard_keys", Kind::Gauge, "most keys that the state may have, 0 without a limit");
const QUOTA_STATE: Name = (
    "tercet_quota_state",
    Kind::Gauge,
    "0 within the quota, 1 above a soft limit, 2 at a hard one",
);
const QUOTA_REFUSED: Name = (
    "tercet_quota_refused_total",
    Kind::Counter,
    "commands that the node has refused for the quota, as the leader",
);
const SESSIONS: Name = ("tercet_sessions", Kind::Gauge, "open sessions of the nodes that write");
const UPTIME: Name = ("tercet_uptime_seconds", Kind::Gauge, "time since the process started");
const CONNECTIONS: Name = ("tercet_connections", Kind::Gauge, "open connections of clients");
const ACCEPTED: Name =
    ("tercet_connections_accepted_total", Kind::Counter, "connections of clients accepted");
const REFUSED: Name = (
    "tercet_connections_refused_total",
    Kind::Counter,
    "connections of clients refused because there were too many",
);
const TIMED_OUT: Name = (
    "tercet_connections_timed_out_total",
    Kind::Counter,
    "connections closed because the client was silent or took no replies",
);
const HANDSHAKES: Name = (
    "tercet_handshakes_failed_total",
    Kind::Counter,
    "connections closed because the handshake of TLS failed",
);
const COMMANDS: Name = ("tercet_commands_total", Kind::Counter, "commands answered");
const ERRORS: Name =
    ("tercet_command_errors_total", Kind::Counter, "commands answered with an error");
const PROTOCOL: Name = (
    "tercet_protocol_errors_total",
    Kind::Counter,
    "connections closed because what came was not the protocol",
);
const HITS: Name = ("tercet_key_hits_total", Kind::Counter, "reads that found their key");
const MISSES: Name = ("tercet_key_misses_total", Kind::Counter, "reads that did not");
const BYTES_IN: Name = ("tercet_client_bytes_in_total", Kind::Counter, "bytes from clients");
const BYTES_OUT: Name = ("tercet_client_bytes_out_total", Kind::Counter, "bytes to clients");

const QUARANTINED: Name = (
    "tercet_quarantined",
    Kind::Gauge,
    "1 while the node serves no reads, since its state was found to be wrong",
);

const ALL: [Name; 40] = [
    UP,
    ROLE,
    TERM,
    LEADER,
    LEADER_CHANGES,
    MEMBERS,
    LAST,
    COMMITTED,
    APPLIED,
    SNAPSHOT,
    PURGED,
    MATCHED,
    LOG_BYTES,
    SYNCS,
    RECORDS,
    SYNC_P99,
    UNSYNCED,
    FULL,
    QUARANTINED,
    STATE_BYTES,
    QUOTA_BYTES,
    QUOTA_KEYS,
    QUOTA_HARD_BYTES,
    QUOTA_HARD_KEYS,
    QUOTA_STATE,
    QUOTA_REFUSED,
    SESSIONS,
    UPTIME,
    CONNECTIONS,
    ACCEPTED,
    REFUSED,
    TIMED_OUT,
    HANDSHAKES,
    COMMANDS,
    ERRORS,
    PROTOCOL,
    HITS,
    MISSES,
    BYTES_IN,
    BYTES_OUT,
];

/// The roles that `tercet_role` tells apart.
const ROLES: [&str; 6] = ["leader", "follower", "candidate", "learner", "uninitialized", "stopped"];

/// Every figure: name, kind, meaning.
pub fn names() -> impl Iterator<Item = (&'static str, Kind, &'static str)> {
    ALL.into_iter()
}

/// What the server counts beside the node.
#[derive(Debug, Default)]
pub struct Watched {
    /// Times that another leader was seen.
    pub leader_changes: AtomicU64,
}

/// Text in the exposition format, version 0.0.4.
struct Page(String);

impl Page {
    fn head(&mut self, (name, kind, help): Name) {
        let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: Name, value: impl std::fmt::Display) {
        self.head(name);
        let _ = writeln!(self.0, "{} {value}", name.0);
    }

    fn labelled(
        &mut self,
        name: Name,
        label: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        self.head(name);
        for (of, value) in values {
            let _ = writeln!(self.0, "{}{{{label}=\"{of}\"}} {value}", name.0);
        }
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Renders every figure. `counters` is absent before the listener serves.
pub fn render(report: &StatusReport, counters: Option<&Counters>, watched: &Watched) -> String {
    let mut page = Page(String::with_capacity(4096));
    page.one(UP, u8::from(report.failure.is_none()));
    let roles = ROLES.map(|role| (role.to_owned(), u64::from(role == report.role)));
    page.labelled(ROLE, "role", roles);
    page.one(TERM, report.term);
    page.one(LEADER, report.leader.unwrap_or(0));
    page.one(LEADER_CHANGES, watched.leader_changes.load(Ordering::Relaxed));
    let voters = report.members.iter().filter(|member| member.voter).count() as u64;
    let others = report.members.len() as u64 - voters;
    page.labelled(MEMBERS, "voter", [("true".into(), voters), ("false".into(), others)]);
    page.one(LAST, report.log.last.unwrap_or(0));
    page.one(COMMITTED, report.log.committed.unwrap_or(0));
    page.one(APPLIED, report.log.applied.unwrap_or(0));
    page.one(SNAPSHOT, report.log.snapshot.unwrap_or(0));
    page.one(PURGED, report.log.purged.unwrap_or(0));
    let matched = report.members.iter().filter_map(|m| Some((m.id.to_string(), m.matched?)));
    page.labelled(MATCHED, "member", matched);
    page.one(LOG_BYTES, report.disk.log_bytes);
    page.one(SYNCS, report.disk.syncs);
    page.one(RECORDS, report.disk.records);
    page.one(SYNC_P99, seconds(report.disk.sync_p99_micros));
    page.one(UNSYNCED, seconds(report.disk.oldest_unsynced_micros));
    page.one(FULL, u8::from(report.disk.full));
    page.one(QUARANTINED, u8::from(report.quarantine.is_some()));
    page.labelled(STATE_BYTES, "engine", [(report.state.engine.clone(), report.state.bytes)]);
    let quota = &report.state.quota;
    page.one(QUOTA_BYTES, quota.bytes);
    page.one(QUOTA_KEYS, quota.keys);
    page.one(QUOTA_HARD_BYTES, quota.hard_bytes.unwrap_or(0));
    page.one(QUOTA_HARD_KEYS, quota.hard_keys.unwrap_or(0));
    let states = ["within", "warned", "full"];
    let state = states.iter().position(|state| *state == quota.state);
    page.one(QUOTA_STATE, state.unwrap_or(0));
    page.one(QUOTA_REFUSED, quota.refused);
    page.one(SESSIONS, report.state.sessions);
    page.one(UPTIME, report.uptime_ms as f64 / 1000.0);
    let none = Counters::default();
    let counters = counters.unwrap_or(&none);
    for (name, counter) in [
        (CONNECTIONS, &counters.open),
        (ACCEPTED, &counters.accepted),
        (REFUSED, &counters.refused),
        (TIMED_OUT, &counters.timed_out),
        (HANDSHAKES, &counters.handshakes_failed),
        (COMMANDS, &counters.commands),
        (ERRORS, &counters.errors),
        (PROTOCOL, &counters.protocol_errors),
        (HITS, &counters.hits),
        (MISSES, &counters.misses),
        (BYTES_IN, &counters.bytes_in),
        (BYTES_OUT, &counters.bytes_out),
    ] {
        page.one(name, counter.load(Ordering::Relaxed));
    }
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_rendered_once_with_help_and_type() {
        let text = render(&StatusReport::default(), None, &Watched::default());
        for (name, kind, help) in names() {
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}");
            let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
            assert_eq!(text.matches(&format!("# TYPE {name} {kind}\n")).count(), 1, "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        }
        let heads = text.matches("# TYPE ").count();
        assert_eq!(heads, names().count(), "a figure is rendered that is not listed");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (_, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn every_name_is_explained_in_the_readme() {
        let readme = include_str!("../README.md");
        for (name, _, help) in names() {
            assert!(readme.contains(&format!("| `{name}` | {help} |")), "{name}");
        }
        assert_eq!(readme.matches("| `tercet_").count(), names().count());
    }

    #[test]
    fn figures_say_what_the_status_and_the_counters_say() {
        let mut report = StatusReport { role: "leader".into(), term: 7, ..StatusReport::default() };
        report.log.applied = Some(42);
        report.disk.sync_p99_micros = 1500;
        let counters = Counters::default();
        counters.commands.store(11, Ordering::Relaxed);
        let text = render(&report, Some(&counters), &Watched::default());
        for line in [
            "tercet_role{role=\"leader\"} 1",
            "tercet_role{role=\"follower\"} 0",
            "tercet_term 7",
            "tercet_log_applied_index 42",
            "tercet_wal_sync_p99_seconds 0.0015",
            "tercet_commands_total 11",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
