//! A bug in somebody's machine stops the node, and it says so.

use std::sync::Arc;

use common::env::SplitMix64;
use common::env::simulated::{SimHost, SimWorldClock, Trace};
use common::ids::NodeId;
use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
use common::storage::engine::{EngineError, MemoryEngines};
use common::transport::simulated::{SimNetwork, SimNetworkConfig};
use leader::state_machine::{Draft, Stamp, StateMachine};
use leader::{Config, Member, Node, Role, WriteOptions};

use crate::group::{PATIENCE, story};

struct Faulty;

impl StateMachine for Faulty {
    type Command = bool;
    type Reply = ();

    fn apply(&self, _: &mut Draft<'_>, works: &bool, _: Stamp) -> Result<(), EngineError> {
        assert!(works, "the machine has a bug");
        Ok(())
    }
}

#[test]
fn a_node_whose_machine_panics_says_that_it_has_stopped() {
    story(|| async {
        let (clock, rng, id) = (SimWorldClock::new(), SplitMix64::new(51), NodeId(1));
        let trace = Trace::default();
        let net = SimNetwork::new(&clock, &rng, trace.clone(), SimNetworkConfig::default());
        let disk = SimDisk::new(id, &clock, &rng, trace.clone(), SimDiskConfig::default());
        let host = SimHost::new(id, &clock, &rng, trace);
        let env = host.boot(|life| (net.attach(id, life), disk.mount(life)));
        let engines = Arc::new(MemoryEngines::on_disk(env.disk.clone(), "engine"));
        let node = Node::open(env, engines, Faulty, Config::new(id, "test")).await.unwrap();
        node.bootstrap(vec![Member { id, address: "sim:1".into() }]).await.unwrap();
        node.write(true, WriteOptions::default()).await.unwrap();
        let unknown = node.write(false, WriteOptions::default()).await;
        assert!(unknown.is_err(), "{unknown:?}");
        let stopped = node.wait_until(PATIENCE, |status| status.role == Role::Stopped).await;
        let status = stopped.unwrap();
        let why = status.failure.unwrap();
        assert!(why.contains("panicked") && why.contains("the machine has a bug"), "{why}");
        assert_eq!(host.take_panics(), []);
    });
}
