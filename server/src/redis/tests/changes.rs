//! What is told of changes amounts to the state.

use std::collections::BTreeMap;

use bytes::Bytes;
use leader::watch::Change;
use proptest::prelude::*;

use super::super::sorted::{Rules, Score};
use super::model::story;
use super::*;

/// Per key its value, or none where only that there is one is told.
type Mirror = BTreeMap<Bytes, Option<Bytes>>;

fn follow(mirror: &mut Mirror, change: Change) {
    match change {
        Change::Put { key, value } => drop(mirror.insert(key, Some(value))),
        Change::Changed { key } => drop(mirror.insert(key, None)),
        Change::Deleted { key } | Change::Expired { key } => drop(mirror.remove(&key)),
        Change::Cleared => mirror.clear(),
    }
}

/// All keys that are stored.
fn stored(bench: &Bench) -> Mirror {
    let generation = Ledger::read(&bench.engine).unwrap().generation.to_be_bytes();
    let rows = bench.rows(KEYS).into_iter().filter(|(row, _)| row.starts_with(&generation));
    let keys = rows.map(|(row, value)| {
        let (_, key) = super::rows::parse_row(row).unwrap();
        let record = Record::decode(&key, value).unwrap();
        (key, (record.kind == Kind::String).then_some(record.value))
    });
    keys.collect()
}

impl Bench {
    /// Applies a command and returns what is told of it.
    fn told(&mut self, command: &Command) -> Vec<Change> {
        self.stamp.index += 1;
        let mut draft = Draft::new(&self.engine);
        draft.note_rows();
        Redis.apply(&mut draft, command, self.stamp).unwrap();
        let rows = draft.take_rows();
        let told = Redis.changes(&draft, command, &rows).unwrap();
        self.engine.write(draft.into_batch()).unwrap();
        told
    }
}

#[test]
fn each_change_is_told_once_and_what_changes_nothing_is_not() {
    let mut bench = Bench::new();
    let put = |key: &str, value: &str| Change::Put {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
    };
    let of = |key: &str| Bytes::from(key.to_owned());
    assert_eq!(bench.told(&set("a", "1", Lifetime::Clear)), [put("a", "1")]);
    let mut only_new = set("a", "2", Lifetime::Clear);
    if let Command::Set { condition, .. } = &mut only_new {
        *condition = Condition::IfAbsent;
    }
    assert_eq!(bench.told(&only_new), []);
    assert_eq!(
        bench.told(&Command::Delete { keys: keys(&["x", "a"]) }),
        [Change::Deleted { key: of("a") }]
    );
    let soon = Lifetime::Until(Moment::After(5));
    bench.told(&set("b", "1", soon));
    bench.pass(10);
    let sweep = Command::Sweep { limit: MAX_SWEEP };
    assert_eq!(bench.told(&sweep), [Change::Expired { key: of("b") }]);
    let members = keys(&["m"]);
    let added = bench.told(&Command::SetAdd { key: of("s"), members });
    assert_eq!(added, [Change::Changed { key: of("s") }]);
    let add = |score: f64| {
        let pairs = vec![(Score::new(score).expect("a number"), of("m"))];
        Command::SortedAdd { key: of("z"), pairs, rules: Rules::default() }
    };
    let told = [1.0, 2.0, 2.0].map(|score| bench.told(&add(score)));
    let changed = vec![Change::Changed { key: of("z") }];
    assert_eq!(told, [changed.clone(), changed, vec![]], "a new score is a change, the same none");
    let steps = [set("c", "1", Lifetime::Clear), Command::Flush, set("d", "2", Lifetime::Clear)];
    let steps = steps.iter().map(step).collect();
    let told = bench.told(&Command::Transaction { watched: Vec::new(), steps });
    assert_eq!(told, [Change::Cleared, put("d", "2")]);
    assert_eq!(bench.told(&sweep), [], "rows of a flush are told with the flush");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_mirror_that_follows_the_changes_has_the_keys_of_the_machine(story in story()) {
        let (mut bench, mut mirror) = (Bench::new(), Mirror::new());
        for (command, _, millis) in story {
            bench.pass(millis);
            for change in bench.told(&command) {
                follow(&mut mirror, change);
            }
            prop_assert_eq!(&mirror, &stored(&bench), "after {:?}", command);
        }
    }
}
