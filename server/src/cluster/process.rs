//! One node as a child process.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// A signal that a test or the demo sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends gracefully.
    Terminate,
    /// Stops being scheduled: to others it is silent, but its connections stay.
    Pause,
    /// Goes on.
    Resume,
}

/// A running `tercet node`. Dropping it kills it.
///
/// The child's stdin is a pipe that this process holds: when it closes, on purpose or because
/// this process died, the child stops. So no child outlives its parent.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts `binary node --config config`, its messages going to the end of `log`.
    pub fn start(binary: &Path, config: &Path, log: &Path) -> io::Result<Self> {
        let messages = OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = Command::new(binary)
            .arg("node")
            .arg("--config")
            .arg(config)
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped())
            .stdout(messages.try_clone()?)
            .stderr(messages)
            // A group of its own: Ctrl-C reaches the parent only, which stops its children in order.
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as kill -9 does.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let name = match signal {
            Signal::Terminate => "-TERM",
            Signal::Pause => "-STOP",
            Signal::Resume => "-CONT",
        };
        let sent = Command::new("kill").arg(name).arg(self.pid().to_string()).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other(format!("kill {name}: {sent}"))) }
    }

    /// Asks it to stop gracefully.
    pub fn ask_to_stop(&mut self) {
        self.stdin = None;
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it has ended, at most `timeout`.
    pub async fn wait(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The last lines it wrote.
    pub fn last_words(&self, lines: usize) -> String {
        last_lines(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        drop(self.kill());
    }
}

/// The last lines of a log, empty where it cannot be read. A panic that has scrolled away is shown
/// first.
pub fn last_lines(path: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    let panic = all[..from].iter().position(|line| line.contains("panicked at"));
    let shown = panic.map_or(&[][..], |at| &all[at..from.min(at + 4)]);
    [shown, &all[from..]].concat().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_lines_and_the_panic_before_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(last_lines(&path, 3), "");
        std::fs::write(&path, "a\nb\nc\nd\n").unwrap();
        assert_eq!(last_lines(&path, 3), "b\nc\nd");
        std::fs::write(&path, "thread 'x' panicked at y:\nwhy\nc\nd\ne\nf\n").unwrap();
        assert_eq!(last_lines(&path, 1), "thread 'x' panicked at y:\nwhy\nc\nd\nf");
    }
}
