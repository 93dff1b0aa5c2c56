//! Planted bugs: how the simulator proves that it would notice a broken promise.
//!
//! [`mutate!`](crate::mutate) is `good` in every build but the simulator's mutant build (feature
//! `unstable-mutants`), where a thread-local that only the simulator sets selects `bad`.

/// `good`, unless the simulator's mutant build has selected the mutant `name`: then `bad`.
#[cfg(not(feature = "unstable-mutants"))]
#[macro_export]
macro_rules! mutate {
    ($name:literal, $good:expr, $bad:expr) => {
        $good
    };
}

/// `good`, unless the simulator has selected the mutant `name` on this thread: then `bad`.
#[cfg(feature = "unstable-mutants")]
#[macro_export]
macro_rules! mutate {
    ($name:literal, $good:expr, $bad:expr) => {
        if $crate::mutant::selected($name) { $bad } else { $good }
    };
}

#[cfg(feature = "unstable-mutants")]
mod selection {
    use std::cell::Cell;

    thread_local! {
        static SELECTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Selects a mutant for this thread, or none.
    pub fn select(name: Option<&'static str>) {
        SELECTED.with(|s| s.set(name));
    }

    /// Whether the mutant is selected on this thread.
    pub fn selected(name: &str) -> bool {
        SELECTED.with(|s| s.get() == Some(name))
    }
}

#[cfg(feature = "unstable-mutants")]
pub use selection::{select, selected};
