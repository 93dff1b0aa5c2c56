//! The claims, one function each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either, join, join_all, select};
use tokio::sync::Barrier;

use super::super::{CallError, Class, Transport};
use super::handlers::{Answer, Echo, Held};
use super::{Limits, Network, NewNetwork};
use crate::ids::NodeId;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const NOBODY: NodeId = NodeId(3);

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(30);

const LIMITS: Limits = Limits { frame: 4096, calls: 64 };

/// A call that is under way.
type Called = BoxFuture<'static, Result<Bytes, CallError>>;

/// What a handler returns.
type Answered = BoxFuture<'static, Result<Bytes, String>>;

/// Runs every claim, each on a network of its own.
///
/// # Panics
/// When a claim does not hold.
pub async fn all(new: NewNetwork<'_>) {
    messages_are_served_in_the_order_of_their_calls_not_of_their_polls(&*new(LIMITS)).await;
    answers_find_their_calls_whatever_their_order(&*new(LIMITS)).await;
    handlers_of_one_connection_run_side_by_side(&*new(LIMITS)).await;
    a_handler_may_call_back(&*new(LIMITS)).await;
    control_passes_while_data_and_bulk_are_full(&*new(LIMITS)).await;
    overload_is_refused_and_ends_with_its_cause(&*new(LIMITS)).await;
    every_call_ends_by_its_deadline(&*new(LIMITS)).await;
    callers_are_refused_until_a_node_serves(&*new(LIMITS)).await;
    the_text_of_a_handlers_error_reaches_the_caller(&*new(LIMITS)).await;
    what_is_too_large_is_refused_and_nothing_of_it_sent(&*new(LIMITS)).await;
    an_unknown_peer_and_the_node_itself_are_unreachable(&*new(LIMITS)).await;
    a_forgotten_peer_is_unreachable_until_it_is_learned_again(&*new(LIMITS)).await;
    a_closed_node_neither_calls_nor_serves(&*new(LIMITS)).await;
}

/// Two nodes that know each other.
async fn pair(net: &dyn Network) -> (Arc<dyn Transport>, Arc<dyn Transport>) {
    let (a, b) = (net.bind(A).await, net.bind(B).await);
    a.learn(B, &net.address(B));
    b.learn(A, &net.address(A));
    (a, b)
}

async fn end(a: &dyn Transport, b: &dyn Transport) {
    join(a.close(), b.close()).await;
}

/// Waits until something holds.
async fn until(net: &dyn Network, what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            net.sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = std::pin::pin!(waited);
    if let Either::Right(_) = select(waited, net.sleep(LONG)).await {
        panic!("it never came to this: {what}");
    }
}

fn number(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

/// Also where casts stand between calls, and when the last future is polled first.
pub async fn messages_are_served_in_the_order_of_their_calls_not_of_their_polls(net: &dyn Network) {
    const MESSAGES: u64 = 48;
    let (a, b) = pair(net).await;
    let echo = Arc::new(Echo::default());
    b.serve(echo.clone());
    let classes = [Class::Control, Class::Data, Class::Bulk];
    let mut calls: Vec<Called> = Vec::new();
    for n in 0..MESSAGES {
        for class in classes {
            if n % 3 == 2 {
                a.cast(B, class, number(n)).unwrap();
            } else {
                calls.push(a.call(B, class, number(n), LONG));
            }
        }
    }
    calls.reverse();
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let all = MESSAGES as usize * classes.len();
    until(net, "every message is served", || echo.seen().len() >= all).await;
    for class in classes {
        let seen = echo.seen();
        let order: Vec<_> =
            seen.iter().filter(|(c, _)| *c == class).map(|(_, n)| n.clone()).collect();
        assert_eq!(order, (0..MESSAGES).map(number).collect::<Vec<_>>(), "{class:?}");
    }
    end(&*a, &*b).await;
}

/// The first call is answered last.
pub async fn answers_find_their_calls_whatever_their_order(net: &dyn Network) {
    let (a, b) = pair(net).await;
    let turns = Arc::new(tokio::sync::watch::channel(20_u64).0);
    b.serve(Arc::new(Answer({
        let turns = turns.clone();
        move |_, body: Bytes| -> Answered {
            let turns = turns.clone();
            Box::pin(async move {
                let n = u64::from_be_bytes(*body.first_chunk().unwrap());
                let mut turn = turns.subscribe();
                let _ = turn.wait_for(|turn| *turn == n + 1).await;
                turns.send_replace(n);
                Ok(body)
            })
        }
    })));
    let calls = (0..20).map(|n| a.call(B, Class::Data, number(n), LONG));
    let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, (0..20).map(number).collect::<Vec<_>>());
    end(&*a, &*b).await;
}

/// None of them ends before all have begun.
pub async fn handlers_of_one_connection_run_side_by_side(net: &dyn Network) {
    const TOGETHER: usize = 30;
    let (a, b) = pair(net).await;
    let barrier = Arc::new(Barrier::new(TOGETHER));
    b.serve(Arc::new(Answer(move |_, body| -> Answered {
        let barrier = barrier.clone();
        Box::pin(async move {
            barrier.wait().await;
            Ok(body)
        })
    })));
    let calls = (0..TOGETHER as u64).map(|n| a.call(B, Class::Data, number(n), LONG));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    end(&*a, &*b).await;
}

