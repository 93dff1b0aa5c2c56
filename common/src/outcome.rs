//! What happened to the data: the one question that every error of a write answers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is known of a write. A client, and a linearizability checker, needs nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It has no effect, and never will. Repeating it is safe.
    NotApplied,
    /// It has its effect. Repeating it would do it twice.
    Applied,
    /// It may have its effect now, later, or never. Its receipt, where there is one, tells later;
    /// repeating it is safe only under the same client sequence or request id.
    Unknown,
}

impl Outcome {
    /// The outcome of one write over several attempts, each of which could have had the effect.
    ///
    /// One attempt that applied it decides; else one unknown attempt leaves it unknown.
    #[must_use]
    pub const fn over_attempts(self, other: Self) -> Self {
        match (self, other) {
            (Self::Applied, _) | (_, Self::Applied) => Self::Applied,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::NotApplied, Self::NotApplied) => Self::NotApplied,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotApplied => "not applied",
            Self::Applied => "applied",
            Self::Unknown => "unknown",
        })
    }
}

/// An error, or an answer, that says what happened to the data.
pub trait HasOutcome {
    /// What happened to the data.
    fn outcome(&self) -> Outcome;
}

impl HasOutcome for Outcome {
    fn outcome(&self) -> Outcome {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Applied, NotApplied, Unknown};

    #[test]
    fn unknown_outweighs_not_applied_and_applied_outweighs_both() {
        for (a, b, expected) in [
            (NotApplied, NotApplied, NotApplied),
            (NotApplied, Unknown, Unknown),
            (Unknown, Unknown, Unknown),
            (Unknown, Applied, Applied),
            (NotApplied, Applied, Applied),
        ] {
            assert_eq!(a.over_attempts(b), expected);
            assert_eq!(b.over_attempts(a), expected);
        }
    }
}
