use std::sync::Mutex;

use common::env::SplitMix64;
use common::env::simulated::{SimHost, SimWorldClock, Trace};
use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
use common::transport::simulated::{SimNetwork, SimNetworkConfig};

use super::*;

const NODE: NodeId = NodeId(1);
const CLIENT: ClientId = ClientId(7);

/// A leader that answers by a script, the first attempt after a while. It notes each attempt: the
/// number of its first command, and the bytes of all.
struct Scripted<F> {
    env: Env,
    leader: watch::Sender<Option<NodeId>>,
    attempts: Mutex<Vec<(u64, usize)>>,
    script: F,
}

const WHILE: Duration = Duration::from_millis(100);

impl<F> fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl<F: Fn(usize, u64) -> Attempt + Send + Sync> Route for Scripted<F> {
    fn leader(&self) -> watch::Receiver<Option<NodeId>> {
        self.leader.subscribe()
    }

    fn send(&self, _: NodeId, what: Forward, _: Duration) -> BoxFuture<'static, Attempt> {
        let answer = match what {
            Forward::Commands { commands, .. } => {
                let mut attempts = self.attempts.lock().unwrap();
                attempts.push((commands.first, commands.list.iter().map(Bytes::len).sum()));
                let answer = (self.script)(attempts.len(), commands.first);
                let (env, first) = (self.env.clone(), attempts.len() == 1);
                return Box::pin(async move {
                    if first {
                        env.sleep(WHILE).await;
                    }
                    answer
                });
            }
            _ => Attempt::Answered(EntryReply::Opened(CLIENT)),
        };
        Box::pin(async move { answer })
    }
}

fn done(sequence: u64) -> Attempt {
    let at = LogPos { term: 1, index: sequence };
    let reply = Bytes::from_static(b"done");
    let done = CommandReply::Done { at, sub: 0, stamp: Hlc::ZERO, reply };
    Attempt::Answered(EntryReply::Commands(vec![done]))
}

fn env() -> (SimHost, Env) {
    let (world, rng, trace) = (SimWorldClock::new(), SplitMix64::new(1), Trace::default());
    let net = SimNetwork::new(&world, &rng, trace.clone(), SimNetworkConfig::default());
    let disk = SimDisk::new(NODE, &world, &rng, trace.clone(), SimDiskConfig::instant());
    let host = SimHost::new(NODE, &world, &rng, trace);
    let env = host.boot(|life| (net.attach(NODE, life), disk.mount(life)));
    (host, env)
}

fn route<F>(env: &Env, script: F) -> Arc<Scripted<F>> {
    let leader = watch::Sender::new(Some(NODE));
    Arc::new(Scripted { env: env.clone(), leader, attempts: Mutex::default(), script })
}

fn command(timeout: Duration) -> Submission {
    Submission { command: Bytes::from_static(b"command"), shrinks: false, early: None, timeout }
}

/// The answer to the first command comes late and is lost; by then those to many behind it are known.
/// What is sent again reaches only some of these before the first is answered.
#[tokio::test(start_paused = true)]
async fn a_command_sent_again_may_be_followed_by_more_that_are_answered_than_are_sent() {
    let (_host, env) = env();
    let script = |attempt, first| if attempt == 1 { Attempt::Unknown(None) } else { done(first) };
    let route = route(&env, script);
    let mut config = Config::new(NODE, "test");
    config.batch_commands = 1;
    let (_early, acknowledged) = mpsc::unbounded_channel();
    let writer = Writer::start(&env, &config, route, acknowledged);
    let count = FLIGHTS as u64 * 3;
    let submit = || writer.submit(command(Duration::from_secs(5))).unwrap();
    let waiting: Vec<_> = (0..count).map(|_| submit()).collect();
    for (sequence, answer) in (1..).zip(waiting) {
        assert_eq!(answer.await.unwrap().unwrap().at.index, sequence);
    }
    assert_eq!(submit().await.unwrap().unwrap().at.index, count + 1);
}

/// Its caller was told that its fate is unknown. What is sent again has its number and nothing else.
#[tokio::test(start_paused = true)]
async fn a_command_whose_caller_was_told_is_sent_again_empty() {
    let (_host, env) = env();
    let script = |attempt, first| if attempt == 1 { Attempt::Unknown(None) } else { done(first) };
    let route = route(&env, script);
    let (_early, acknowledged) = mpsc::unbounded_channel();
    let writer = Writer::start(&env, &Config::new(NODE, "test"), route.clone(), acknowledged);
    let told = writer.submit(command(WHILE / 2)).unwrap().await.unwrap();
    assert_eq!(told, Err(WriteError::Unknown { at: None }));
    env.sleep(WHILE).await;
    let next = writer.submit(command(Duration::from_secs(5))).unwrap().await.unwrap();
    assert_eq!(next.unwrap().client, (CLIENT, 2));
    let attempts = route.attempts.lock().unwrap().clone();
    assert_eq!(attempts[0], (1, b"command".len()));
    assert!(attempts[1..].contains(&(1, 0)), "{attempts:?}");
}
