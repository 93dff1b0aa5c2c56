//! The tour's voice: numbered steps with the time since the start, on stdout, plain enough for a
//! file.

use std::io::Write;
use std::time::Instant;

/// Prints what happens.
#[derive(Debug)]
pub(super) struct Narrator {
    begun: Instant,
    step: u32,
}

impl Narrator {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), step: 0 }
    }

    /// A new step begins.
    pub(super) fn step(&mut self, what: &str) {
        self.step += 1;
        say(&format!("\n{}. {what}", self.step));
    }

    /// Something came of it.
    pub(super) fn tell(&self, what: impl AsRef<str>) {
        say(&format!("   [{:6.2} s] {}", self.begun.elapsed().as_secs_f64(), what.as_ref()));
    }

    /// How long the tour took.
    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

pub(super) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that went away must not end the tour before it has cleaned up.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
