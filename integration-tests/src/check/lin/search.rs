//! The search for an order that explains every step: Wing and Gong 1993, as a depth-first search
//! over a linked list of events (Lowe 2017) that never visits one set of taken steps with one state
//! twice.
//!
//! What was visited is remembered by a 128-bit hash. Two sets with one hash would hide a valid order,
//! so a violation is confirmed on its witness by [`confirm`], which remembers the sets themselves.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use super::step::{State, Step};

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An order exists.
    Order,
    /// No order exists.
    None,
    /// The budget ran out first.
    OutOfBudget,
}

/// Searches for an order from `state`, taking at most `budget` steps.
pub(super) fn search(steps: &[Step<'_>], state: State, budget: u64) -> Found {
    let mut visited = Hashed { seen: HashSet::default(), hash: 0 };
    depth_first(steps, state, budget, &mut visited)
}

/// The same without hashes, for small histories.
pub(super) fn confirm(steps: &[Step<'_>], state: State, budget: u64) -> Found {
    let mut visited = Exact { seen: HashSet::new(), taken: vec![0; steps.len().div_ceil(64)] };
    depth_first(steps, state, budget, &mut visited)
}

/// Remembers which sets of taken steps were visited in which state.
trait Visited {
    /// Takes a step or puts it back.
    fn toggle(&mut self, step: usize);
    /// Whether this set is new with this state.
    fn first(&mut self, state: State) -> bool;
}

struct Hashed {
    seen: HashSet<u128, BuildHasherDefault<Low>>,
    hash: u128,
}

/// The keys are hashes already.
#[derive(Default)]
struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u128(&mut self, n: u128) {
        self.0 = n as u64;
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const fn spread(n: u64, salt: u64) -> u128 {
    let low = mix(n.wrapping_add(salt));
    let high = mix(low ^ n.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15);
    ((high as u128) << 64) | low as u128
}

impl Visited for Hashed {
    fn toggle(&mut self, step: usize) {
        self.hash ^= spread(step as u64, 0x51);
    }
    fn first(&mut self, state: State) -> bool {
        let state = match state {
            None => 0,
            Some(value) => spread(value.cast_unsigned(), 0xa7_0000),
        };
        self.seen.insert(self.hash ^ state)
    }
}

struct Exact {
    seen: HashSet<(Vec<u64>, State)>,
    taken: Vec<u64>,
}

impl Visited for Exact {
    fn toggle(&mut self, step: usize) {
        self.taken[step / 64] ^= 1 << (step % 64);
    }
    fn first(&mut self, state: State) -> bool {
        self.seen.insert((self.taken.clone(), state))
    }
}

/// Invocations and returns by time, as a doubly linked list in which a step's two events can be
/// taken out and put back. Slot 0 is the head.
struct Events {
    next: Vec<u32>,
    before: Vec<u32>,
    /// The step of a slot, and whether the slot is its return.
    slot: Vec<(u32, bool)>,
    /// The slots of a step's invocation and return. An open step's return is 0: not in the list.
    of: Vec<(u32, u32)>,
}

impl Events {
    fn new(steps: &[Step<'_>]) -> Self {
        let mut times: Vec<(u64, bool, u32)> = Vec::with_capacity(steps.len() * 2);
        for (i, step) in steps.iter().enumerate() {
            times.push((step.invoked, false, i as u32));
            if !step.is_open() {
                times.push((step.returned, true, i as u32));
            }
        }
        // At one time invocations come first: such steps are concurrent.
        times.sort_unstable();
        let count = times.len() as u32;
        let mut events = Self {
            next: (1..=count).chain([0]).collect(),
            before: [count].into_iter().chain(0..count).collect(),
            slot: vec![(u32::MAX, false)],
            of: vec![(0, 0); steps.len()],
        };
        for (i, (_, is_return, step)) in times.into_iter().enumerate() {
            events.slot.push((step, is_return));
            let of = &mut events.of[step as usize];
            *(if is_return { &mut of.1 } else { &mut of.0 }) = i as u32 + 1;
        }
        events
    }

    fn unlink(&mut self, slot: u32) {
        let (before, next) = (self.before[slot as usize], self.next[slot as usize]);
        self.next[before as usize] = next;
        self.before[next as usize] = before;
    }

    fn relink(&mut self, slot: u32) {
        let (before, next) = (self.before[slot as usize], self.next[slot as usize]);
        self.next[before as usize] = slot;
        self.before[next as usize] = slot;
    }

    fn take(&mut self, step: u32) {
        let (invoked, returned) = self.of[step as usize];
        self.unlink(invoked);
        if returned != 0 {
            self.unlink(returned);
        }
    }

    /// Undoes the latest [`Events::take`] that was not undone.
    fn put_back(&mut self, step: u32) {
        let (invoked, returned) = self.of[step as usize];
        if returned != 0 {
            self.relink(returned);
        }
        self.relink(invoked);
    }
}

fn depth_first(
    steps: &[Step<'_>],
    mut state: State,
    mut budget: u64,
    visited: &mut dyn Visited,
) -> Found {
    let mut events = Events::new(steps);
    let mut missing = steps.iter().filter(|s| !s.is_open()).count();
    let mut taken: Vec<(u32, State)> = Vec::new();
    let mut slot = events.next[0];
    while missing > 0 {
        let (step, is_return) = events.slot[slot as usize];
        if !is_return {
            if budget == 0 {
                return Found::OutOfBudget;
            }
            budget -= 1;
            let open = steps[step as usize].is_open();
            if let Some(after) = steps[step as usize].what.apply(state) {
                visited.toggle(step as usize);
                if visited.first(after) {
                    events.take(step);
                    taken.push((step, state));
                    state = after;
                    missing -= usize::from(!open);
                    slot = events.next[0];
                    continue;
                }
                visited.toggle(step as usize);
            }
            slot = events.next[slot as usize];
        } else if let Some((step, former)) = taken.pop() {
            // A step has returned that nothing before explains: the last one taken was wrong.
            events.put_back(step);
            visited.toggle(step as usize);
            missing += usize::from(!steps[step as usize].is_open());
            state = former;
            slot = events.next[events.of[step as usize].0 as usize];
        } else {
            return Found::None;
        }
    }
    Found::Order
}
