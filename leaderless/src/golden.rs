//! Golden bytes: what this build writes must be what is on somebody's disk or wire.
//!
//! A fixture has one line per value, `name hexadecimal`, and is never changed under its version.

use std::fmt::Write;

/// Compares what this build writes with a fixture.
pub(crate) fn check(fixture: &str, written: &[(&str, Vec<u8>)]) {
    let mut text = String::new();
    for (name, bytes) in written {
        let hex = bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let _ = writeln!(text, "{name} {hex}");
    }
    let lines = |text: &str| {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(
        lines(fixture) == lines(&text),
        "the layout has changed; under a new version the fixture would be:\n{text}"
    );
}
