//! From the command line to an exit code.

use std::fmt::Display;

use clap::Parser;

use crate::cli::{Cli, Command, NodeArguments, StatusArguments};
use crate::cluster::ClusterError;
use crate::config::{NodeConfig, TEMPLATE};
use crate::exit::Exit;
use crate::stop::{Signals, stdin_closed};
use crate::{admin, backup, bench, certificates, cluster, demo, logging, node, status, watching};

/// What is logged by commands whose own output is what counts.
const QUIET: &str = "warn";

/// Runs the program.
pub async fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and go to stdout.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Good };
            return if error.print().is_ok() { exit } else { Exit::Failed };
        }
    };
    let variable = std::env::var(logging::VARIABLE).ok();
    let filter = |file: Option<&str>, otherwise: &str| {
        let chosen = logging::choose(cli.log.as_deref(), variable.as_deref(), file, otherwise);
        logging::start(chosen).map_err(|error| fail(Exit::Usage, error)).map(|()| chosen.to_owned())
    };
    if let Command::Node(arguments) = &cli.command {
        return run_node(arguments, |file| filter(file, logging::DEFAULT).map(drop)).await;
    }
    let nodes_log = cli.log.clone().or_else(|| variable.clone()).unwrap_or_else(|| "info".into());
    if let Err(exit) = filter(None, QUIET) {
        return exit;
    }
    match &cli.command {
        Command::Demo => {
            demo::demo().await.map_or_else(|error| fail(Exit::Failed, error), |()| Exit::Good)
        }
        Command::Cluster(arguments) => match cluster::foreground(arguments, &nodes_log).await {
            Ok(()) => Exit::Good,
            Err(error) => fail(cluster_exit(&error), error),
        },
        Command::Bench(arguments) => match bench::bench(arguments).await {
            Ok(()) => Exit::Good,
            Err(error) => fail(Exit::Failed, error),
        },
        Command::Status(arguments) => show_status(arguments).await,
        Command::Members(arguments) => shown(admin::members(arguments).await),
        Command::Transfer(arguments) => shown(admin::transfer(arguments).await),
        Command::Rollbacks(arguments) => shown(admin::rollbacks(arguments).await),
        Command::Check(arguments) => shown(admin::check(arguments).await),
        Command::Backup(arguments) => match backup::backup(arguments).await {
            Ok(text) => print(&text),
            Err(error) => fail(error.exit(), error),
        },
        Command::Verify(arguments) => match backup::verify(arguments) {
            Ok(text) => print(&text),
            Err(error) => fail(error.exit(), error),
        },
        Command::Restore(arguments) => match backup::restore(arguments).await {
            Ok(text) => print(&text),
            Err(error) => fail(error.exit(), error),
        },
        Command::Watch(arguments) => {
            let watched = watching::watch(arguments).await;
            watched.map_or_else(|error| fail(Exit::Failed, error), |()| Exit::Good)
        }
        Command::Certificates(arguments) => match certificates::make(arguments) {
            Ok(folder) => {
                print!("{}", certificates::describe(arguments, &folder));
                Exit::Good
            }
            Err(error) => fail(Exit::Failed, error),
        },
        Command::Node(_) => Exit::Good,
    }
}

fn shown(result: Result<String, admin::AdminError>) -> Exit {
    match result {
        Ok(text) => print(&text),
        Err(error) => fail(Exit::Failed, error),
    }
}

fn print(text: &str) -> Exit {
    print!("{text}");
    Exit::Good
}

fn fail(exit: Exit, error: impl Display) -> Exit {
    eprintln!("tercet: {error}");
    exit
}

fn cluster_exit(error: &ClusterError) -> Exit {
    match error {
        ClusterError::Config(_) | ClusterError::Contradiction(_) => Exit::Usage,
        ClusterError::Ended { status, .. } if Exit::AddressInUse.is(*status) => Exit::AddressInUse,
        ClusterError::Ended { status, .. } if Exit::Folder.is(*status) => Exit::Folder,
        _ => Exit::Failed,
    }
}

async fn run_node(
    arguments: &NodeArguments,
    log: impl Fn(Option<&str>) -> Result<(), Exit>,
) -> Exit {
    let Some(path) = &arguments.config else {
        print!("{TEMPLATE}");
        return Exit::Good;
    };
    let config = match NodeConfig::load(path) {
        Ok(config) => config,
        Err(error) => return fail(Exit::Usage, error),
    };
    if let Err(exit) = log(config.log.as_deref()) {
        return exit;
    }
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(Exit::Failed, error),
    };
    let with_stdin = arguments.stop_with_stdin;
    let (tell, told) = tokio::sync::oneshot::channel();
    // The first signal stops gracefully, the second at once: for whoever is in a hurry.
    tokio::spawn(async move {
        let closed =
            async { if with_stdin { stdin_closed().await } else { std::future::pending().await } };
        let why = tokio::select! {
            signal = signals.next() => signal,
            () = closed => "the parent let go",
        };
        let _ = tell.send(why);
        let again = signals.next().await;
        eprintln!("tercet: {again} again: ending at once");
        std::process::exit(Exit::Failed as i32);
    });
    let stop = async { told.await.unwrap_or("nobody listens for signals any more") };
    match node::run(config, stop).await {
        Ok(()) => Exit::Good,
        Err(error) => fail(error.exit(), error),
    }
}

async fn show_status(arguments: &StatusArguments) -> Exit {
    match status::collect(&arguments.address).await {
        Ok(report) if arguments.json => match serde_json::to_string_pretty(&report) {
            Ok(text) => {
                println!("{text}");
                Exit::Good
            }
            Err(error) => fail(Exit::Failed, error),
        },
        Ok(report) => {
            print!("{}", status::table(&report));
            Exit::Good
        }
        Err(silent) => {
            for error in silent {
                eprintln!("tercet: {error}");
            }
            fail(Exit::Failed, "no node answered; name one by --address HOST:PORT of its HTTP side")
        }
    }
}
