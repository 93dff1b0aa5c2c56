//! The handshake: who is at the other end, before anything is believed.
//!
//! The side that dials says [`Hello`], the other answers with a hello of its own or with a reason.
//! Both judge the other's with [`Identity::judge`], and the reason of a refusal reaches the other
//! side as text.
//!
//! ```text
//! magic "TRCT" | length: u16 | crc32c of body: u32 | body
//! body: kind u8 (1 hello, 2 welcome, 3 rejected)
//!   hello, welcome: version min u16, max u16 | cluster u64 | epoch u32 | node u64 | incarnation u64
//!                   | expected peer u64 | class u8 | frame limit u32 | name: u8 length, UTF-8
//!                   | address: u8 length, UTF-8
//!   rejected: reason, UTF-8 to the end
//! ```

use super::Class;
use crate::ids::{ClusterId, Epoch, Incarnation, NodeId};

/// What every connection begins with.
pub const MAGIC: [u8; 4] = *b"TRCT";

/// Bytes before the body.
pub const HEADER: usize = 10;

/// A body is at most this long.
pub const LIMIT: usize = 1024;

/// The oldest version of the protocol that this build speaks.
pub const OLDEST: u16 = 1;

/// The newest version of the protocol that this build speaks.
pub const NEWEST: u16 = 1;

/// A cluster's name and an advertised address are at most this many bytes.
pub const TEXT_LIMIT: usize = 255;

/// The id of a cluster that a node does not know yet.
const UNKNOWN: ClusterId = ClusterId(0);

/// How one end of a connection introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest and the newest version it speaks.
    pub versions: (u16, u16),
    /// Its cluster; 0 while it does not know it.
    pub cluster: ClusterId,
    /// Its history of the cluster.
    pub epoch: Epoch,
    /// Who it is.
    pub node: NodeId,
    /// Which opening of its storage it runs on.
    pub incarnation: Incarnation,
    /// Who it believes to talk to.
    pub expected: NodeId,
    /// The class of all messages on this connection.
    pub class: Class,
    /// The largest body it reads, in bytes.
    pub frame_limit: u32,
    /// The name of its cluster.
    pub name: String,
    /// The address under which others reach it.
    pub address: String,
}

/// One message of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// From the side that dials.
    Hello(Hello),
    /// From the side that was dialled: it accepts.
    Welcome(Hello),
    /// From the side that was dialled: it refuses, and says why.
    Rejected(String),
}

/// Why bytes are not a greeting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GreetingError {
    /// The other end speaks something else.
    #[error("it does not speak this protocol: it begins with {0:02x?}{hint}", hint = looks_like(*.0))]
    Magic([u8; 4]),
    /// The greeting is longer than any can be.
    #[error("a greeting of {0} bytes is over the limit of {LIMIT}")]
    TooLarge(usize),
    /// The checksum does not match.
    #[error("the checksum of a greeting does not match")]
    Checksum,
    /// The fields cannot be read.
    #[error("malformed greeting: {0}")]
    Malformed(&'static str),
}

/// What the beginning of something else may be.
const fn looks_like(beginning: [u8; 4]) -> &'static str {
    match beginning {
        // A record of TLS: an alert or a handshake, and the version.
        [0x15 | 0x16, 0x03, ..] => ", which is TLS: this node is configured without it",
        _ => "",
    }
}

