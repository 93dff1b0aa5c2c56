//! Proof of the checkers: golden histories, one per anomaly, each with a valid twin.

use serde::Deserialize;

use super::*;
use crate::history::Operation;

/// One golden file: a history, and what which checker must say about it.
#[derive(Deserialize)]
struct Golden {
    about: String,
    checker: String,
    verdict: String,
    #[serde(default)]
    healed: SimTime,
    #[serde(default)]
    final_from: SimTime,
    end: Option<SimTime>,
    operations: Vec<Operation>,
}

fn golden_files() -> Vec<(String, Golden)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let golden = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        (path.file_name().unwrap().to_string_lossy().into_owned(), golden)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn every_golden_history_gets_its_verdict() {
    let files = golden_files();
    assert!(files.len() >= 40, "{} golden files", files.len());
    for (name, golden) in &files {
        let history = History { operations: golden.operations.clone() };
        let mut case = Case::new(&history);
        case.healed = golden.healed;
        case.final_from = golden.final_from;
        case.end = golden.end.unwrap_or(case.end);
        let checker = CHECKERS.iter().find(|c| c.name == golden.checker).expect("a checker");
        let verdict = (checker.check)(&case);
        match (golden.verdict.as_str(), &verdict) {
            ("pass", Verdict::Pass) => {}
            ("violation", Verdict::Violation(witness)) => {
                let size = witness.operations.len();
                assert!((1..=10).contains(&size), "{name}: {witness}");
            }
            _ => panic!("{name}: {} -- {verdict:?}", golden.about),
        }
    }
}

#[test]
fn every_anomaly_has_a_valid_twin_and_every_checker_an_anomaly() {
    let files = golden_files();
    for (name, golden) in &files {
        if golden.verdict == "violation" {
            let twin = name.replace(".json", ".valid.json");
            let twin = files.iter().find(|(n, _)| *n == twin);
            assert_eq!(twin.map(|(_, t)| &t.checker), Some(&golden.checker), "twin of {name}");
        }
    }
    for checker in &CHECKERS {
        let kills = |(_, g): &&(String, Golden)| g.checker == checker.name && g.verdict != "pass";
        assert!(files.iter().any(|f| kills(&f)), "{} has no anomaly", checker.name);
    }
}

#[test]
fn a_history_without_what_a_checker_needs_does_not_pass() {
    let history = History::default();
    for (name, verdict) in judge(&Case::new(&history)) {
        assert!(matches!(verdict, Verdict::NotExercised(_)), "{name}: {verdict:?}");
    }
}
