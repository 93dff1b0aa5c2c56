//! What a client asks for: data that names no strategy.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a key holds. The kind decides which checker judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One value, overwritten.
    Register,
    /// A number, incremented. Absent is 0.
    Counter,
    /// Elements, each added once and never removed.
    Set,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Counter => "counter",
            Self::Set => "set",
        }
    }
}

/// A key of a workload. In files and messages it is text such as `register-12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Key {
    /// What the key holds.
    pub kind: Kind,
    /// Which one of its kind.
    pub number: u32,
}

impl Key {
    /// A register.
    pub const fn register(number: u32) -> Self {
        Self { kind: Kind::Register, number }
    }

    /// A counter.
    pub const fn counter(number: u32) -> Self {
        Self { kind: Kind::Counter, number }
    }

    /// A set.
    pub const fn set(number: u32) -> Self {
        Self { kind: Kind::Set, number }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind.name(), self.number)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

impl FromStr for Key {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is no key: write register-N, counter-N or set-N");
        let (kind, number) = text.split_once('-').ok_or_else(refused)?;
        let kind = match kind {
            "register" => Kind::Register,
            "counter" => Kind::Counter,
            "set" => Kind::Set,
            _ => return Err(refused()),
        };
        Ok(Self { kind, number: number.parse().map_err(|_| refused())? })
    }
}

impl TryFrom<String> for Key {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What a compare-and-set expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// This value, or no value.
    Value(Option<i64>),
    /// What this client last saw of the key. [`Memory`](super::Memory) fills it in when the
    /// operation starts, so a history never holds it.
    LastSeen,
}

/// One operation of a client.
///
/// Values of registers and elements of sets are unique in a plan, so that an observation names the
/// write it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Reads a register or a counter. Shows [`Seen::Value`].
    Read {
        /// What to read.
        key: Key,
    },
    /// Overwrites a register. Shows nothing.
    Write {
        /// The register.
        key: Key,
        /// Its new value.
        value: i64,
    },
    /// Overwrites a register if it holds what is expected. Shows [`Seen::Swapped`]; a value that
    /// did not match is an answer, not a failure.
    CompareAndSet {
        /// The register.
        key: Key,
        /// What it must hold.
        expect: Expect,
        /// Its new value.
        value: i64,
    },
    /// Adds to a counter. Shows the sum as [`Seen::Value`], or nothing where a strategy cannot.
    Increment {
        /// The counter.
        key: Key,
        /// How much, may be negative.
        by: i64,
    },
    /// Adds an element to a set. Shows nothing.
    Add {
        /// The set.
        set: Key,
        /// The element.
        element: i64,
    },
    /// Reads all elements of a set. Shows [`Seen::Elements`].
    ReadSet {
        /// The set.
        set: Key,
    },
}

impl Action {
    /// The key that the operation is about.
    pub const fn key(&self) -> Key {
        match *self {
            Self::Read { key }
            | Self::Write { key, .. }
            | Self::CompareAndSet { key, .. }
            | Self::Increment { key, .. }
            | Self::Add { set: key, .. }
            | Self::ReadSet { set: key } => key,
        }
    }

    /// Whether the operation changes nothing, whatever becomes of it.
    pub const fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::ReadSet { .. })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { key } => write!(f, "read {key}"),
            Self::Write { key, value } => write!(f, "write {key} = {value}"),
            Self::CompareAndSet { key, expect, value } => match expect {
                Expect::Value(Some(old)) => write!(f, "swap {key}: {old} -> {value}"),
                Expect::Value(None) => write!(f, "swap {key}: nothing -> {value}"),
                Expect::LastSeen => write!(f, "swap {key}: last seen -> {value}"),
            },
            Self::Increment { key, by } => write!(f, "increment {key} by {by}"),
            Self::Add { set, element } => write!(f, "add {element} to {set}"),
            Self::ReadSet { set } => write!(f, "read all of {set}"),
        }
    }
}

/// What an operation showed its client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The value read, or none; the sum after an increment.
    Value(Option<i64>),
    /// Whether the compare-and-set found what it expected.
    Swapped(bool),
    /// The elements of a set, in any order.
    Elements(Vec<i64>),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(Some(value)) => write!(f, "{value}"),
            Self::Value(None) => f.write_str("nothing"),
            Self::Swapped(true) => f.write_str("swapped"),
            Self::Swapped(false) => f.write_str("did not match"),
            Self::Elements(elements) => write!(f, "{} elements", elements.len()),
        }
    }
}

/// The guarantees that an operation asks for, in words that every strategy has.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Asynchronous write, eventual read: whatever one replica says.
    Fast,
    /// Quorum write, and the strongest read that the strategy offers.
    #[default]
    Safe,
    /// Acknowledged write and causal read, with the client's session token.
    Session,
    /// Quorum write, and a read of any replica that is at most [`Class::BOUND`] old.
    Bounded,
}

impl Class {
    /// How old a bounded read may be.
    pub const BOUND: Duration = Duration::from_millis(200);
}
