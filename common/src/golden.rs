//! Golden bytes: what this build writes must be what is on somebody's disk, wire or clipboard.
//!
//! A fixture has one line per value, `name hexadecimal`, and is never changed under its version: a
//! new layout gets a new version and a new fixture, and the old one is still read.

use std::fmt::Write;

/// The values of a fixture, in its order.
pub(crate) fn read(fixture: &str) -> Vec<(&str, Vec<u8>)> {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hexadecimal");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    };
    let lines = fixture.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let fields = lines.map(|line| line.split_once(' ').expect("a name and its bytes"));
    fields.map(|(name, hex)| (name, hex.as_bytes().chunks(2).map(byte).collect())).collect()
}

/// Compares what this build writes with a fixture.
pub(crate) fn check(fixture: &str, written: &[(&str, Vec<u8>)]) {
    if read(fixture) == written {
        return;
    }
    let mut text = String::new();
    for (name, bytes) in written {
        let hex = bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let _ = writeln!(text, "{name} {hex}");
    }
    panic!("the layout has changed; under a new version the fixture would be:\n{text}");
}

/// The files of a folder in `corpus/`.
#[expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]
pub(crate) fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let files = std::fs::read_dir(folder).expect("the corpus is committed");
    let files: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!files.is_empty());
    files
}
