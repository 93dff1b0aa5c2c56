//! The judge of the three strategies.
