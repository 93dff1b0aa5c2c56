//! TCP on the loopback interface.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{TcpConfig, TcpParts, TcpTransport};
use crate::ids::NodeId;
use crate::transport::{Class, Handler, Transport};

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

async fn node(id: u64) -> Arc<TcpTransport> {
    let config = TcpConfig::new("127.0.0.1:0", NodeId(id), "test");
    TcpTransport::bind(TcpParts::system(), config).await.unwrap()
}

const SECOND: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_call_is_answered() {
    let (a, b) = (node(1).await, node(2).await);
    b.serve(Arc::new(Echo));
    a.learn(NodeId(2), b.address());
    let answer = a.call(NodeId(2), Class::Data, Bytes::from_static(b"hello"), SECOND).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"hello")));
    a.close().await;
    b.close().await;
}
