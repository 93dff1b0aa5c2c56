//! Out of quarantine: a snapshot from a member that has the right state.
//!
//! The member that sends needs nothing but its own state. The one that receives stops its core,
//! takes the snapshot for its state, and starts the core again, which applies what its log has
//! behind it. So the state may go back a little and comes forward again; term, vote and log stay.

use std::time::Duration;

use common::env::Env;
use common::sometimes;
use tokio::sync::broadcast;

use super::Integrity;
use crate::event::Event;
use crate::raft::Consensus;

/// How long a member may take to say whether it can help.
const QUESTION: Duration = Duration::from_secs(1);
/// How long a snapshot that was promised may make no progress before another member is asked.
const STALLED: Duration = Duration::from_secs(60);
/// How soon all members are asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks the others for their state, one after the other, whenever this member is in quarantine.
pub(crate) async fn repair(
    env: Env,
    consensus: Consensus,
    integrity: Integrity,
    events: broadcast::Sender<Event>,
) {
    let mut quarantine = integrity.0.quarantine.subscribe();
    loop {
        let Some(why) = *quarantine.borrow_and_update() else {
            if quarantine.changed().await.is_err() {
                return;
            }
            continue;
        };
        // A leader hands over first: the election agent does that.
        if consensus.leads().is_none() {
            for peer in consensus.other_voters() {
                if !consensus.ask_repair(peer, &why, QUESTION).await {
                    continue;
                }
                let mut come = consensus.received_chunks();
                let lifted = loop {
                    match env.timeout(STALLED, quarantine.wait_for(Option::is_none)).await {
                        Ok(Ok(_)) => break true,
                        Ok(Err(_)) => return,
                        Err(_) => {}
                    }
                    let now = consensus.received_chunks();
                    if std::mem::replace(&mut come, now) == now {
                        break false;
                    }
                };
                if lifted {
                    break;
                }
            }
        }
        if integrity.quarantined().is_none() {
            sometimes!("divergence-repaired");
            tracing::warn!("the state was replaced by a snapshot; this node serves reads again");
            let _ = events.send(Event::Repaired { at: why.at });
            continue;
        }
        env.sleep(AGAIN).await;
    }
}
