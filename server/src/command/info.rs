//! INFO: facts about this node in Redis's sections and names.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use leader::Role;

use super::greeting::COMPATIBLE_WITH;
use super::{Action, Context, Handled, explore::Exploration};
use crate::redis::Cut;
use crate::service::{Service, wall_clock};

/// The sections there are, in their order.
const SECTIONS: [&str; 8] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cluster", "keyspace"];

/// INFO [section ...].
pub(super) fn info(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let asked = &words[1..];
    let everything = ["all", "default", "everything"];
    let wants = |section: &str| {
        asked.is_empty()
            || asked.iter().any(|word| {
                let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
                is(section) || everything.into_iter().any(is)
            })
    };
    let sections = SECTIONS.into_iter().filter(|section| wants(section)).collect();
    Ok(Action::Explore(Exploration::Info { sections }))
}

/// The text of sections.
pub(super) fn text(service: &Service, sections: &[&'static str], cut: &Cut<'_>) -> String {
    let mut text = String::new();
    for section in sections {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing to a string cannot fail.
        let _ = write_section(&mut text, service, section, cut);
    }
    text
}

fn write_section(
    text: &mut String,
    service: &Service,
    section: &str,
    cut: &Cut<'_>,
) -> std::fmt::Result {
    let counters = service.counters();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut line = |name: &str, value: &dyn std::fmt::Display| write!(text, "{name}:{value}\r\n");
    match section {
        "server" => {
            let identity = service.identity();
            let uptime = service.started().elapsed().as_secs();
            line("# Server\r\nredis_version", &COMPATIBLE_WITH)?;
            line("redis_mode", &"standalone")?;
            line("tercet_version", &identity.version)?;
            line("tercet_cluster", &identity.cluster)?;
            line("tercet_node", &identity.node)?;
            line("tercet_strategy", &"leader")?;
            line("os", &std::env::consts::OS)?;
            line("arch_bits", &usize::BITS)?;
            line("process_id", &std::process::id())?;
            line("run_id", &run_id(service))?;
            line("tcp_port", &identity.address(identity.node).1)?;
            line("server_time_usec", &wall_clock().as_micros())?;
            line("uptime_in_seconds", &uptime)?;
            line("uptime_in_days", &(uptime / 86_400))
        }
        "clients" => {
            line("# Clients\r\nconnected_clients", &count(&counters.open))?;
            line("cluster_connections", &0)?;
            line("maxclients", &service.limits.connections)?;
            line("blocked_clients", &service.blocked.count())?;
            line("tracking_clients", &0)
        }
        "memory" => {
            let resident = resident_bytes();
            line("# Memory\r\nused_memory", &resident)?;
            line("used_memory_rss", &resident)?;
            let standing = service.backend.standing();
            let (usage, quota) = (standing.usage, standing.quota);
            let shown = |limit: Option<u64>| limit.unwrap_or(0);
            line("maxmemory", &shown(quota.bytes.hard))?;
            line("tercet_state_bytes", &usage.bytes)?;
            line("tercet_state_keys", &usage.keys)?;
            line("tercet_soft_bytes", &shown(quota.bytes.soft))?;
            line("tercet_soft_keys", &shown(quota.keys.soft))?;
            line("tercet_hard_keys", &shown(quota.keys.hard))?;
            line("tercet_quota", &format!("{:?}", quota.judge(usage)).to_lowercase())?;
            line("maxmemory_policy", &"noeviction")
        }
        "persistence" => {
            line("# Persistence\r\nloading", &0)?;
            line("async_loading", &0)?;
            line("rdb_bgsave_in_progress", &0)?;
            line("aof_enabled", &1)?;
            line("aof_rewrite_in_progress", &0)?;
            line("aof_last_write_status", &"ok")
        }
        "stats" => {
            line("# Stats\r\ntotal_connections_received", &count(&counters.accepted))?;
            line("total_commands_processed", &count(&counters.commands))?;
            line("total_net_input_bytes", &count(&counters.bytes_in))?;
            line("total_net_output_bytes", &count(&counters.bytes_out))?;
            line("rejected_connections", &count(&counters.refused))?;
            line("keyspace_hits", &count(&counters.hits))?;
            line("keyspace_misses", &count(&counters.misses))?;
            line("evicted_keys", &0)?;
            line("total_error_replies", &count(&counters.errors))
        }
        "replication" => write_replication(text, service),
        "cluster" => line("# Cluster\r\ncluster_enabled", &0),
        _ => {
            text.push_str("# Keyspace\r\n");
            if cut.count() > 0 {
                let (keys, dated) = (cut.count(), cut.dated());
                write!(text, "db0:keys={keys},expires={dated},avg_ttl=0\r\n")?;
            }
            Ok(())
        }
    }
}

fn write_replication(text: &mut String, service: &Service) -> std::fmt::Result {
    let standing = service.backend.standing();
    let identity = service.identity();
    let mut line = |name: &str, value: &dyn std::fmt::Display| write!(text, "{name}:{value}\r\n");
    let applied = standing.applied.map_or(0, |position| position.index);
    if standing.role == Role::Leader {
        line("# Replication\r\nrole", &"master")?;
        let others: Vec<_> =
            standing.matched.iter().filter(|(id, _)| **id != identity.node).collect();
        line("connected_slaves", &others.len())?;
        for (number, (id, matched)) in others.into_iter().enumerate() {
            let ((host, port), offset) = (identity.address(*id), matched.map_or(0, |at| at.index));
            let value = format!("ip={host},port={port},state=online,offset={offset},lag=0");
            line(&format!("slave{number}"), &value)?;
        }
    } else {
        let (host, port) = standing.leader.map_or(("", 0), |leader| identity.address(leader));
        let link = if standing.leader.is_some() { "up" } else { "down" };
        line("# Replication\r\nrole", &"slave")?;
        line("master_host", &host)?;
        line("master_port", &port)?;
        line("master_link_status", &link)?;
        line("slave_read_only", &0)?;
        line("slave_repl_offset", &applied)?;
        line("connected_slaves", &0)?;
    }
    line("master_failover_state", &"no-failover")?;
    line("master_repl_offset", &applied)?;
    line("tercet_term", &standing.term)?;
    line("tercet_voters", &standing.voters.len())
}

/// Forty digits that differ between nodes, and between two lives of one.
fn run_id(service: &Service) -> String {
    let began = wall_clock().saturating_sub(service.started().elapsed()).as_secs();
    format!("{:016x}{:016x}{:08x}", service.identity().node.0, began, std::process::id())
}

/// Bytes of memory that the process holds, where the system says so.
fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
}
