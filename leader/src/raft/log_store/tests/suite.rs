//! openraft's own suite for storage, on this log and the smallest machine that it accepts.

use openraft::storage::{
    EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{StorageError, alias};

use super::*;
use crate::raft::type_config::{LogId, Replies, TypeConfig};

type Stored = alias::StoredMembershipOf<TypeConfig>;
type Meta = alias::SnapshotMetaOf<TypeConfig>;
type Taken = alias::SnapshotOf<TypeConfig, ()>;

/// Knows where it is, and who the members are.
#[derive(Clone, Debug, Default)]
struct Counting {
    applied: Option<LogId>,
    members: Stored,
    taken: Arc<Mutex<Option<Meta>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Counting {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<Taken, io::Error> {
        let meta =
            SnapshotMeta { last_log_id: self.applied, last_membership: self.members.clone() };
        *self.taken.lock().unwrap() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for Counting {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Stored), io::Error> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: futures::Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let Payload::Membership(members) = entry.payload {
                self.members = Stored::new(Some(entry.log_id), members);
            }
            if let Some(responder) = responder {
                responder.send(Replies::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &Meta, (): ()) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.members = meta.last_membership.clone();
        *self.taken.lock().unwrap() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Taken>, io::Error> {
        let taken = self.taken.lock().unwrap().clone();
        Ok(taken.map(|meta| Snapshot { meta, snapshot: () }))
    }
}

/// A machine, and so a disk, for each test of the suite.
struct Fresh;

impl StoreBuilder<TypeConfig, LogStore, Counting, Machine> for Fresh {
    async fn build(&self) -> Result<(Machine, LogStore, Counting), StorageError<TypeConfig>> {
        let machine = Machine::new(1);
        let log = open_with(&machine, &small_config()).await.unwrap();
        Ok((machine, log, Counting::default()))
    }
}

#[tokio::test(start_paused = true)]
async fn openrafts_own_suite_passes() {
    let outside = Machine::new(7);
    let env = outside.boot();
    env.scope(Suite::test_all(Fresh)).await.unwrap();
}
