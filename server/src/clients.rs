//! Who is connected: what CLIENT LIST shows and CLIENT KILL ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::resp::Version;

/// The connections of a node, by their number.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    last: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Client>>>,
}

/// One connection, as others see it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    /// Where it comes from.
    pub(crate) peer: String,
    /// Where it arrived.
    pub(crate) local: String,
    since: Instant,
    shown: Mutex<Shown>,
    killed: AtomicBool,
    kill: Notify,
    /// Whether it waits for elements, and what ends that.
    blocked: Mutex<Waits>,
    unblock: Notify,
}

/// Whether a connection waits for elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Waits {
    #[default]
    No,
    Yes,
    Over(Unblocked),
}

/// Why a connection waits no more, by CLIENT UNBLOCK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unblocked {
    /// As if its time were over.
    Timeout,
    /// With an error.
    Error,
}

/// A connection that waits for elements, until this ends.
#[derive(Debug)]
pub(crate) struct Blocks<'c>(&'c Client);

impl Blocks<'_> {
    /// Completes when somebody ends it.
    pub(crate) async fn unblocked(&self) -> Unblocked {
        loop {
            if let Waits::Over(why) = *self.0.waits() {
                return why;
            }
            self.0.unblock.notified().await;
        }
    }
}

impl Drop for Blocks<'_> {
    fn drop(&mut self) {
        *self.0.waits() = Waits::No;
    }
}

/// What changes about a connection.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) name: Bytes,
    pub(crate) library: Bytes,
    pub(crate) library_version: Bytes,
    pub(crate) version: Version,
    pub(crate) user: String,
    pub(crate) command: &'static str,
    active: Instant,
}

impl Clients {
    /// Takes a connection in. It is listed until [`Clients::close`].
    pub(crate) fn open(&self, peer: String, local: String) -> Arc<Client> {
        let now = Instant::now();
        let shown = Shown {
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            version: Version::V2,
            user: "default".to_owned(),
            command: "NULL",
            active: now,
        };
        let client = Arc::new(Client {
            id: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            peer,
            local,
            since: now,
            shown: Mutex::new(shown),
            killed: AtomicBool::new(false),
            kill: Notify::new(),
            blocked: Mutex::default(),
            unblock: Notify::new(),
        });
        self.lock().insert(client.id, Arc::clone(&client));
        client
    }

    /// The connection has ended.
    pub(crate) fn close(&self, client: &Client) {
        self.lock().remove(&client.id);
    }

    /// All connections, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Asks the connection to end.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.kill.notify_one();
    }

    /// Completes when the connection shall end.
    pub(crate) async fn killed(&self) {
        while !self.killed.load(Ordering::Acquire) {
            self.kill.notified().await;
        }
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It waits for elements from now on.
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        *self.waits() = Waits::Yes;
        Blocks(self)
    }

    /// Ends its wait; whether it waits.
    pub(crate) fn unblock(&self, why: Unblocked) -> bool {
        let mut waits = self.waits();
        if *waits != Waits::Yes {
            return false;
        }
        *waits = Waits::Over(why);
        drop(waits);
        self.unblock.notify_one();
        true
    }

    /// It has just sent this command.
    pub(crate) fn touch(&self, command: &'static str) {
        let mut shown = self.shown();
        (shown.command, shown.active) = (command, Instant::now());
    }

    pub(crate) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its line in CLIENT LIST, with Redis's fields in Redis's order. What has no meaning here is
    /// what Redis shows for an ordinary client.
    pub(crate) fn line(&self) -> String {
        let shown = self.shown().clone();
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db=0 sub=0 psub=0 ssub=0 \
             multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 \
             tot-mem=0 events=r cmd={} user={} redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            String::from_utf8_lossy(&shown.name),
            self.since.elapsed().as_secs(),
            shown.active.elapsed().as_secs(),
            if *self.waits() == Waits::No { "N" } else { "b" },
            shown.command,
            shown.user,
            if shown.version == Version::V3 { 3 } else { 2 },
            String::from_utf8_lossy(&shown.library),
            String::from_utf8_lossy(&shown.library_version),
        )
    }
}
