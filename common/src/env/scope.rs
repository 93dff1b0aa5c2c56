//! Which node's code is running: a scope entered around every poll.
//!
//! Some libraries call time and randomness as static functions, without `self`. Those find the
//! node's [`Env`] here.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Env;

thread_local! {
    static CURRENT: RefCell<Option<Env>> = const { RefCell::new(None) };
}

pub(super) fn current() -> Option<Env> {
    CURRENT.with(|c| c.borrow().clone())
}

/// Puts the former environment back, also when the poll panics.
struct Restore(Option<Env>);

impl Restore {
    fn enter(env: Env) -> Self {
        Self(CURRENT.with(|c| c.borrow_mut().replace(env)))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.with(|c| *c.borrow_mut() = self.0.take());
    }
}

/// A future in which [`Env::current`] answers, also while it is dropped.
#[derive(Debug)]
pub struct Scoped<F> {
    env: Env,
    future: Option<Pin<Box<F>>>,
}

impl<F> Scoped<F> {
    pub(super) fn new(env: Env, future: F) -> Self {
        Self { env, future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _restore = Restore::enter(self.env.clone());
        let future = self.future.as_mut().expect("the future is taken only by drop");
        future.as_mut().poll(cx)
    }
}

impl<F> Drop for Scoped<F> {
    fn drop(&mut self) {
        let _restore = Restore::enter(self.env.clone());
        drop(self.future.take());
    }
}