/// Its caller, on the same class, and gets an answer before it gives its own.
pub async fn a_handler_may_call_back(net: &dyn Network) {
    let (a, b) = pair(net).await;
    let echo = Arc::new(Echo::default());
    a.serve(echo.clone());
    let back = Arc::downgrade(&b);
    b.serve(Arc::new(Answer(move |from, body| -> Answered {
        let b = back.upgrade().unwrap();
        let asked = b.call(from, Class::Data, body, LONG);
        Box::pin(async move { asked.await.map_err(|e| e.to_string()) })
    })));
    let answer = a.call(B, Class::Data, Bytes::from_static(b"and you?"), LONG).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"and you?")));
    assert_eq!(echo.seen().len(), 1);
    end(&*a, &*b).await;
}

/// Fills a class until it is overloaded. Returns the calls that were taken.
fn fill(a: &dyn Transport, class: Class) -> Vec<Called> {
    let mut taken = Vec::new();
    loop {
        assert!(taken.len() <= LIMITS.calls, "more calls are open than the limit allows");
        let mut call = a.call(B, class, vec![7; LIMITS.frame].into(), LONG);
        match futures::FutureExt::now_or_never(&mut call) {
            None => taken.push(call),
            Some(Err(CallError::Overloaded(peer))) => {
                assert_eq!(peer, B);
                return taken;
            }
            Some(other) => panic!("neither taken nor overloaded: {other:?}"),
        }
    }
}

/// Neither the queue nor busy handlers of the other classes hold a heartbeat up.
pub async fn control_passes_while_data_and_bulk_are_full(net: &dyn Network) {
    let (a, b) = pair(net).await;
    let held = Held::new();
    b.serve(held.clone());
    let mut stuck = fill(&*a, Class::Bulk);
    stuck.extend(fill(&*a, Class::Data));
    for n in 0..10 {
        let answer = a.call(B, Class::Control, number(n), LONG).await;
        assert_eq!(answer, Ok(number(n)));
    }
    held.release();
    for answer in join_all(stuck).await {
        answer.unwrap();
    }
    end(&*a, &*b).await;
}

/// A peer that answers nothing costs a bounded number of open calls, and what was refused was
/// never sent.
pub async fn overload_is_refused_and_ends_with_its_cause(net: &dyn Network) {
    let (a, b) = pair(net).await;
    let held = Held::new();
    b.serve(held.clone());
    let stuck = fill(&*a, Class::Data);
    let refused = a.call(B, Class::Data, number(1), LONG).await.unwrap_err();
    assert!(matches!(refused, CallError::Overloaded(_)) && refused.never_sent());
    let taken = stuck.len();
    assert!(taken >= LIMITS.calls / 2, "{taken} calls are too few to call it overload");
    held.release();
    for answer in join_all(stuck).await {
        answer.unwrap();
    }
    assert!(held.most() <= taken);
    assert_eq!(a.call(B, Class::Data, number(2), LONG).await, Ok(number(2)));
    end(&*a, &*b).await;
}

/// When the handler never answers, when nobody listens, and when nobody polls in time.
pub async fn every_call_ends_by_its_deadline(net: &dyn Network) {
    let (a, b) = pair(net).await;
    let held = Held::new();
    b.serve(held.clone());
    a.learn(NOBODY, &net.address(NOBODY));
    let deadline = Duration::from_millis(300);
    for (to, class) in [(B, Class::Data), (NOBODY, Class::Data), (NOBODY, Class::Control)] {
        let call = a.call(to, class, number(1), deadline);
        let late = net.sleep(deadline + net.slack());
        let Either::Left((ended, _)) = select(call, late).await else {
            panic!("a call to {to:?} is still open long after its deadline");
        };
        let ended = ended.unwrap_err();
        assert!(
            matches!(ended, CallError::TimedOut(peer) if peer == to)
                || matches!(ended, CallError::Unreachable(NOBODY, _)),
            "{ended:?}"
        );
    }
    // A deadline counts from the call, so this one has long passed when it is looked at first.
    let call = a.call(B, Class::Data, number(2), deadline);
    net.sleep(deadline * 2).await;
    let late = net.sleep(deadline / 2);
    let Either::Left((ended, _)) = select(call, late).await else {
        panic!("the deadline counts from the first poll, not from the call");
    };
    assert_eq!(ended, Err(CallError::TimedOut(B)));
    held.release();
    end(&*a, &*b).await;
}

/// They learn so at once, and that it was not served.
pub async fn callers_are_refused_until_a_node_serves(net: &dyn Network) {
    let (a, b) = pair(net).await;
    let early = a.call(B, Class::Data, number(1), LONG).await.unwrap_err();
    assert!(matches!(early, CallError::Refused(B, _)), "{early:?}");
    let echo = Arc::new(Echo::default());
    b.serve(echo.clone());
    assert_eq!(a.call(B, Class::Data, number(2), LONG).await, Ok(number(2)));
    assert_eq!(echo.seen().len(), 1);
    end(&*a, &*b).await;
}

