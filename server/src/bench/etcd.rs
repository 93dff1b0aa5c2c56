//! etcd, to compare with: as much of gRPC over HTTP/2 as putting and reading single keys needs.
//!
//! Going by etcd's JSON gateway instead would measure the gateway. A request is one stream of one
//! HEADERS and one DATA frame (RFC 9113), the message in it has two fields (`rpc.proto` of etcd 3).
//! Of an answer only this is read: whether a message came. gRPC sends none with an error.

use std::collections::VecDeque;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest value: a request has to fit into one frame.
pub(super) const LARGEST_VALUE: usize = 15_000;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes that either end may send before the other gives it more, at first.
const FIRST_WINDOW: i64 = 65_535;
/// What the server may send: more than it has.
const WINDOW: u32 = 1 << 30;
/// After so many received bytes the server is given as many again.
const RENEW: u32 = 1 << 20;

/// Frame types.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// Flags.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One connection. Requests are queued, then exchanged together.
#[derive(Debug)]
pub(super) struct Etcd {
    stream: TcpStream,
    authority: String,
    /// Requests of this exchange that were not sent yet, each with the bytes that count against the
    /// window.
    queued: VecDeque<(Vec<u8>, i64)>,
    /// The stream of the first request of this exchange.
    first: u32,
    next: u32,
    /// Which requests of this exchange have got a message.
    messages: Vec<bool>,
    window: i64,
    received: Vec<u8>,
    /// Received bytes that the server was not given back yet.
    owed: u32,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    into.extend_from_slice(&[kind, flags]);
    into.extend_from_slice(&stream.to_be_bytes());
    into.extend_from_slice(payload);
}

/// A header without compression (RFC 7541, section 6.2.2); `name` is its place in the static table.
fn header(name: u8, value: &str, into: &mut Vec<u8>) {
    if name < 15 {
        into.push(name);
    } else {
        into.extend_from_slice(&[15, name - 15]);
    }
    into.push(value.len() as u8);
    into.extend_from_slice(value.as_bytes());
}

/// A field of bytes in a message (protobuf, wire type 2).
fn field(number: u8, bytes: &[u8], into: &mut Vec<u8>) {
    into.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 128 {
        into.push(length as u8 | 128);
        length >>= 7;
    }
    into.push(length as u8);
    into.extend_from_slice(bytes);
}

/// One frame at the beginning of what was received.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        let payload = rest.get(..length)?;
        Some(Self { kind: head[3], flags: head[4], stream, payload })
    }
}

impl Etcd {
    /// Connects to a client address of a member.
    pub(super) async fn connect(address: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut hello = PREFACE.to_vec();
        let mut settings = Vec::new();
        for (setting, value) in [(2_u16, 0), (4, WINDOW)] {
            settings.extend_from_slice(&setting.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame(SETTINGS, 0, 0, &settings, &mut hello);
        frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes(), &mut hello);
        stream.write_all(&hello).await?;
        Ok(Self {
            stream,
            authority: address.to_owned(),
            queued: VecDeque::new(),
            first: 1,
            next: 1,
            messages: Vec::new(),
            window: FIRST_WINDOW,
            received: Vec::new(),
            owed: 0,
        })
    }

    /// Queues a put.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        let mut message = Vec::with_capacity(key.len() + value.len() + 8);
        field(1, key, &mut message);
        field(2, value, &mut message);
        self.queue("/etcdserverpb.KV/Put", &message);
    }

    /// Queues a linearizable read of one key.
    pub(super) fn get(&mut self, key: &[u8]) {
        let mut message = Vec::with_capacity(key.len() + 2);
        field(1, key, &mut message);
        self.queue("/etcdserverpb.KV/Range", &message);
    }

    fn queue(&mut self, path: &str, message: &[u8]) {
        // :method POST and :scheme http have places of their own in the static table.
        let mut headers = vec![0x83, 0x86];
        header(4, path, &mut headers);
        header(1, &self.authority, &mut headers);
        header(31, "application/grpc", &mut headers);
        headers.extend_from_slice(b"\x00\x02te\x08trailers");
        let mut body = vec![0];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        let mut bytes = Vec::new();
        frame(HEADERS, END_HEADERS, self.next, &headers, &mut bytes);
        frame(DATA, END_STREAM, self.next, &body, &mut bytes);
        self.queued.push_back((bytes, body.len() as i64));
        self.messages.push(false);
        self.next += 2;
    }

    /// Whether this connection has streams left; one has two thousand million.
    pub(super) const fn is_used_up(&self) -> bool {
        self.next > u32::MAX >> 2
    }