/// Encodes a greeting. Text over its limit is cut.
pub fn encode(greeting: &Greeting) -> Vec<u8> {
    let mut body = Vec::with_capacity(96);
    match greeting {
        Greeting::Hello(hello) => {
            body.push(1);
            encode_hello(&mut body, hello);
        }
        Greeting::Welcome(hello) => {
            body.push(2);
            encode_hello(&mut body, hello);
        }
        Greeting::Rejected(reason) => {
            body.push(3);
            body.extend_from_slice(cut(reason, LIMIT - 1).as_bytes());
        }
    }
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(body.len() as u16).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

/// Whether a greeting begins like this; `beginning` has four bytes.
pub fn check_magic(beginning: &[u8]) -> Result<(), GreetingError> {
    match beginning.first_chunk() {
        Some(&MAGIC) => Ok(()),
        Some(&other) => Err(GreetingError::Magic(other)),
        None => Err(GreetingError::Malformed("length")),
    }
}

/// How many bytes the greeting takes whose header is `header`.
pub fn length(header: [u8; HEADER]) -> Result<usize, GreetingError> {
    let [a, b, c, d, low, high, ..] = header;
    check_magic(&[a, b, c, d])?;
    let length = usize::from(u16::from_le_bytes([low, high]));
    if length > LIMIT {
        return Err(GreetingError::TooLarge(length));
    }
    Ok(length)
}

/// Decodes the greeting with this header and body. Bytes behind the known fields of a hello are
/// ignored, so that a later version may add some.
pub fn decode(header: [u8; HEADER], body: &[u8]) -> Result<Greeting, GreetingError> {
    if length(header)? != body.len() {
        return Err(GreetingError::Malformed("length"));
    }
    let [.., a, b, c, d] = header;
    if u32::from_le_bytes([a, b, c, d]) != crc32c::crc32c(body) {
        return Err(GreetingError::Checksum);
    }
    let mut fields = Fields(body);
    match fields.u8()? {
        1 => Ok(Greeting::Hello(fields.hello()?)),
        2 => Ok(Greeting::Welcome(fields.hello()?)),
        3 => Ok(Greeting::Rejected(String::from_utf8_lossy(fields.0).into_owned())),
        _ => Err(GreetingError::Malformed("kind")),
    }
}

fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn encode_hello(out: &mut Vec<u8>, hello: &Hello) {
    out.extend_from_slice(&hello.versions.0.to_le_bytes());
    out.extend_from_slice(&hello.versions.1.to_le_bytes());
    out.extend_from_slice(&hello.cluster.0.to_le_bytes());
    out.extend_from_slice(&hello.epoch.0.to_le_bytes());
    out.extend_from_slice(&hello.node.0.to_le_bytes());
    out.extend_from_slice(&hello.incarnation.0.to_le_bytes());
    out.extend_from_slice(&hello.expected.0.to_le_bytes());
    out.push(hello.class.byte());
    out.extend_from_slice(&hello.frame_limit.to_le_bytes());
    for text in [&hello.name, &hello.address] {
        let text = cut(text, TEXT_LIMIT);
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
}

/// The fields that are still unread.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], GreetingError> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(GreetingError::Malformed("truncated"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GreetingError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, GreetingError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, GreetingError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, GreetingError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, GreetingError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String, GreetingError> {
        let length = usize::from(self.u8()?);
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned).map_err(|_| GreetingError::Malformed("text is not UTF-8"))
    }

    fn hello(&mut self) -> Result<Hello, GreetingError> {
        Ok(Hello {
            versions: (self.u16()?, self.u16()?),
            cluster: ClusterId(self.u64()?),
            epoch: Epoch(self.u32()?),
            node: NodeId(self.u64()?),
            incarnation: Incarnation(self.u64()?),
            expected: NodeId(self.u64()?),
            class: Class::from_byte(self.u8()?).ok_or(GreetingError::Malformed("class"))?,
            frame_limit: self.u32()?,
            name: self.text()?,
            address: self.text()?,
        })
    }
}

/// Who this node is, for introducing itself and for judging others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its cluster; 0 while it does not know it.
    pub cluster: ClusterId,
    /// The first cluster id that a peer named while this node did not know its own.
    pub offered: Option<ClusterId>,
    /// The name of its cluster.
    pub name: String,
    /// Its history of the cluster.
    pub epoch: Epoch,
    /// Who it is.
    pub node: NodeId,
}

impl Identity {
    /// Judges how the other end introduced itself. `Err` is the reason for it to read.
    ///
    /// Two clusters of one name are told apart by their ids. A node that has none yet accepts any
    /// id under its name, but only one: mixing two would tie their clusters together.
    pub fn judge(&self, other: &Hello) -> Result<(), String> {
        let (oldest, newest) = other.versions;
        if newest < OLDEST || oldest > NEWEST {
            return Err(format!(
                "{self} speaks protocol versions {OLDEST} to {NEWEST}, you speak {oldest} to {newest}"
            ));
        }
        if other.name != self.name {
            let name = &other.name;
            return Err(format!("{self}, you are of cluster '{name}' ({:?})", other.cluster));
        }
        let known = if self.cluster == UNKNOWN { self.offered } else { Some(self.cluster) };
        if let Some(known) = known
            && other.cluster != UNKNOWN
            && other.cluster != known
        {
            let name = &other.name;
            let id = other.cluster;
            return Err(format!(
                "{self}, you are of cluster '{name}' ({id:?}): the same name, another cluster"
            ));
        }
        if other.expected != self.node {
            return Err(format!(
                "{self}, you look for node {}: check the addresses",
                other.expected
            ));
        }
        if other.node == self.node {
            return Err(format!("{self}, and you claim to be node {} too", other.node));
        }
        if other.epoch != self.epoch {
            return Err(format!(
                "{self} lives in epoch {}, you live in epoch {}: one of the two was left behind by a recovery",
                self.epoch.0, other.epoch.0
            ));
        }
        Ok(())
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this is node {} of cluster '{}' ", self.node, self.name)?;
        match (self.cluster, self.offered) {
            (UNKNOWN, Some(offered)) => write!(f, "(about to join {offered:?})"),
            (UNKNOWN, None) => write!(f, "(its id not yet known)"),
            (cluster, _) => write!(f, "({cluster:?})"),
        }
    }
}

#[cfg(test)]
mod tests;
