//! The evidence of a violation.

use std::fmt;

use crate::history::Operation;

/// A few operations that no correct system could have shown together, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What is wrong, in one sentence.
    pub claim: String,
    /// The operations, by invocation.
    pub operations: Vec<Operation>,
}

impl Witness {
    /// A witness; operations are put in order and doubles are dropped.
    pub fn new<'a>(
        claim: impl Into<String>,
        operations: impl IntoIterator<Item = &'a Operation>,
    ) -> Self {
        let mut operations: Vec<Operation> = operations.into_iter().cloned().collect();
        operations.sort_by_key(|o| (o.invoked, o.process, o.returned));
        operations.dedup();
        Self { claim: claim.into(), operations }
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.claim)?;
        for operation in &self.operations {
            writeln!(f, "  {operation}")?;
        }
        Ok(())
    }
}
