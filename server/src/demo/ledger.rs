//! What was acknowledged, against which every node is checked at the end.
//!
//! Each key is written once, and sent again with the same value until it is acknowledged, through
//! whichever node answers. So at the end every key of the ledger must be on every node with its
//! value, and nothing else.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::client::{Client, ClientError, Reply};

/// How long one command may take: longer than an election.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Keys per SCAN and MGET.
const PAGE: &str = "1000";
/// So many pages are believed before a SCAN that never ends is given up.
const PAGES: usize = 100_000;

/// Keys with their values.
pub(super) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A number that two nodes share only when they hold the same keys and values.
pub(super) fn digest(pairs: &Pairs) -> u64 {
    let mut hasher = DefaultHasher::new();
    pairs.hash(&mut hasher);
    hasher.finish()
}

/// Everything that a node holds, read through it.
pub(super) async fn read_all(client: &mut Client) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut cursor = b"0".to_vec();
    for _ in 0..PAGES {
        let reply = ask(client, &[b"SCAN", &cursor, b"COUNT", PAGE.as_bytes()]).await?;
        let (next, keys) = page(reply)?;
        if !keys.is_empty() {
            let mut command: Vec<&[u8]> = vec![b"MGET"];
            command.extend(keys.iter().map(Vec::as_slice));
            let Reply::Several(values) = ask(client, &command).await? else {
                return Err("MGET answered no array".to_owned());
            };
            for (key, value) in keys.iter().zip(&values) {
                let value = value.value().ok_or_else(|| {
                    format!("{:?} was listed and has no value", String::from_utf8_lossy(key))
                })?;
                pairs.insert(key.clone(), value.to_vec());
            }
        }
        if next == b"0" {
            return Ok(pairs);
        }
        cursor = next;
    }
    Err("SCAN did not come to an end".to_owned())
}

fn page(reply: Reply) -> Result<(Vec<u8>, Vec<Vec<u8>>), String> {
    let wrong = || "SCAN did not answer a cursor and keys".to_owned();
    let Reply::Several(parts) = reply else { return Err(wrong()) };
    let [Reply::Value(cursor), Reply::Several(keys)] = parts.as_slice() else {
        return Err(wrong());
    };
    let keys = keys.iter().map(|key| key.value().map(<[u8]>::to_vec));
    Ok((cursor.clone(), keys.collect::<Option<_>>().ok_or_else(wrong)?))
}

/// One command; an error reply is an error.
pub(super) async fn ask(client: &mut Client, command: &[&[u8]]) -> Result<Reply, String> {
    let said = |error: ClientError| error.to_string();
    let reply = client.command(command).await.map_err(said)?;
    match reply.error() {
        Some(error) => Err(format!("{} answered {error}", client.address())),
        None => Ok(reply),
    }
}

/// What differs between what was acknowledged and what a node holds; nothing where they agree.
pub(super) fn difference(acknowledged: &Pairs, found: &Pairs) -> Option<String> {
    let name = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    let missing: Vec<_> = acknowledged.keys().filter(|key| !found.contains_key(*key)).collect();
    if let Some(first) = missing.first() {
        return Some(format!(
            "{} acknowledged keys are missing, the first is {}",
            missing.len(),
            name(first)
        ));
    }
    let wrong = acknowledged.iter().find(|(key, value)| found.get(*key) != Some(*value));
    if let Some((key, _)) = wrong {
        return Some(format!("{} has another value than the one acknowledged", name(key)));
    }
    let extra = found.keys().find(|key| !acknowledged.contains_key(*key))?;
    Some(format!("{} was never written", name(extra)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&str, &str)]) -> Pairs {
        of.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let acknowledged = pairs(&[("a", "1"), ("b", "2")]);
        assert_eq!(difference(&acknowledged, &acknowledged), None);
        for (found, part) in [
            (pairs(&[("a", "1")]), "1 acknowledged keys are missing, the first is b"),
            (pairs(&[("a", "1"), ("b", "3")]), "b has another value"),
            (pairs(&[("a", "1"), ("b", "2"), ("c", "3")]), "c was never written"),
        ] {
            let said = difference(&acknowledged, &found).unwrap();
            assert!(said.contains(part), "{said}");
            assert_ne!(digest(&acknowledged), digest(&found));
        }
    }

    #[test]
    fn a_page_of_a_scan_is_taken_apart() {
        let cursor = || Reply::Value(b"17".to_vec());
        let keys = Reply::Several(vec![Reply::Value(b"k".to_vec())]);
        let good = Reply::Several(vec![cursor(), keys]);
        assert_eq!(page(good), Ok((b"17".to_vec(), vec![b"k".to_vec()])));
        for bad in [Reply::Nothing, Reply::Several(vec![cursor()]), cursor()] {
            assert!(page(bad).is_err());
        }
    }
}
