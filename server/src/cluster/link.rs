//! The way to one node from the others: a relay on this machine that can be made slow or cut.
//!
//! It relays bytes and knows nothing of what they say, so a node behind it is as far away as the
//! link says. Only what goes to the node is held back; what it answers, and what it asks by itself,
//! comes at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The most bytes read at once, and how many such pieces may be under way on one connection.
const PIECE: usize = 16 << 10;
const PIECES: usize = 256;

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It takes this long to reach the node.
    Open(Duration),
    /// Connections are closed, and new ones are closed as soon as they come.
    Cut,
}

/// The way to one node. Dropping it closes its connections.
#[derive(Debug)]
pub struct Link {
    state: Arc<watch::Sender<State>>,
    _relay: JoinSet<()>,
}

impl Link {
    /// Listens at `address` and relays to the node that listens at `node`. Call it inside a runtime.
    pub(super) fn start(address: &str, node: &str) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let state = Arc::new(watch::Sender::new(State::Open(Duration::ZERO)));
        let mut relay = JoinSet::new();
        relay.spawn(accept(listener, node.to_owned(), state.clone()));
        Ok(Self { state, _relay: relay })
    }

    /// From now on, what is sent to the node takes this much longer. Nothing is lost.
    pub fn slow_down(&self, by: Duration) {
        self.state.send_replace(State::Open(by));
    }

    /// Cuts the way to the node until [`Link::heal`]. Its own way to the others stays.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Opens the way again, without delay.
    pub fn heal(&self) {
        self.state.send_replace(State::Open(Duration::ZERO));
    }
}

async fn accept(listener: TcpListener, node: String, state: Arc<watch::Sender<State>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Without a descriptor for it the caller tries again.
                let Ok((caller, _)) = accepted else { continue };
                connections.spawn(relay(caller, node.clone(), state.subscribe()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Relays one connection until one side closes it or the link is cut.
async fn relay(caller: TcpStream, node: String, mut state: watch::Receiver<State>) {
    if *state.borrow() == State::Cut {
        return;
    }
    let Ok(called) = TcpStream::connect(&node).await else { return };
    let _ = (caller.set_nodelay(true), called.set_nodelay(true));
    let (mut from_caller, mut to_caller) = caller.into_split();
    let (mut from_node, mut to_node) = called.into_split();
    let delays = state.clone();
    tokio::select! {
        () = delayed(&mut from_caller, &mut to_node, &delays) => {}
        _ = copy(&mut from_node, &mut to_caller) => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

/// Copies, each piece when the delay since it came is over; pieces keep their order.
async fn delayed(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    state: &watch::Receiver<State>,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reads = async move {
        let mut buffer = vec![0; PIECE];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let by = match *state.borrow() {
                State::Open(by) => by,
                State::Cut => return,
            };
            if sender.send((Instant::now() + by, buffer[..read].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writes = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reads, writes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that echoes, behind a link.
    async fn echo() -> (Link, TcpStream, JoinSet<()>) {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = node.local_addr().unwrap().to_string();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap().to_string();
        drop(free);
        let link = Link::start(&at, &address).unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((mut stream, _)) = node.accept().await {
                let (mut from, mut to) = stream.split();
                let _ = copy(&mut from, &mut to).await;
            }
        });
        let client = TcpStream::connect(&at).await.unwrap();
        (link, client, serving)
    }

    async fn round(client: &mut TcpStream, word: &[u8]) -> io::Result<Vec<u8>> {
        client.write_all(word).await?;
        let mut answer = vec![0; word.len()];
        client.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_slow_link_delays_and_keeps_every_byte_in_order() {
        let (link, mut client, _serving) = echo().await;
        assert_eq!(round(&mut client, b"at once").await.unwrap(), b"at once");
        let by = Duration::from_millis(60);
        link.slow_down(by);
        let begun = Instant::now();
        let long: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        assert_eq!(round(&mut client, &long).await.unwrap(), long);
        assert!(begun.elapsed() >= by, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_cut_link_closes_what_is_open_and_heals() {
        let (link, mut client, _serving) = echo().await;
        assert_eq!(round(&mut client, b"before").await.unwrap(), b"before");
        let at = client.peer_addr().unwrap();
        link.cut();
        let closed = client.read(&mut [0; 1]).await;
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        let mut meanwhile = TcpStream::connect(at).await.unwrap();
        assert!(round(&mut meanwhile, b"during").await.is_err());
        link.heal();
        let mut again = TcpStream::connect(at).await.unwrap();
        assert_eq!(round(&mut again, b"after").await.unwrap(), b"after");
    }
}
