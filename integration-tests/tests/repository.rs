//! What must hold for the repository as a whole: documents that lead somewhere, and fences around
//! dependencies that nobody outside may name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Files of the repository with an extension, without build output and hidden folders.
fn files(extension: &str) -> Vec<PathBuf> {
    fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                collect(&path, extension, found);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root(), extension, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no {extension} files under {}", root().display());
    found
}

/// The text without fenced code blocks, in which brackets are no links.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// `[text](target)` pairs.
fn links(prose: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (at, _) in prose.match_indices("](") {
        let Some(start) = prose[..at].rfind('[') else { continue };
        let Some(length) = prose[at + 2..].find(')') else { continue };
        found.push((&prose[start + 1..at], &prose[at + 2..at + 2 + length]));
    }
    found
}

/// The anchors of a document, as a forge makes them from its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// What is wrong with the links of one document, given a way to look at other files.
fn broken(document: &Path, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let prose = prose(text);
    for (label, target) in links(&prose) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = if file.is_empty() {
            document.to_owned()
        } else {
            document.parent().unwrap().join(file)
        };
        if !file.is_empty() && !path.exists() {
            wrong.push(format!("{}: {target} does not exist", document.display()));
            continue;
        }
        let linked = if file.is_empty() {
            text.to_owned()
        } else {
            std::fs::read_to_string(&path).unwrap_or_default()
        };
        if !anchor.is_empty() && !anchors(&linked).contains(anchor) {
            wrong.push(format!("{}: {target} has no such heading", document.display()));
        }
        // A link to code that is labelled with a name promises that the name is there.
        let name = label.trim_matches('`');
        let is_name =
            name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let is_code = path.extension().is_some_and(|e| e == "rs");
        if is_code && label.starts_with('`') && is_name && !linked.contains(&format!("fn {name}("))
        {
            wrong.push(format!("{}: {target} has no `fn {name}`", document.display()));
        }
    }
    wrong
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in files("md") {
        wrong.extend(broken(&document, &std::fs::read_to_string(&document).unwrap()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_broken_link_is_noticed() {
    let here = root().join("README.md");
    let table = [
        ("[a](Cargo.toml)", 0),
        ("[a](https://example.com/missing)", 0),
        ("```\n[a](missing.md)\n```", 0),
        ("# Some Title\n[a](#some-title)", 0),
        ("# Some Title\n[a](#other-title)", 1),
        ("[a](missing.md)", 1),
        ("[`root`](integration-tests/tests/repository.rs)", 0),
        ("[`no_such_function`](integration-tests/tests/repository.rs)", 1),
    ];
    for (text, expected) in table {
        assert_eq!(broken(&here, text).len(), expected, "{text}");
    }
}

/// Files outside `fence` whose code, not their comments, names the crate.
fn escapes(krate: &str, fence: &str) -> Vec<String> {
    let named = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let paths = [format!("{krate}::"), format!("use {krate}"), format!("extern crate {krate}")];
        paths.iter().any(|path| code.contains(path.as_str()))
    };
    let mut escapes = Vec::new();
    for file in files("rs") {
        let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let this = relative.ends_with("integration-tests/tests/repository.rs");
        if relative.starts_with(fence) || this {
            continue;
        }
        if std::fs::read_to_string(&file).unwrap().lines().any(named) {
            escapes.push(relative);
        }
    }
    escapes
}

#[test]
fn fenced_dependencies_stay_inside_their_fence() {
    for (krate, fence) in [
        ("openraft", "leader/src/raft/"),
        ("bincode", "common/src/codec.rs"),
        ("fjall", "common/src/storage/engine/"),
    ] {
        let escapes = escapes(krate, fence);
        assert!(escapes.is_empty(), "{krate} is named outside {fence}: {escapes:?}");
    }
    assert!(!escapes("tokio", "nowhere/").is_empty(), "the search finds what is there");
}
