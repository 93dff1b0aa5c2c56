//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::Exit;
use crate::{admin, backup, bench, certificates, cluster, watching};

/// A replicated key-value store that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "tercet", version, after_help = Exit::HELP, arg_required_else_help = true)]
pub struct Cli {
    /// What is logged to stderr: error, warn, info, debug or trace, or per module such as
    /// "info,leader=debug". Wins over the variable TERCET_LOG and the configuration file.
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A guided tour: three nodes, the leader killed, nothing lost. Needs no argument, ends by
    /// itself and leaves nothing behind.
    Demo,
    /// Run a cluster on this machine until Ctrl-C.
    Cluster(cluster::Arguments),
    /// Run one node of a cluster.
    Node(NodeArguments),
    /// Show the nodes of a cluster: role, term, positions, lag, disk, size.
    Status(StatusArguments),
    /// Show or change the members.
    Members(admin::Members),
    /// Hand leadership over.
    Transfer(admin::Transfer),
    /// Show the writes that a node has lost to a failover, or write them again.
    Rollbacks(admin::Rollbacks),
    /// Have all nodes compare their states at one position.
    Check(admin::Check),
    /// Copy all data of a running cluster into one file.
    Backup(backup::Backup),
    /// Check that a backup is whole, and show what it holds.
    Verify(backup::Verify),
    /// Make the data folder of a node of a new cluster from a backup.
    Restore(backup::Restore),
    /// Print what is changed, as JSON lines, from now or any position on.
    Watch(watching::Arguments),
    /// Make certificates to try TLS with: an authority, one for each node, one for clients.
    Certificates(certificates::Arguments),
    /// Measure throughput and latencies over the Redis protocol.
    Bench(bench::Arguments),
}

/// What `tercet node` is told.
#[derive(Debug, clap::Args)]
pub struct NodeArguments {
    /// The node's configuration.
    #[arg(long, required_unless_present = "print_config")]
    pub config: Option<PathBuf>,
    /// Print a commented default configuration and end.
    #[arg(long, conflicts_with = "config")]
    pub print_config: bool,
    /// Stop when stdin closes: for programs that start nodes.
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
}

/// What `tercet status` is told.
#[derive(Debug, clap::Args)]
pub struct StatusArguments {
    /// HTTP address of any node, as host:port; repeat it in case one is down.
    #[arg(long, default_value = "127.0.0.1:8379")]
    pub address: Vec<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_arguments_are_refused_with_what_is_possible() {
        for (line, part) in [
            ("tercet bench --read-share 2", "from 0 (writes only) to 1"),
            ("tercet bench --duration 10", "such as \"50ms\""),
            ("tercet bench --requests 5 --duration 1s", "cannot be used with"),
            ("tercet bench --address a:1 --memory", "cannot be used with"),
            ("tercet bench --wait 1", "--address"),
            ("tercet bench --address a:1 --etcd --wait 1", "cannot be used with"),
            ("tercet bench --state 1GiB", "--faults"),
            ("tercet bench --faults 3 --address a:1", "cannot be used with"),
            ("tercet cluster --nodes 0", "1..=15"),
            ("tercet cluster --base-port 65000", "65000"),
            ("tercet cluster --strategy raft", "leader"),
            ("tercet certificates", "<FOLDER>"),
            ("tercet node", "--config"),
            ("tercet node --config a --print-config", "cannot be used with"),
            ("tercet backup", "<FILE>"),
            ("tercet restore file", "--config"),
            ("tercet restore file --config a --cluster-id xyz", "hexadecimal"),
            ("tercet members replace 2 4 a:1 --accept all", "region-majority"),
            ("tercet dmeo", "demo"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn every_command_works_with_defaults() {
        for line in [
            "demo",
            "cluster",
            "node --print-config",
            "status",
            "bench",
            "members",
            "members add 4 10.0.0.4:7379 --address 10.0.0.1:8379",
            "members promote 4 --wait 10 --accept region-majority --accept few-live",
            "members replace 2 4 10.0.0.4:7379",
            "members abort",
            "members describe 4 --priority 5 --hidden true --region eu --rack r1",
            "members relocate 4 10.0.0.5:7379",
            "transfer --to 2",
            "rollbacks",
            "rollbacks replay 0-1-2-3 --absent-keys",
            "backup --from 10.0.0.1:8379 --level eventual file",
            "check --seconds 600",
            "verify file",
            "restore file --config node.toml --data folder --cluster-id 00ff",
            "watch --from 3.57 --prefix user: --count 5 --hold mine --user ann --progress",
            "bench --tls",
            "bench --address a:1 --certificates folder",
            "bench --address a:1 --wait 1",
            "bench --address a:1 --etcd",
            "bench --faults 5 --state 256MiB",
            "certificates folder --nodes 5 --host a --host 10.0.0.1 --days 30",
            "cluster --tls",
            "--log warn demo",
        ] {
            let line = format!("tercet {line}");
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
}
