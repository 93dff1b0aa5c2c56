//! The guided tour, as a user starts it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{finish, said, tercet};

#[test]
fn the_demo_shows_every_step_checks_them_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = finish(Command::new(tercet()).arg("demo").env("TMPDIR", folder.path()));
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for part in [
        "1. Start three nodes",
        "2. Write 2000 keys",
        "acknowledged in",
        "3. Read on every node",
        "Write in every mode",
        "all APPLIED",
        "a causal read on node",
        "Read at every level on node",
        "eventual ",
        "bounded 100 ",
        "causal ",
        "lease ",
        "strong ",
        "kill -9",
        "leads in term",
        "ms after the kill",
        "again on its folder",
        "caught up to entry",
        "longest pause",
        "Check that nothing was lost",
        "node 1: ",
        "node 2: ",
        "node 3: ",
        "digest",
        "Lose an asynchronous write",
        "the receipt says \"lost",
        "all three stopped gracefully",
        "none lost",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    println!("{text}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// The process ids that the demo printed.
fn pids(lines: &[String]) -> Vec<String> {
    let after =
        |line: &String| Some(line.split_once(": process ")?.1.split(',').next()?.to_owned());
    lines.iter().filter_map(after).collect()
}

#[test]
fn an_interrupted_demo_ends_its_nodes_and_removes_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Command::new(tercet())
        .arg("demo")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(demo.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let begun = line.contains("Read on every node");
        lines.push(line);
        if begun {
            let pid = demo.id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        }
    }
    let output = demo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}\n{lines:#?}", said(&output));
    assert!(said(&output).contains("interrupted by Ctrl-C"), "{}", said(&output));
    let pids = pids(&lines);
    assert_eq!(pids.len(), 3, "{lines:#?}");
    for pid in pids {
        let alive = Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status().unwrap();
        assert!(!alive.success(), "process {pid} is still there");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
