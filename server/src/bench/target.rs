//! What a client of the load talks to: a server of the Redis protocol, or etcd.

use super::etcd::Etcd;
use crate::client::{Client, ClientError, Reply, encode};

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Redis, as Tercet speaks it too.
    #[default]
    Redis,
    /// etcd's gRPC, its reads linearizable.
    Etcd,
}

/// How long a `WAIT` may take, in milliseconds.
const WAIT_MILLIS: &[u8] = b"5000";

/// A connection with the requests that are sent next.
#[derive(Debug)]
pub(super) enum Connection {
    Redis(Redis),
    Etcd(Box<Etcd>),
}

/// A connection to a server of the Redis protocol.
#[derive(Debug)]
pub(super) struct Redis {
    client: Client,
    bytes: Vec<u8>,
    /// Which of the requests are writes.
    writes: Vec<bool>,
    /// How many replicas a `WAIT` after them asks for.
    wait: Option<u32>,
}

/// What became of one request: nothing more to say, or the kind of its error.
pub(super) type Answer<'a> = Result<(), &'a str>;

impl Connection {
    pub(super) const fn redis(client: Client, wait: Option<u32>) -> Self {
        Self::Redis(Redis { client, bytes: Vec::new(), writes: Vec::new(), wait })
    }

    /// Queues a read of a key.
    pub(super) fn get(&mut self, key: &[u8]) {
        match self {
            Self::Redis(redis) => {
                encode(&[b"GET", key], &mut redis.bytes);
                redis.writes.push(false);
            }
            Self::Etcd(etcd) => etcd.get(key),
        }
    }

    /// Queues a write of a key.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        match self {
            Self::Redis(redis) => {
                encode(&[b"SET", key, value], &mut redis.bytes);
                redis.writes.push(true);
            }
            Self::Etcd(etcd) => etcd.put(key, value),
        }
    }

    /// Sends what is queued and gives the place of each answered request to `each`. After an error
    /// the connection is not used again.
    pub(super) async fn exchange(
        &mut self,
        mut each: impl FnMut(usize, Answer<'_>),
    ) -> Result<(), &'static str> {
        match self {
            Self::Redis(redis) => redis.exchange(each).await,
            Self::Etcd(etcd) => {
                let told =
                    |place, done: bool| each(place, done.then_some(()).ok_or("etcd refused"));
                etcd.exchange(told).await.map_err(|_| "connection broke")?;
                if etcd.is_used_up() { Err("connection used up") } else { Ok(()) }
            }
        }
    }
}

/// The kind of an error reply: its prefix, as clients tell errors apart.
fn kind(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("an empty error")
}

impl Redis {
    async fn exchange(
        &mut self,
        mut each: impl FnMut(usize, Answer<'_>),
    ) -> Result<(), &'static str> {
        let writes = std::mem::take(&mut self.writes);
        let wait = self.wait.filter(|_| writes.contains(&true));
        if let Some(replicas) = wait {
            encode(&[b"WAIT", replicas.to_string().as_bytes(), WAIT_MILLIS], &mut self.bytes);
        }
        let (mut at, mut waiting) = (0, Vec::new());
        let bytes = std::mem::take(&mut self.bytes);
        let take = |reply: Reply| {
            match &reply {
                Reply::Number(reached) if at == writes.len() => {
                    let enough = wait.is_some_and(|replicas| *reached >= i64::from(replicas));
                    let answer = enough.then_some(()).ok_or("too few replicas");
                    waiting.drain(..).for_each(|place| each(place, answer));
                }
                Reply::Error(text) if at == writes.len() => {
                    waiting.drain(..).for_each(|place| each(place, Err(kind(text))));
                }
                Reply::Error(text) => each(at, Err(kind(text))),
                _ if wait.is_some() && writes[at] => waiting.push(at),
                _ => each(at, Ok(())),
            }
            at += 1;
        };
        let expected = writes.len() + usize::from(wait.is_some());
        self.client.exchange(&bytes, expected, take).await.map_err(|error| match error {
            ClientError::TimedOut { .. } => "no reply in time",
            ClientError::Protocol { .. } => "not the Redis protocol",
            _ => "connection broke",
        })
    }
}
