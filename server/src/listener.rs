//! Accepts client connections and serves each until it ends.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clients::Client;
use crate::connection::Connection;
use crate::handshake::{Refusal, secure};
use crate::line::Line;
pub use crate::service::{Counters, Identity, Limits, Service};

/// How long accepting rests after it has failed, which it does when there are no descriptors left.
const REST: Duration = Duration::from_millis(50);

/// Serves clients until `shutdown` completes; then takes no new ones, lets each open connection
/// finish what is in flight for at most [`Limits::drain`], and returns.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => accept(&mut connections, &service, stream, &stopped),
                Err(error) => {
                    tracing::warn!(%error, "no client connection could be accepted");
                    tokio::time::sleep(REST).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    // An error means that no connection is left to be told.
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(service.limits.drain, drained).await.is_err() {
        tracing::warn!(left = connections.len(), "connections are cut off with replies unsent");
    }
    connections.shutdown().await;
}

fn accept(
    connections: &mut JoinSet<()>,
    service: &Arc<Service>,
    stream: TcpStream,
    stopped: &watch::Receiver<bool>,
) {
    let counters = service.counters();
    if connections.len() >= service.limits.connections {
        Counters::add(&counters.refused, 1);
        // As far as it goes without waiting: the client is told, and not waited for. Under TLS only
        // a handshake would let it read that, which is what there is no room for.
        if service.tls.is_none() {
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
        }
        return;
    }
    // Replies are written whole: waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let address = |address: std::io::Result<std::net::SocketAddr>| {
        address.map_or_else(|_| "?:0".to_owned(), |address| address.to_string())
    };
    let client = service.clients.open(address(stream.peer_addr()), address(stream.local_addr()));
    Counters::add(&counters.accepted, 1);
    counters.open.fetch_add(1, Ordering::Relaxed);
    let open = Open { service: Arc::clone(service), client: Arc::clone(&client) };
    let mut stopped = stopped.clone();
    connections.spawn(async move {
        let line = tokio::select! {
            line = greeted(&open.service, &open.client, stream) => line,
            () = open.client.killed() => None,
            _ = stopped.changed() => None,
        };
        if let Some(line) = line {
            let connection = Connection::new(Arc::clone(&open.service), Arc::clone(&open.client));
            connection.run(line, stopped).await;
        }
    });
}

/// The connection, ready for requests: at once, or after the handshake of TLS.
async fn greeted(service: &Service, client: &Client, stream: TcpStream) -> Option<Line> {
    let Some(tls) = &service.tls else { return Some(Line::Plain(stream)) };
    let limit = service.limits.handshake;
    let secured = tokio::time::timeout(limit, Box::pin(secure(stream, tls))).await;
    let why = match secured {
        Ok(Ok(line)) => return Some(line),
        Ok(Err(Refusal::Gone)) => return None,
        Ok(Err(Refusal::Refused(why))) => why,
        Err(_) => format!("there was no handshake of TLS within {limit:?}"),
    };
    Counters::add(&service.counters().handshakes_failed, 1);
    tracing::info!(remote = client.peer, why, "a client was refused");
    None
}

/// An open connection is listed and counted, however it ends.
struct Open {
    service: Arc<Service>,
    client: Arc<Client>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.service.clients.close(&self.client);
        self.service.counters().open.fetch_sub(1, Ordering::Relaxed);
    }
}
