//! The table that `explain` returns: what a pair of write mode and read level gives and costs.
//!
//! Plain data: a strategy fills it from its configuration and what it has measured, the simulator
//! proves its lines, a terminal prints it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Consistency, ReplicationMode};

/// What can happen to the nodes that hold a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Fault {
    /// The process that took the write is killed and restarts with its disk.
    Restart,
    /// The node that took the write is gone with its disk; the others reach each other.
    NodeLost,
    /// The node that took the write is cut off from all others.
    NodeCutOff,
    /// The node that took the write is cut off together with a minority.
    MinorityCutOff,
    /// One disk less than a majority is destroyed.
    MinorityOfDisks,
    /// A majority of disks is destroyed.
    MajorityOfDisks,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "process killed, restarts",
            Self::NodeLost => "node and its disk lost",
            Self::NodeCutOff => "node cut off alone",
            Self::MinorityCutOff => "node cut off with a minority",
            Self::MinorityOfDisks => "one disk less than a majority destroyed",
            Self::MajorityOfDisks => "majority of disks destroyed",
        })
    }
}

/// How much of what was acknowledged a fault may take away. All of it is told by receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// Writes acknowledged within so much time before the fault.
    Window(Duration),
    /// Writes that no other node has yet: as many as the limits on uncommitted writes allow.
    UnreplicatedTail,
    /// Writes that a majority does not have yet, though some nodes may: the next leader may be one
    /// that has not.
    NotOnMajority,
    /// Anything, but not while so many of the named disks survive.
    UnlessSurvive(u8),
    /// Anything.
    Anything,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Window(d) => write!(f, "what was acknowledged within {} ms", d.as_millis()),
            Self::UnreplicatedTail => f.write_str("what no other node has yet"),
            Self::NotOnMajority => f.write_str("what a majority does not have yet"),
            Self::UnlessSurvive(n) => write!(f, "nothing while {n} of the disks survive"),
            Self::Anything => f.write_str("anything"),
        }
    }
}

/// A cut of the network in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cut {
    /// One node that is not the leader, or any one node where there is none.
    OneFollower,
    /// The leader alone.
    Leader,
    /// The leader with a minority.
    LeaderWithMinority,
    /// No side has a majority.
    NoMajority,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneFollower => "one follower | rest",
            Self::Leader => "leader | rest",
            Self::LeaderWithMinority => "leader and a minority | rest",
            Self::NoMajority => "no side has a majority",
        })
    }
}

/// What works on the two sides of a cut: first the side the cut names, then the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Available {
    /// Whether writes are acknowledged, on the named side and on the rest, once the rest has
    /// settled (a new leader where one is needed).
    pub writes: [bool; 2],
    /// Whether reads are answered, likewise.
    pub reads: [bool; 2],
}

impl fmt::Display for Available {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: usize| match (self.writes[side], self.reads[side]) {
            (true, true) => "writes and reads",
            (true, false) => "writes",
            (false, true) => "reads",
            (false, false) => "nothing",
        };
        write!(f, "{} | {}", side(0), side(1))
    }
}

/// When others see an acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Visible {
    /// Every read of this level that begins after the acknowledgement sees it.
    Immediately,
    /// Reads see it at most so much later.
    Within(Duration),
    /// Reads that carry the writer's token see it; others when it has spread.
    WithToken,
    /// When it has spread; no bound is promised.
    Eventually,
}

impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Immediately => f.write_str("at once"),
            Self::Within(d) => write!(f, "within {} ms", d.as_millis()),
            Self::WithToken => {
                f.write_str("at once with the writer's token, else when it has spread")
            }
            Self::Eventually => f.write_str("when it has spread"),
        }
    }
}

/// What a write mode and a read level give and cost together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TradeOff {
    /// The write mode.
    pub write: ReplicationMode,
    /// The read level.
    pub read: Consistency,
    /// What each fault may take away of what was acknowledged.
    pub loss: Vec<(Fault, Loss)>,
    /// What works under each cut.
    pub availability: Vec<(Cut, Available)>,
    /// Round trips between nodes that a write waits for.
    pub write_round_trips: u8,
    /// Disk syncs, one after another, that a write waits for.
    pub write_syncs: u8,
    /// Round trips between nodes that a read waits for.
    pub read_round_trips: u8,
    /// How long a write takes, from the round trips and syncs measured now, where they are known.
    pub write_time: Option<Duration>,
    /// How long a read takes, likewise.
    pub read_time: Option<Duration>,
    /// When others see an acknowledged write with this read level.
    pub visible: Visible,
    /// How old a read's answer may be now, as proven; `None` where nothing is proven.
    pub proven_age: Option<Duration>,
    /// Which commands wait longer than the mode says, because their reply needs the state.
    pub replies_that_wait: String,
    /// What deserves a warning: a region that alone holds a majority, a mode that no failure
    /// survives.
    pub warnings: Vec<String>,
}

impl fmt::Display for TradeOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "write {}, read {}", self.write, self.read)?;
        writeln!(f, "may lose, and tells:")?;
        for (fault, loss) in &self.loss {
            writeln!(f, "  {fault}: {loss}")?;
        }
        writeln!(f, "works under a cut:")?;
        for (cut, available) in &self.availability {
            writeln!(f, "  {cut}: {available}")?;
        }
        let (trips, syncs) = (self.write_round_trips, self.write_syncs);
        write!(f, "a write waits for {trips} round trips and {syncs} syncs")?;
        about(f, self.write_time)?;
        write!(f, "a read waits for {} round trips", self.read_round_trips)?;
        about(f, self.read_time)?;
        writeln!(f, "others see a write: {}", self.visible)?;
        if let Some(age) = self.proven_age {
            writeln!(f, "a read is at most {} ms old now", age.as_millis())?;
        }
        if !self.replies_that_wait.is_empty() {
            writeln!(f, "wait longer: {}", self.replies_that_wait)?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

fn about(f: &mut fmt::Formatter<'_>, time: Option<Duration>) -> fmt::Result {
    match time {
        Some(time) => writeln!(f, ", about {:.1} ms", time.as_secs_f64() * 1000.0),
        None => writeln!(f),
    }
}
