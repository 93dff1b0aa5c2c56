use super::*;
use crate::workload::Key;

const KEY: Key = Key::register(0);
const READ: Action = Action::Read { key: KEY };
const WRITE: Action = Action::Write { key: KEY, value: 1 };

fn at(millis: u64) -> SimTime {
    SimTime::from_millis(millis)
}

#[test]
fn an_unknown_outcome_leaves_its_process_behind() {
    let mut recorder = Recorder::new();
    let first = recorder.invoke(at(0), 1, Class::Safe, WRITE, Some(at(50)));
    recorder.complete(at(10), first, Reply::new(Outcome::Applied));
    let second = recorder.invoke(at(20), 1, Class::Safe, WRITE, None);
    recorder.complete(at(30), second, Reply::new(Outcome::Unknown));
    let _third = recorder.invoke(at(40), 1, Class::Safe, WRITE, None);
    // The client does not wait: the third still runs.
    let _fourth = recorder.invoke(at(50), 1, Class::Safe, WRITE, None);
    let history = recorder.finish();
    let incarnations: Vec<u32> = history.operations.iter().map(|o| o.process.incarnation).collect();
    assert_eq!(incarnations, [0, 0, 1, 2]);
    let certain: Vec<_> = history.effects().map(|e| e.returned).collect();
    assert_eq!(certain, [Some(at(10)), None, None, None]);
}

#[test]
fn two_events_at_one_time_keep_their_order() {
    let mut recorder = Recorder::new();
    let write = recorder.invoke(at(5), 0, Class::Safe, WRITE, None);
    recorder.complete(at(5), write, Reply::new(Outcome::Applied));
    recorder.invoke(at(5), 1, Class::Safe, READ, None);
    let history = recorder.finish();
    assert!(history.operations[0].returned.unwrap() < history.operations[1].invoked);
}

#[test]
fn what_failed_or_was_lost_says_nothing_about_the_data() {
    let mut recorder = Recorder::new();
    for (action, outcome) in
        [(READ, Outcome::Unknown), (READ, Outcome::NotApplied), (WRITE, Outcome::NotApplied)]
    {
        let id = recorder.invoke(at(0), 0, Class::Safe, action, None);
        recorder.complete(at(1), id, Reply::new(outcome));
    }
    let receipt = Some("r".to_owned());
    let early = Reply { early: true, receipt, ..Reply::new(Outcome::Applied) };
    let id = recorder.invoke(at(2), 0, Class::Fast, WRITE, None);
    recorder.complete(at(3), id, early);
    assert_eq!(recorder.unresolved(), [(id, "r".to_owned())]);
    recorder.resolved(at(9), id, false);
    assert!(recorder.unresolved().is_empty());
    assert!(recorder.operation(id).never_took_effect());
    assert_eq!(recorder.finish().effects().count(), 0);
}

#[test]
fn an_early_acknowledgement_is_open_until_its_receipt_says_committed() {
    for (resolved, certain) in [(false, None), (true, Some(at(90)))] {
        let mut recorder = Recorder::new();
        let id = recorder.invoke(at(0), 0, Class::Fast, WRITE, None);
        let reply = Reply { early: true, ..Reply::new(Outcome::Applied) };
        recorder.complete(at(5), id, reply);
        if resolved {
            recorder.resolved(at(90), id, true);
        }
        let history = recorder.finish();
        assert_eq!(history.effects().next().unwrap().returned, certain);
    }
}

#[test]
fn a_second_answer_is_ignored() {
    let mut recorder = Recorder::new();
    let id = recorder.invoke(at(0), 0, Class::Safe, READ, None);
    recorder.complete(at(5), id, Reply::seen(Seen::Value(Some(1))));
    recorder.complete(at(6), id, Reply::new(Outcome::Unknown));
    let history = recorder.finish();
    assert_eq!(history.operations[0].seen, Some(Seen::Value(Some(1))));
    assert_eq!(History::from_json(&history.to_json()).unwrap(), history);
}
