//! When to stop: the signals of a terminal and of a service manager.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for Ctrl-C and SIGTERM from when it is made.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the signals over from the system's default, which would end the process at once.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one and returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Waits until stdin closes, which a parent's death does too.
pub async fn stdin_closed() {
    // A thread of its own, not the runtime's blocking pool: a read of stdin cannot be cancelled and
    // would keep the runtime from ending.
    let (closed, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let sink = io::copy(&mut io::stdin().lock(), &mut io::sink());
        drop(sink);
        let _ = closed.send(());
    });
    let _ = wait.await;
}
