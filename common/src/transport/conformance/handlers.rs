//! The handlers that the claims serve with.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::super::{Class, Handler};
use crate::ids::NodeId;

/// Answers with what it got, and remembers it.
#[derive(Debug, Default)]
pub(super) struct Echo {
    seen: Mutex<Vec<(Class, Bytes)>>,
}

impl Echo {
    pub(super) fn seen(&self) -> MutexGuard<'_, Vec<(Class, Bytes)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Echo {
    fn handle(
        &self,
        _from: NodeId,
        class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        self.seen().push((class, body.clone()));
        Box::pin(async move { Ok(body) })
    }
}

/// Answers nothing until it is released, then everything.
#[derive(Debug)]
pub(super) struct Held {
    released: watch::Sender<bool>,
    waiting: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Held {
    pub(super) fn new() -> Arc<Self> {
        let (released, _) = watch::channel(false);
        Arc::new(Self { released, waiting: Arc::default(), most: Arc::default() })
    }

    pub(super) fn release(&self) {
        self.released.send_replace(true);
    }

    /// How many messages were being served at once, at most.
    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

impl Handler for Held {
    fn handle(
        &self,
        _from: NodeId,
        class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        if class == Class::Control {
            return Box::pin(async move { Ok(body) });
        }
        let (waiting, most) = (self.waiting.clone(), self.most.clone());
        most.fetch_max(waiting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let mut released = self.released.subscribe();
        Box::pin(async move {
            let _ = released.wait_for(|released| *released).await;
            waiting.fetch_sub(1, Ordering::SeqCst);
            Ok(body)
        })
    }
}

/// Does what a function says.
pub(super) struct Answer<F>(pub(super) F);

impl<F> Handler for Answer<F>
where
    F: Fn(NodeId, Bytes) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync,
{
    fn handle(
        &self,
        from: NodeId,
        _class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        (self.0)(from, body)
    }
}
