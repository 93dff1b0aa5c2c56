//! The outgoing side: one task per lane that connects when there is something to send.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use super::lane::Lane;
use super::wire::{FrameReader, Pulse, lock, micros, write_from};
use super::{Peer, Shared, Socket};
use crate::env::Mono;
use crate::transport::CallError;
use crate::transport::frame::Kind;

/// When the next attempt may be made.
#[derive(Debug)]
struct Backoff {
    delay: Duration,
    next: Mono,
}

/// Keeps a lane connected while it has something to send, until the peer is forgotten or the
/// transport closes.
pub(super) async fn run(shared: Arc<Shared>, peer: Arc<Peer>, lane: Arc<Lane>) {
    let mut backoff = Backoff { delay: Duration::ZERO, next: Mono::default() };
    loop {
        let connected = tokio::select! {
            biased;
            () = shared.closing.wait() => break,
            () = peer.forgotten.wait() => break,
            connected = attempt(&shared, &peer, &lane, &mut backoff) => connected,
        };
        let (socket, frame_limit) = match connected {
            Ok(connected) => connected,
            Err(why) => {
                // Three lanes try again and again: the same reason is told once.
                if lock(&peer.link).last_error.as_ref() == Some(&why) {
                    tracing::debug!(peer = %lane.peer, class = ?lane.class, why, "no connection");
                } else {
                    tracing::info!(peer = %lane.peer, why, "no connection");
                }
                peer.down(lane.class, &why, shared.parts.clock.now());
                lane.unreachable(&why);
                backoff.grow(&shared);
                continue;
            }
        };
        let began = shared.parts.clock.now();
        lane.connected(frame_limit);
        peer.up(lane.class, began);
        let why = converse(&shared, &peer, &lane, socket).await;
        lane.broken(&why);
        peer.down(lane.class, &why, shared.parts.clock.now());
        if shared.closing.is_set() || peer.forgotten.is_set() {
            break;
        }
        tracing::info!(peer = %lane.peer, class = ?lane.class, why, "connection lost");
        let now = shared.parts.clock.now();
        if now.since(began) >= shared.config.limits.backoff_max {
            backoff.reset();
        } else {
            // Accepted and dropped at once is a failure too.
            backoff.grow(&shared);
        }
    }
    let why = if shared.closing.is_set() {
        CallError::Closed
    } else {
        CallError::Unreachable(lane.peer, "the peer was forgotten".to_owned())
    };
    lane.end(why.clone());
    lane.fail_unsent(&why);
}

impl Backoff {
    fn reset(&mut self) {
        self.delay = Duration::ZERO;
        self.next = Mono::default();
    }

    /// Doubles the delay, and takes between half of it and all of it.
    fn grow(&mut self, shared: &Shared) {
        let limits = &shared.config.limits;
        self.delay = (self.delay * 2).clamp(limits.backoff_min, limits.backoff_max);
        let half = self.delay / 2;
        let jitter = shared.jitter.below(half.as_micros() as u64 + 1);
        self.next = shared.parts.clock.now() + half + Duration::from_micros(jitter);
    }
}

/// Waits until there is a reason and permission to connect, then tries once.
async fn attempt(
    shared: &Shared,
    peer: &Peer,
    lane: &Lane,
    backoff: &mut Backoff,
) -> Result<(Socket, usize), String> {
    lane.wait_for_work().await;
    if backoff.next > shared.parts.clock.now() {
        tokio::select! {
            biased;
            // The peer has just connected to us, or has a new address: it is worth a try.
            () = peer.returned[lane.class as usize].notified() => backoff.reset(),
            () = shared.parts.clock.sleep_until(backoff.next) => {}
        }
    }
    let address = lock(&peer.address).clone();
    let limit = shared.config.limits.handshake;
    let connect = async {
        let mut socket = shared
            .parts
            .sockets
            .connect(lane.peer, &address)
            .await
            .map_err(|e| format!("cannot connect to {address}: {e}"))?;
        let hello = shared
            .greet(&mut socket, lane.peer, lane.class)
            .await
            .map_err(|why| format!("{address}: {why}"))?;
        Ok((socket, hello.frame_limit as usize))
    };
    tokio::select! {
        biased;
        connected = connect => connected,
        () = shared.sleep(limit) => Err(format!("{address}: no connection within {limit:?}")),
    }
}

