//! The detector against simulated links: tables of deaths, pauses, losses and slow peers.

use std::time::Duration;

use common::env::{Mono, Rng, SplitMix64};
use common::ids::NodeId;

use super::{Action, Detector, DetectorConfig, Evidence, Standing};

const STEP: Duration = Duration::from_millis(50);
const PEERS: [NodeId; 4] = [NodeId(2), NodeId(3), NodeId(4), NodeId(5)];

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One node's links, driven by a seed.
struct World {
    detector: Detector,
    rng: SplitMix64,
    now: Mono,
    /// Lost calls of each peer, in percent, and what others lose on the way to it.
    loss: u64,
    dead: Option<NodeId>,
    latency: [Duration; 4],
    /// Answers under way: when, from whom, begun.
    answers: Vec<(Mono, NodeId, Evidence)>,
    changes: Vec<(Mono, NodeId, Standing)>,
    busy: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Mono(ms(10_000));
        let mut detector = Detector::new(DetectorConfig::default());
        detector.watch(&PEERS, now);
        Self {
            detector,
            rng: SplitMix64::new(seed),
            now,
            loss: 0,
            dead: None,
            latency: [ms(1); 4],
            answers: Vec::new(),
            changes: Vec::new(),
            busy: false,
        }
    }

    fn lost(&self, peer: NodeId) -> bool {
        self.dead == Some(peer) || self.rng.below(100) < self.loss
    }

    fn call(&mut self, peer: NodeId) {
        let began = self.now;
        let slot = PEERS.iter().position(|p| *p == peer).unwrap();
        let answer = if self.lost(peer) {
            (began + ms(1_000), peer, Evidence::Failed { began })
        } else {
            let jitter = Duration::from_micros(self.rng.below(500));
            (began + self.latency[slot] + jitter, peer, Evidence::Answered { began })
        };
        self.answers.push(answer);
    }

    fn run(&mut self, length: Duration) {
        let end = self.now + length;
        while self.now < end {
            self.now += STEP;
            let now = self.now;
            let (mut due, later): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.answers).into_iter().partition(|(at, ..)| *at <= now);
            self.answers = later;
            due.sort_by_key(|(at, ..)| *at);
            for (at, peer, evidence) in due {
                self.detector.observe(peer, evidence, at);
            }
            if self.busy {
                for peer in PEERS {
                    self.call(peer);
                }
            }
            for action in self.detector.step(now) {
                match action {
                    Action::Probe(peer) => self.call(peer),
                    Action::AskOthers { peer, via } => {
                        assert!(!via.is_empty() && via.len() <= 3 && !via.contains(&peer));
                        for _ in via {
                            let missed = self.lost(peer);
                            let (after, told) = if missed {
                                (ms(200), Evidence::MissedByOther)
                            } else {
                                (ms(3), Evidence::ReachedByOther)
                            };
                            self.answers.push((now + after, peer, told));
                        }
                    }
                    Action::Changed(peer, standing) => self.changes.push((now, peer, standing)),
                }
            }
        }
    }

    fn first_down(&self) -> Option<Mono> {
        self.changes.iter().find(|(_, _, s)| *s == Standing::Down).map(|(at, ..)| *at)
    }
}

#[test]
fn a_dead_peer_is_suspect_in_half_a_second_and_down_in_one_in_the_median() {
    for busy in [false, true] {
        let mut times: Vec<(Duration, Duration)> = (0..101)
            .map(|seed| {
                let mut world = World::new(seed);
                world.busy = busy;
                world.run(ms(10_000 + world.rng.below(1_000)));
                assert_eq!(world.changes, [], "all are alive");
                let (died, dead) = (world.now, PEERS[seed as usize % 4]);
                world.dead = Some(dead);
                world.run(ms(3_000));
                let suspect = world.changes[0];
                assert_eq!((suspect.1, suspect.2), (dead, Standing::Suspect));
                assert!(world.changes.iter().all(|(_, peer, _)| *peer == dead));
                (suspect.0.since(died), world.first_down().unwrap().since(died))
            })
            .collect();
        times.sort_unstable();
        assert!(times[50].0 <= ms(500), "suspect after {:?}", times[50].0);
        times.sort_unstable_by_key(|(_, down)| *down);
        assert!(times[50].1 <= ms(1_000), "down after {:?}", times[50].1);
        assert!(times[99].1 <= ms(1_500), "down after {:?}", times[99].1);
    }
}

#[test]
fn a_slow_peer_is_asked_last_and_comes_back() {
    let mut world = World::new(1);
    world.busy = true;
    world.run(ms(2_000));
    world.latency[1] = ms(60);
    world.run(ms(2_000));
    assert_eq!(world.detector.standing(PEERS[1]), Standing::Slow);
    let mut order = PEERS;
    world.detector.rank(&mut order);
    assert_eq!(order[3], PEERS[1]);
    world.latency[1] = ms(1);
    world.run(ms(5_000));
    assert_eq!(world.detector.standing(PEERS[1]), Standing::Alive);
}

#[test]
fn a_failed_call_that_began_before_a_later_answer_says_nothing() {
    let mut detector = Detector::new(DetectorConfig::default());
    let at = |millis: u64| Mono(ms(1_000 + millis));
    detector.watch(&PEERS, at(0));
    detector.observe(PEERS[0], Evidence::Answered { began: at(5) }, at(10));
    detector.observe(PEERS[0], Evidence::Failed { began: at(1) }, at(20));
    assert_eq!(detector.step(at(30)), []);
    assert_eq!(detector.standing(PEERS[0]), Standing::Alive);
    detector.observe(PEERS[0], Evidence::Failed { began: at(21) }, at(40));
    assert!(detector.step(at(50)).contains(&Action::Changed(PEERS[0], Standing::Suspect)));
}

#[test]
fn a_node_that_was_paused_itself_accuses_nobody() {
    let mut world = World::new(3);
    world.run(ms(5_000));
    // Ten seconds without a step: the answers under way are late as well.
    world.now += ms(10_000);
    world.run(ms(1_000));
    assert!(world.changes.iter().all(|(_, _, s)| *s < Standing::Down), "{:?}", world.changes);
}

#[test]
fn a_dead_peer_that_answers_again_is_alive_at_once() {
    let mut world = World::new(4);
    world.run(ms(5_000));
    world.dead = Some(PEERS[0]);
    world.run(ms(60_000));
    assert_eq!(world.detector.standing(PEERS[0]), Standing::Down);
    world.dead = None;
    world.run(ms(1_000));
    assert_eq!(world.detector.standing(PEERS[0]), Standing::Alive);
}

#[test]
fn a_tenth_of_the_messages_lost_for_a_day_makes_nobody_down() {
    let mut world = World::new(5);
    world.loss = 10;
    world.run(Duration::from_secs(24 * 3_600));
    assert_eq!(world.first_down(), None);
}

#[test]
fn one_cut_link_is_suspect_and_not_down_while_others_reach_the_peer() {
    let mut detector = Detector::new(DetectorConfig::default());
    let mut now = Mono(ms(1_000));
    detector.watch(&PEERS, now);
    for _ in 0..400 {
        now += STEP;
        for peer in &PEERS[1..] {
            detector.observe(*peer, Evidence::Answered { began: now }, now);
        }
        for action in detector.step(now) {
            if let Action::AskOthers { peer, .. } = action {
                detector.observe(peer, Evidence::ReachedByOther, now);
            }
        }
        assert_ne!(detector.standing(PEERS[0]), Standing::Down);
    }
    assert_eq!(detector.standing(PEERS[0]), Standing::Suspect);
}
