//! How long a client is waited for: one that is silent, and one that takes none of its replies.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::service::Limits;

/// What a client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A request: it waits for nothing itself.
    Request,
    /// That it takes replies.
    Taking,
    /// Nothing: it waits for us.
    Nothing,
}

/// The patience with one client. Its alarm is set rarely: what happens in the meantime only moves a
/// time, and an alarm that rings too early is set again.
#[derive(Debug)]
pub(crate) struct Patience {
    idle: Option<Duration>,
    stall: Duration,
    /// When something was last heard of it or done for it.
    active: Instant,
    /// Since when it has taken nothing, while there is something to take.
    untaken: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(crate) fn new(limits: &Limits) -> Self {
        let (idle, stall) = (limits.idle, limits.stall);
        Self { idle, stall, active: Instant::now(), untaken: None, alarm: None }
    }

    /// It has sent something, or was answered.
    pub(crate) fn heard(&mut self) {
        if self.idle.is_some() {
            self.active = Instant::now();
        }
    }

    /// It has taken something, and whether there is more to take.
    pub(crate) fn took(&mut self, rest: usize) {
        self.heard();
        self.untaken = (rest > 0).then(Instant::now);
    }

    /// There is something that it does not take.
    pub(crate) fn waits(&mut self) {
        self.untaken.get_or_insert_with(Instant::now);
    }

    /// Ready when it has been waited for long enough.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>, awaited: Awaited) -> Poll<Awaited> {
        let end = match awaited {
            Awaited::Request => self.idle.map(|idle| self.active + idle),
            Awaited::Taking => self.untaken.map(|since| since + self.stall),
            Awaited::Nothing => None,
        };
        let Some(end) = end else { return Poll::Pending };
        loop {
            if Instant::now() >= end {
                return Poll::Ready(awaited);
            }
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(end)));
            if alarm.deadline() > end || alarm.is_elapsed() {
                alarm.as_mut().reset(end);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::sleep;

    use super::*;

    const IDLE: Duration = Duration::from_millis(200);
    const STALL: Duration = Duration::from_millis(40);

    fn patience() -> Patience {
        let limits = Limits { idle: Some(IDLE), stall: STALL, ..Limits::default() };
        Patience::new(&limits)
    }

    async fn over(patience: &mut Patience, awaited: Awaited) {
        poll_fn(|cx| patience.poll_over(cx, awaited)).await;
    }

    #[tokio::test]
    async fn silence_is_counted_from_the_last_word() {
        let mut patience = patience();
        sleep(IDLE / 2).await;
        let begun = Instant::now();
        patience.heard();
        over(&mut patience, Awaited::Request).await;
        assert!(begun.elapsed() >= IDLE);
    }

    #[tokio::test]
    async fn an_alarm_that_was_set_for_later_rings_for_what_comes_earlier() {
        let limits =
            Limits { idle: Some(Duration::from_secs(3600)), stall: STALL, ..Limits::default() };
        let mut patience = Patience::new(&limits);
        let idle = poll_fn(|cx| Poll::Ready(patience.poll_over(cx, Awaited::Request))).await;
        assert!(idle.is_pending());
        patience.waits();
        // Or this test takes an hour.
        over(&mut patience, Awaited::Taking).await;
    }

    #[tokio::test]
    async fn a_client_that_takes_a_little_has_all_its_time_again() {
        let mut patience = patience();
        patience.waits();
        sleep(STALL / 2).await;
        let begun = Instant::now();
        patience.took(7);
        patience.waits();
        over(&mut patience, Awaited::Taking).await;
        assert!(begun.elapsed() >= STALL);
    }

    #[tokio::test]
    async fn a_client_that_waits_for_us_has_all_the_time_of_the_world() {
        let mut patience = patience();
        sleep(IDLE * 2).await;
        let over = poll_fn(|cx| Poll::Ready(patience.poll_over(cx, Awaited::Nothing))).await;
        assert!(over.is_pending());
    }
}
