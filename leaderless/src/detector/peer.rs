//! What one node knows of one peer.

use std::time::Duration;

use common::env::Mono;

use super::{DetectorConfig, Evidence, Standing};

/// How much a new sample changes a mean: the last twenty or so decide.
const WEIGHT: f64 = 0.1;

#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) standing: Standing,
    last_answer: Mono,
    /// Mean and variance of the silences between answers, in seconds.
    silence: f64,
    variance: f64,
    /// Mean of the times of answers, in seconds.
    latency: Option<f64>,
    /// A call that began after the last answer has failed.
    failed: bool,
    last_probe: Mono,
    asked: Option<Asked>,
}

/// Others were asked about a silent peer.
#[derive(Clone, Debug)]
struct Asked {
    at: Mono,
    open: usize,
}

impl Peer {
    pub(super) fn new(now: Mono) -> Self {
        Self {
            standing: Standing::Alive,
            last_answer: now,
            silence: 0.0,
            variance: 0.0,
            latency: None,
            failed: false,
            last_probe: now,
            asked: None,
        }
    }

    pub(super) fn observe(&mut self, evidence: Evidence, now: Mono, config: &DetectorConfig) {
        match evidence {
            Evidence::Answered { began } => {
                let silence = now.since(self.last_answer).as_secs_f64();
                // The end of an absence says nothing of the usual silences.
                if self.standing == Standing::Down {
                    self.latency = None;
                } else {
                    let away = silence - self.silence;
                    self.silence += WEIGHT * away;
                    self.variance = (1.0 - WEIGHT) * (self.variance + WEIGHT * away * away);
                }
                let took = now.since(began).as_secs_f64();
                let mean = self.latency.unwrap_or(took);
                self.latency = Some(mean + WEIGHT * (took - mean));
                self.heard(now);
            }
            // It began before a later answer, so it says nothing of the peer after it.
            Evidence::Failed { began } if began < self.last_answer => {}
            Evidence::Failed { began } => {
                self.failed = true;
                // A call that waited long and in vain is slowness as well.
                let took = now.since(began).as_secs_f64();
                if let Some(mean) = self.latency
                    && self.standing != Standing::Down
                    && took > mean
                {
                    self.latency = Some(mean + WEIGHT * (took - mean));
                }
            }
            Evidence::ReachedByOther => {
                // It lives and this node's link to it does not: the silence begins anew.
                self.last_answer = self.last_answer.max(now - config.probe_every);
                self.asked = None;
                self.failed = true;
            }
            Evidence::MissedByOther => {
                if let Some(asked) = &mut self.asked {
                    asked.open = asked.open.saturating_sub(1);
                }
            }
        }
    }

    fn heard(&mut self, now: Mono) {
        self.last_answer = self.last_answer.max(now);
        self.failed = false;
        self.asked = None;
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency.map(Duration::from_secs_f64)
    }

    /// Silence is expected for as long as the link is not probed, whatever traffic there was.
    pub(super) fn phi(&self, now: Mono, config: &DetectorConfig) -> f64 {
        let silence = now.since(self.last_answer).as_secs_f64();
        let mean = self.silence.max(config.probe_every.as_secs_f64());
        let deviation = self.variance.sqrt().max(config.least_deviation.as_secs_f64());
        let y = (silence - mean) / deviation;
        // The tail of the normal distribution by the logistic function (Bowling et al. 2009), in
        // logarithms, so that a long silence does not become an infinity.
        let exponent = y * (1.5976 + 0.070_566 * y * y);
        if exponent > 30.0 {
            exponent * std::f64::consts::LOG10_E
        } else {
            (1.0 + exponent.exp()).log10()
        }
    }

    pub(super) fn probe_due(&mut self, now: Mono, config: &DetectorConfig) -> bool {
        let quiet = self.last_answer.max(self.last_probe);
        let due = now.since(quiet) >= config.probe_every / 2;
        if due {
            self.last_probe = now;
        }
        due
    }

    pub(super) fn asked(&self) -> bool {
        self.asked.is_some()
    }

    pub(super) fn ask(&mut self, now: Mono, open: usize) {
        self.asked = Some(Asked { at: now, open });
    }

    /// This node was away itself for a while.
    pub(super) fn forgive(&mut self, late: Duration, now: Mono) {
        self.last_answer = (self.last_answer + late).min(now);
        if let Some(asked) = &mut self.asked {
            asked.at = (asked.at + late).min(now);
        }
    }

    pub(super) fn judge(
        &self,
        now: Mono,
        phi: f64,
        suspect: f64,
        median: Option<Duration>,
        config: &DetectorConfig,
    ) -> Standing {
        let missed = self
            .asked
            .as_ref()
            .is_some_and(|asked| asked.open == 0 || now.since(asked.at) >= config.indirect_within);
        if missed || self.standing == Standing::Down && self.asked.is_some() {
            return Standing::Down;
        }
        if phi > suspect || self.failed {
            return Standing::Suspect;
        }
        match (self.latency(), median) {
            (Some(own), Some(median))
                if own > median * config.slow_factor && own > median + config.slow_margin =>
            {
                Standing::Slow
            }
            _ => Standing::Alive,
        }
    }
}
