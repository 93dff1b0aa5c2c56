//! A transport that reaches nobody, for work on a folder whose node does not run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{CallError, Class, Handler, Transport};
use crate::ids::NodeId;

/// Reaches nobody and serves nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offline;

fn unreachable(to: NodeId) -> CallError {
    CallError::Unreachable(to, "this program works offline".to_owned())
}

#[async_trait]
impl Transport for Offline {
    fn call(
        &self,
        to: NodeId,
        _: Class,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        async move { Err(unreachable(to)) }.boxed()
    }

    fn cast(&self, to: NodeId, _: Class, _: Bytes) -> Result<(), CallError> {
        Err(unreachable(to))
    }

    fn serve(&self, _: Arc<dyn Handler>) {}

    fn learn(&self, _: NodeId, _: &str) {}

    fn forget(&self, _: NodeId) {}

    async fn close(&self) {}
}
