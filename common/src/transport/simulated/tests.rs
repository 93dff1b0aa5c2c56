//! The simulated network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{SimNetwork, SimNetworkConfig};
use crate::env::SplitMix64;
use crate::env::simulated::{SimWorldClock, Trace};
use crate::ids::{Incarnation, NodeId};
use crate::transport::{Class, Handler};

struct Echo;

impl Handler for Echo {
    fn handle(
        &self,
        _from: NodeId,
        _class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async move { Ok(body) })
    }
}

const SECOND: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_call_is_answered() {
    let world = SimWorldClock::new();
    let net =
        SimNetwork::new(&world, &SplitMix64::new(1), Trace::default(), SimNetworkConfig::default());
    let a = net.attach(NodeId(1), Incarnation(1));
    let b = net.attach(NodeId(2), Incarnation(1));
    b.serve(Arc::new(Echo));
    let answer = a.call(NodeId(2), Class::Data, Bytes::from_static(b"hello"), SECOND).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"hello")));
    assert!(world.elapsed() >= Duration::from_millis(2));
}
