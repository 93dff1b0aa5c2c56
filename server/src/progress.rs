//! How far a long job is: a bar on a terminal, now and then a line elsewhere. Always on stderr, so
//! that results on stdout can be piped.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Without a terminal, so many lines are printed for a whole job.
const LINES: u64 = 4;

/// One job.
#[derive(Debug)]
pub struct Progress {
    label: String,
    total: u64,
    bar: Option<ProgressBar>,
    /// Without a terminal: how many lines were printed.
    printed: AtomicU64,
}

impl Progress {
    /// A job of `total` steps.
    pub fn new(label: impl Into<String>, total: u64) -> Self {
        let label = label.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            let style =
                ProgressStyle::with_template("  {msg} {wide_bar} {human_pos}/{human_len} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(label.clone());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { label, total: total.max(1), bar, printed: AtomicU64::new(0) }
    }

    /// `done` steps are done.
    pub fn at(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if let Some(line) = self.line(done) {
            eprintln!("{line}");
        }
    }

    /// The line that is due, if one is.
    fn line(&self, done: u64) -> Option<String> {
        let quarter = done.min(self.total) * LINES / self.total;
        let before = self.printed.fetch_max(quarter, Ordering::Relaxed);
        (quarter > before).then(|| {
            format!("  {}: {done} of {} ({} %)", self.label, self.total, done * 100 / self.total)
        })
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_a_job_prints_few_lines() {
        let progress =
            Progress { label: "write".into(), total: 1000, bar: None, printed: AtomicU64::new(0) };
        let lines: Vec<String> = (0..=1000).filter_map(|done| progress.line(done)).collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[0], "  write: 250 of 1000 (25 %)");
        assert_eq!(lines[3], "  write: 1000 of 1000 (100 %)");
    }
}
