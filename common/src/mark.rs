//! Marks: how the simulator knows that a rare path was taken.
//!
//! [`sometimes!`](crate::sometimes) expands to nothing in every build without `test-util`. With it,
//! the mark is noted in a set of the thread, which the simulator takes after each run: a path that
//! no run takes is a path that no run tests.

/// Notes that the path with this name was taken. Nothing, unless `test-util` is on.
///
/// ```
/// common::sometimes!("segment-rolled");
/// ```
#[cfg(any(test, feature = "test-util"))]
#[macro_export]
macro_rules! sometimes {
    ($name:literal) => {
        $crate::mark::note($name)
    };
}

/// Notes that the path with this name was taken. Nothing, unless `test-util` is on.
#[cfg(not(any(test, feature = "test-util")))]
#[macro_export]
macro_rules! sometimes {
    ($name:literal) => {{}};
}

#[cfg(any(test, feature = "test-util"))]
mod fired {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static FIRED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Notes a mark for this thread. Called by [`sometimes!`](crate::sometimes).
    pub fn note(name: &'static str) {
        FIRED.with(|fired| fired.borrow_mut().insert(name));
    }

    /// The marks noted on this thread since the last call, which forgets them.
    pub fn take() -> BTreeSet<&'static str> {
        FIRED.with(RefCell::take)
    }
}

#[cfg(any(test, feature = "test-util"))]
pub use fired::{note, take};

#[cfg(test)]
mod tests {
    #[test]
    #[expect(clippy::disallowed_methods, reason = "another thread is what this is about")]
    fn a_mark_is_noted_once_per_run_and_on_its_own_thread() {
        let _ = super::take();
        for _ in 0..3 {
            sometimes!("twice-is-once");
        }
        let elsewhere = std::thread::spawn(super::take).join().unwrap();
        assert!(elsewhere.is_empty());
        assert_eq!(super::take().into_iter().collect::<Vec<_>>(), ["twice-is-once"]);
        assert!(super::take().is_empty());
    }
}