    /// Sends what is queued and gives the place of each answered request, and whether it was done,
    /// to `each`.
    pub(super) async fn exchange(&mut self, mut each: impl FnMut(usize, bool)) -> io::Result<()> {
        let mut open = self.messages.len();
        while open > 0 {
            let mut bytes = Vec::new();
            while let Some((request, size)) = self.queued.front()
                && *size <= self.window
            {
                self.window -= size;
                bytes.extend_from_slice(request);
                self.queued.pop_front();
            }
            self.take(&mut bytes, &mut open, &mut each)?;
            if !bytes.is_empty() {
                self.stream.write_all(&bytes).await?;
            }
            if open > 0 && self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.first = self.next;
        self.messages.clear();
        Ok(())
    }

    /// Takes the frames that have come; what has to be answered goes to `reply`.
    fn take(
        &mut self,
        reply: &mut Vec<u8>,
        open: &mut usize,
        each: &mut impl FnMut(usize, bool),
    ) -> io::Result<()> {
        let mut consumed = 0;
        while let Some(found) = Frame::first(&self.received[consumed..]) {
            let Frame { kind, flags, stream, payload } = found;
            consumed += 9 + payload.len();
            let place = (stream.wrapping_sub(self.first) / 2) as usize;
            match kind {
                DATA => {
                    self.owed += payload.len() as u32;
                    if let Some(message) = self.messages.get_mut(place) {
                        *message |= !payload.is_empty();
                    }
                }
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[], reply),
                PING if flags & ACK == 0 => frame(PING, ACK, 0, payload, reply),
                WINDOW_UPDATE if stream == 0 => {
                    let more =
                        payload.first_chunk::<4>().map_or(0, |more| u32::from_be_bytes(*more));
                    self.window += i64::from(more);
                }
                GOAWAY => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
            let ended = kind == RST_STREAM || (kind <= HEADERS && flags & END_STREAM != 0);
            if ended && let Some(message) = self.messages.get(place) {
                *open -= 1;
                each(place, *message && kind != RST_STREAM);
            }
        }
        self.received.drain(..consumed);
        if self.owed >= RENEW {
            frame(WINDOW_UPDATE, 0, 0, &self.owed.to_be_bytes(), reply);
            self.owed = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn fields_and_frames_are_laid_out_as_their_standards_say() {
        let mut bytes = Vec::new();
        field(2, &[7; 300], &mut bytes);
        assert_eq!((bytes[..3].to_vec(), bytes.len()), (vec![0x12, 0xac, 0x02], 303));
        let mut bytes = Vec::new();
        frame(DATA, END_STREAM, 5, b"abc", &mut bytes);
        assert_eq!(bytes, b"\x00\x00\x03\x00\x01\x00\x00\x00\x05abc");
        assert!(Frame::first(&bytes[..11]).is_none());
        let found = Frame::first(&bytes).unwrap();
        assert_eq!((found.kind, found.stream, found.payload), (DATA, 5, &b"abc"[..]));
    }

    /// A server that answers every second request with a message and the others with an error, in
    /// the opposite order, and pings in between.
    #[tokio::test]
    async fn answers_find_their_requests_and_errors_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut received, mut streams, mut pongs) = (Vec::new(), Vec::new(), 0);
            let mut preface = vec![0; PREFACE.len()];
            stream.read_exact(&mut preface).await.unwrap();
            while stream.read_buf(&mut received).await.unwrap() > 0 {
                while let Some(found) = Frame::first(&received) {
                    if found.kind == DATA {
                        streams.push(found.stream);
                    }
                    pongs += usize::from(found.kind == PING && found.flags & ACK != 0);
                    let length = 9 + found.payload.len();
                    received.drain(..length);
                }
                if streams.len() == 4 {
                    let mut reply = Vec::new();
                    frame(SETTINGS, 0, 0, &[], &mut reply);
                    frame(PING, 0, 0, &[1; 8], &mut reply);
                    for stream in streams.drain(..).rev() {
                        frame(HEADERS, END_HEADERS, stream, &[0x88], &mut reply);
                        if stream % 4 == 1 {
                            frame(DATA, 0, stream, &[0; 5], &mut reply);
                        }
                        frame(HEADERS, END_HEADERS | END_STREAM, stream, &[], &mut reply);
                    }
                    stream.write_all(&reply).await.unwrap();
                }
            }
            pongs
        });
        let mut etcd = Etcd::connect(&address).await.unwrap();
        for _ in 0..2 {
            (0..3).for_each(|_| etcd.put(b"key", b"value"));
            etcd.get(b"key");
            let mut answers = Vec::new();
            etcd.exchange(|place, done| answers.push((place, done))).await.unwrap();
            assert_eq!(answers, [(3, false), (2, true), (1, false), (0, true)]);
        }
        drop(etcd);
        assert_eq!(served.await.unwrap(), 2);
    }
}
