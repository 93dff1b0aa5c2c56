//! What each read level shows on a follower that lags.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::ledger::Pairs;
use super::modes::{connect, line, text};
use super::narrator::Narrator;
use super::{DemoError, lost};
use crate::cluster::Cluster;

/// How much longer what is sent to the follower takes: less than a lease, so it keeps its leader.
const DELAY: Duration = Duration::from_millis(400);

/// How long a write is old when it is read within a bound: longer than [`BOUND`].
const AGE: Duration = Duration::from_millis(150);
const BOUND: &str = "bounded 100";

/// Levels as REPL READ takes them, whether they must show the write that was just acknowledged, and
/// what they promise.
const LEVELS: [(&str, bool, &str); 6] = [
    ("eventual", false, "what this node has, at once"),
    ("bounded 60000", false, "at most a minute old, proven"),
    (BOUND, true, "at most 100 ms old, proven: this write is older than that"),
    ("causal", true, "the writes whose token it was handed"),
    ("lease", true, "every acknowledged write, by the leader's lease"),
    ("strong", true, "every acknowledged write, by a majority"),
];

/// How often an old value is looked for before the machine counts as too busy to show one.
const ATTEMPTS: u32 = 5;

/// Makes a follower lag, and reads on it at every level a value that the leader has just replaced.
pub(super) async fn every_level(
    narrator: &Narrator,
    cluster: &Cluster,
    leader: u64,
    follower: u64,
) -> Result<Pairs, DemoError> {
    let link = cluster.link(follower).ok_or_else(|| lost("the link"))?;
    let mut writer = connect(cluster, leader).await?;
    let mut reader = connect(cluster, follower).await?;
    // All have it, and the follower has a proof of how old its state is at most.
    line(&mut writer, "REPL ACK all APPLIED").await?;
    line(&mut writer, "SET read:level before").await?;
    line(&mut writer, "REPL ACK quorum").await?;
    line(&mut reader, "REPL READ bounded 60000").await?;
    line(&mut reader, "GET read:level").await?;
    link.slow_down(DELAY);
    narrator.tell(format!(
        "from now on, what is sent to node {follower} arrives {} ms late; what node {leader} \
         acknowledges, the other two have",
        DELAY.as_millis()
    ));
    let mut written = 0_u32;
    for (level, fresh, promise) in LEVELS {
        for attempt in 1..=ATTEMPTS {
            written += 1;
            line(&mut writer, &format!("SET read:level {written}")).await?;
            line(&mut reader, &format!("REPL READ {level}")).await?;
            if level == BOUND {
                sleep(AGE).await;
            }
            if level == "causal" {
                let token = text(&line(&mut writer, "REPL TOKEN").await?);
                line(&mut reader, &format!("REPL TOKEN {token}")).await?;
            }
            let begun = Instant::now();
            let found = text(&line(&mut reader, "GET read:level").await?);
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            let new = found == written.to_string();
            if fresh && !new {
                return Err(DemoError::Check(format!(
                    "a {level} read shows {found:?} after {written} was acknowledged"
                )));
            }
            // A level that may show the former value mostly does, unless the machine was busy.
            if fresh || !new || attempt == ATTEMPTS {
                let what = if new { "the new value" } else { "an older value" };
                narrator.tell(format!("{level:<13} {what:<14} after {took:5.1} ms: {promise}"));
                break;
            }
        }
    }
    link.heal();
    Ok(Pairs::from([(b"read:level".to_vec(), written.to_string().into_bytes())]))
}
