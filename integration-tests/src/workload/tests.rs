use std::collections::BTreeSet;

use common::env::{Rng, SplitMix64};

use super::*;

fn draw(workload: Workload, client: u8, count: usize) -> Vec<Action> {
    let rng = SplitMix64::new(1).stream(&format!("ops-{client}"));
    let mut generator = workload.generator(client, 5);
    (0..count).map(|_| generator.next(rng.as_ref())).collect()
}

#[test]
fn no_value_is_written_twice() {
    for workload in [Workload::Register, Workload::Set] {
        let mut written = BTreeSet::new();
        for client in 0..5 {
            for action in draw(workload, client, 2_000) {
                match action {
                    Action::Write { value, .. }
                    | Action::CompareAndSet { value, .. }
                    | Action::Add { element: value, .. } => {
                        assert!(written.insert(value), "{value} twice");
                    }
                    _ => {}
                }
            }
        }
        assert!(written.len() > 2_000);
    }
}

#[test]
fn every_kind_of_operation_is_drawn() {
    let count =
        |actions: &[Action], is: fn(&Action) -> bool| actions.iter().filter(|a| is(a)).count();
    let register = draw(Workload::Register, 0, 1_000);
    assert!(count(&register, |a| matches!(a, Action::Write { .. })) > 200);
    assert!(count(&register, |a| matches!(a, Action::CompareAndSet { .. })) > 100);
    assert!(count(&register, Action::is_read) > 300);
    let set = draw(Workload::Set, 0, 1_000);
    assert!((1..100).contains(&count(&set, Action::is_read)));
    let counter = draw(Workload::Counter, 0, 1_000);
    assert!(count(&counter, |a| matches!(a, Action::Increment { by: ..0, .. })) > 50);
}

#[test]
fn keys_rotate_and_all_of_them_are_read_at_the_end() {
    for workload in Workload::ALL {
        let rng = SplitMix64::new(1);
        let mut generator = workload.generator(0, 5);
        let used: BTreeSet<Key> = (0..3_000).map(|_| generator.next(&rng).key()).collect();
        assert!(used.len() > 10, "{workload:?} uses {} keys", used.len());
        let read: BTreeSet<Key> = generator.final_reads().iter().map(Action::key).collect();
        assert_eq!(read, used);
    }
}

#[test]
fn a_client_expects_what_it_saw_last() {
    let key = Key::register(3);
    let swap = Action::CompareAndSet { key, expect: Expect::LastSeen, value: 9 };
    let expecting = |value| Action::CompareAndSet { key, expect: Expect::Value(value), value: 9 };
    let mut memory = Memory::new();
    assert_eq!(memory.resolve(swap), expecting(None));
    memory.note(Action::Read { key }, Some(&Seen::Value(Some(4))));
    assert_eq!(memory.resolve(swap), expecting(Some(4)));
    memory.note(expecting(Some(4)), Some(&Seen::Swapped(false)));
    assert_eq!(memory.resolve(swap), expecting(Some(4)));
    memory.note(expecting(Some(4)), Some(&Seen::Swapped(true)));
    assert_eq!(memory.resolve(swap), expecting(Some(9)));
    assert_eq!(memory.resolve(Action::Read { key }), Action::Read { key });
}

#[test]
fn keys_survive_their_text() {
    for key in [Key::register(0), Key::counter(7), Key::set(12)] {
        assert_eq!(key.to_string().parse::<Key>(), Ok(key));
    }
    for text in ["register", "list-3", "set--1", "set-x", ""] {
        assert!(text.parse::<Key>().is_err(), "{text}");
    }
}