/// And harms no other call.
pub async fn the_text_of_a_handlers_error_reaches_the_caller(net: &dyn Network) {
    let (a, b) = pair(net).await;
    b.serve(Arc::new(Answer(|from, body: Bytes| -> Answered {
        Box::pin(async move {
            if body.is_empty() { Err(format!("node {from} sent nothing")) } else { Ok(body) }
        })
    })));
    let refused = a.call(B, Class::Data, Bytes::new(), LONG);
    let served = a.call(B, Class::Data, number(1), LONG);
    let (refused, served) = join(refused, served).await;
    assert_eq!(refused, Err(CallError::Refused(B, "node 1 sent nothing".to_owned())));
    assert_eq!(served, Ok(number(1)));
    end(&*a, &*b).await;
}

/// A body at the limit passes, both ways; one byte more does not, in either.
pub async fn what_is_too_large_is_refused_and_nothing_of_it_sent(net: &dyn Network) {
    let (a, b) = pair(net).await;
    let echo = Arc::new(Echo::default());
    b.serve(echo.clone());
    let largest = Bytes::from(vec![1; LIMITS.frame]);
    let larger = Bytes::from(vec![2; LIMITS.frame + 1]);
    // The other end's limit is known from the first exchange on.
    assert_eq!(a.call(B, Class::Bulk, largest.clone(), LONG).await, Ok(largest));
    let refused = CallError::TooLarge { size: LIMITS.frame + 1, limit: LIMITS.frame };
    assert!(refused.never_sent());
    assert_eq!(a.call(B, Class::Bulk, larger.clone(), LONG).await, Err(refused.clone()));
    assert_eq!(a.cast(B, Class::Bulk, larger), Err(refused));
    assert_eq!(a.call(B, Class::Bulk, number(1), LONG).await, Ok(number(1)));
    assert_eq!(echo.seen().len(), 2);
    b.serve(Arc::new(Answer(|_, _| -> Answered {
        Box::pin(async { Ok(vec![3; LIMITS.frame + 1].into()) })
    })));
    let refused = a.call(B, Class::Bulk, number(2), LONG).await.unwrap_err();
    assert!(matches!(refused, CallError::Refused(B, _)), "{refused:?}");
    end(&*a, &*b).await;
}

/// Whether by call or by cast, and at once.
pub async fn an_unknown_peer_and_the_node_itself_are_unreachable(net: &dyn Network) {
    let (a, b) = pair(net).await;
    for nobody in [NOBODY, A] {
        let refused = a.call(nobody, Class::Data, number(1), LONG).await.unwrap_err();
        assert!(matches!(refused, CallError::Unreachable(..)) && refused.never_sent());
        let refused = a.cast(nobody, Class::Data, number(1)).unwrap_err();
        assert!(matches!(refused, CallError::Unreachable(..)));
    }
    end(&*a, &*b).await;
}

/// Open calls to it do not wait for their deadlines.
pub async fn a_forgotten_peer_is_unreachable_until_it_is_learned_again(net: &dyn Network) {
    let (a, b) = pair(net).await;
    let held = Held::new();
    b.serve(held.clone());
    let open = a.call(B, Class::Data, number(1), LONG * 2);
    until(net, "the call is being served", || held.most() == 1).await;
    a.forget(B);
    let Either::Left((ended, _)) = select(open, net.sleep(LONG)).await else {
        panic!("a call to a forgotten peer stays open");
    };
    ended.unwrap_err();
    let refused = a.call(B, Class::Data, number(2), LONG).await.unwrap_err();
    assert!(matches!(refused, CallError::Unreachable(B, _)), "{refused:?}");
    held.release();
    a.learn(B, &net.address(B));
    assert_eq!(a.call(B, Class::Data, number(3), LONG).await, Ok(number(3)));
    end(&*a, &*b).await;
}

/// Every call to it or from it ends, and its handler is not called again.
pub async fn a_closed_node_neither_calls_nor_serves(net: &dyn Network) {
    let (a, b) = pair(net).await;
    let served = Arc::new(AtomicUsize::new(0));
    let counted = served.clone();
    b.serve(Arc::new(Answer(move |_, body| -> Answered {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(body) })
    })));
    a.call(B, Class::Data, number(1), LONG).await.unwrap();
    b.close().await;
    let before = served.load(Ordering::SeqCst);
    assert_eq!(b.call(A, Class::Data, number(2), LONG).await, Err(CallError::Closed));
    assert_eq!(b.cast(A, Class::Data, number(2)), Err(CallError::Closed));
    for n in 0..3 {
        let refused = a.call(B, Class::Data, number(n), Duration::from_millis(500)).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(
                refused,
                CallError::Unreachable(..) | CallError::Broken(_) | CallError::TimedOut(_)
            ),
            "{refused:?}"
        );
    }
    assert_eq!(served.load(Ordering::SeqCst), before);
    a.close().await;
    assert_eq!(a.call(B, Class::Data, number(9), LONG).await, Err(CallError::Closed));
}
