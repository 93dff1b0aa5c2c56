//! The table holds together.

use super::introspection::categories;
use super::table::{COMMANDS, Spec, by_name, by_words};
use bytes::Bytes;

fn all() -> impl Iterator<Item = &'static Spec> {
    COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.family))
}

#[test]
fn names_are_in_order_so_that_each_is_found() {
    for among in std::iter::once(COMMANDS).chain(COMMANDS.iter().map(|spec| spec.family)) {
        assert!(among.is_sorted_by(|a, b| a.last_name() < b.last_name()));
    }
    for spec in COMMANDS {
        for name in [spec.name.to_owned(), spec.name.to_ascii_uppercase()] {
            assert_eq!(by_name(name.as_bytes(), COMMANDS).map(|found| found.name), Some(spec.name));
        }
        for member in spec.family {
            let words: Vec<Bytes> =
                member.name.split('|').map(|word| Bytes::from(word.to_owned())).collect();
            assert_eq!(by_words(&words).map(|found| found.name), Ok(member.name));
        }
    }
}

#[test]
fn every_command_can_be_run_and_told_of() {
    for spec in all() {
        assert!(spec.handler.is_some() || !spec.family.is_empty(), "{}", spec.name);
        assert!(!spec.summary.is_empty() && !spec.since.is_empty(), "{}", spec.name);
        assert_ne!(spec.arity, 0, "{}", spec.name);
        assert_eq!(spec.name, spec.name.to_ascii_lowercase());
        assert!(!categories(spec).is_empty());
        // A handler reads the words that its arity promises, a key among them.
        for keys in spec.keys {
            assert!(keys.first < spec.arity.abs() && keys.step > 0, "{}", spec.name);
        }
    }
    for spec in COMMANDS {
        for member in spec.family {
            assert!(member.name.starts_with(&format!("{}|", spec.name)), "{}", member.name);
        }
    }
}