/// Uses one connection until it ends. Returns why it did.
async fn converse(shared: &Shared, peer: &Peer, lane: &Lane, socket: Socket) -> String {
    let clock = shared.parts.clock.clone();
    let pulse = Pulse::new(clock, peer.bytes_in.clone(), peer.bytes_out.clone());
    let Socket { reader, mut writer, .. } = socket;
    let mut reader = FrameReader::new(reader, shared.config.limits.frame);
    let goodbye = Mutex::new(None);
    let ended = tokio::select! {
        biased;
        why = read(shared, peer, lane, &mut reader, &pulse, &goodbye) => why,
        written = write_from(lane, &mut *writer, &pulse, false) => match written {
            Ok(()) => "nothing more to write".to_owned(),
            Err(e) => e.to_string(),
        },
        why = heartbeat(shared, lane, &pulse) => why,
        () = peer.forgotten.wait() => "the peer was forgotten".to_owned(),
        () = peer.reconnect.notified() => "the cluster's id is known now: introducing anew".to_owned(),
        () = shared.closing.wait() => {
            lane.end(CallError::Closed);
            finish(shared, lane, &mut reader, &mut *writer, &pulse, peer).await;
            "this node is shutting down".to_owned()
        }
    };
    let _ = writer.shutdown().await;
    let said = lock(&goodbye).take();
    said.unwrap_or(ended)
}

/// Sends what is queued and waits for open answers, for as long as a drain may take.
async fn finish(
    shared: &Shared,
    lane: &Lane,
    reader: &mut FrameReader<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
    writer: &mut (dyn tokio::io::AsyncWrite + Send + Unpin),
    pulse: &Pulse,
    peer: &Peer,
) {
    let goodbye = Mutex::new(None);
    let quiet = async {
        if write_from(lane, writer, pulse, true).await.is_ok() {
            while !lane.is_quiet() {
                shared.sleep(Duration::from_millis(5)).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = quiet => {}
        _ = read(shared, peer, lane, reader, pulse, &goodbye) => {}
        () = shared.sleep(shared.config.limits.drain) => {}
    }
}

async fn read(
    shared: &Shared,
    peer: &Peer,
    lane: &Lane,
    reader: &mut FrameReader<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
    pulse: &Pulse,
    goodbye: &Mutex<Option<String>>,
) -> String {
    loop {
        let (head, body) = match reader.next(pulse).await {
            Ok(frame) => frame,
            Err(e) => return e.to_string(),
        };
        match head.kind {
            Kind::Reply => lane.answer(head.call, Ok(body)),
            Kind::Refusal => {
                let why = text(&body);
                lane.answer(head.call, Err(CallError::Refused(lane.peer, why)));
            }
            Kind::Ping => lane.pong(head.call),
            Kind::Pong => {
                let rtt = micros(shared.parts.clock.now()).saturating_sub(head.call);
                peer.rtt[lane.class as usize].store(rtt.max(1), Ordering::Relaxed);
            }
            Kind::Goodbye => {
                *lock(goodbye) = Some(format!("it closed the connection: {}", text(&body)));
            }
            Kind::Call | Kind::Cast => return "it sent a call on our connection".to_owned(),
        }
    }
}

fn text(body: &Bytes) -> String {
    String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned()
}

async fn heartbeat(shared: &Shared, lane: &Lane, pulse: &Pulse) -> String {
    let idle = shared.config.limits.idle;
    let beat = idle / 6;
    // One beat early, so that the whole limit is kept.
    let patience = beat * 5;
    loop {
        lane.ping(micros(shared.parts.clock.now()));
        for _ in 0..2 {
            shared.sleep(beat).await;
            if pulse.silence() >= patience {
                return format!("nothing was heard for {idle:?}");
            }
        }
    }
}
