//! The one task that writes: it takes what has queued up, writes and syncs it as one group, and
//! tells those who wait. Meanwhile the next group queues up.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{FRAME_HEADER, Finished, Group, SEGMENT_HEADER, SegmentHeader, frame_size};
use super::segment::make_segment;
use super::state::{Durable, Pending, Phase, Shared, Spare};
use super::{Lsn, Right, WalError};
use crate::env::Task;
use crate::storage::disk::{DiskError, File};

/// The segment that is written.
pub(super) struct Active {
    pub(super) file: Arc<dyn File>,
    pub(super) header: SegmentHeader,
    pub(super) offset: u64,
    pub(super) chain: u32,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    active: Active,
    /// Taken from the queue, not written yet.
    backlog: VecDeque<Pending>,
    /// The record that is written next, void ones included.
    next: Lsn,
    /// Records before the backlog that were refused after they had got their numbers. The next
    /// group begins by saying so.
    void: u32,
    /// Nothing was written since the last seal.
    sealed: bool,
}

impl Active {
    /// Bytes that are not written yet.
    pub(super) const fn room(&self) -> u64 {
        self.header.bytes - self.offset
    }
}

/// What the writer does next.
enum Step {
    Write(Box<Filled>),
    /// A new segment is needed, for so many bytes of records.
    Roll(u64, Right),
    /// Only answers are due.
    Answer(Vec<Answer>),
}

struct Filled {
    group: Group,
    records: u64,
    /// What was added to the state's `queued` for them.
    estimate: u64,
    answers: Vec<Answer>,
}

/// What an append will be told.
struct Answer {
    durable: Durable,
    last: Lsn,
    /// Whether it has records: without, it only waits for those before.
    records: bool,
    refusal: Option<WalError>,
}

impl Answer {
    fn give(self) {
        (self.durable)(self.refusal.map_or(Ok(self.last), Err));
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, active: Active, next: Lsn, sealed: bool) -> Self {
        Self { shared, active, backlog: VecDeque::new(), next, void: 0, sealed }
    }

    /// Works until the log is closed. Then `keeper` ends, too.
    pub(super) async fn run(mut self, keeper: Task<()>) {
        while self.wait().await {
            if let Some(reason) = self.poisoned() {
                self.refuse_all(&WalError::Poisoned(reason));
                continue;
            }
            match self.fill() {
                Step::Write(filled) => self.write(*filled).await,
                Step::Roll(bytes, right) => self.roll(bytes, right).await,
                Step::Answer(answers) => answers.into_iter().for_each(Answer::give),
            }
            self.note_oldest();
        }
        self.seal().await;
        self.shared.state().phase = Phase::Written;
        self.shared.chores.notify_one();
        // It may have ended before, by a panic or a poisoned log.
        let _ = keeper.await;
        self.shared.state().phase = Phase::Ended;
        self.shared.ended.notify_waiters();
    }

    /// Waits for something to do; false at the end.
    async fn wait(&mut self) -> bool {
        loop {
            {
                let mut state = self.shared.state();
                self.backlog.append(&mut state.queue);
                if !self.backlog.is_empty() {
                    return true;
                }
                if state.phase != Phase::Open {
                    return false;
                }
            }
            self.shared.work.notified().await;
        }
    }

    fn poisoned(&self) -> Option<String> {
        self.shared.state().poisoned.clone()
    }

    fn note_oldest(&self) {
        self.shared.state().oldest_taken = self.backlog.front().map(|pending| pending.at);
    }

    fn refuse_all(&mut self, why: &WalError) {
        for pending in std::mem::take(&mut self.backlog) {
            (pending.durable)(Err(pending.refusal.unwrap_or_else(|| why.clone())));
        }
        self.note_oldest();
    }

    /// Takes from the backlog what goes into one group: up to the limit, and up to the end of the
    /// segment.
    fn fill(&mut self) -> Step {
        let limit = self.shared.config.group_bytes as u64;
        let (durable, reserved) = {
            let mut state = self.shared.state();
            state.oldest_taken = self.backlog.front().map(|pending| pending.at);
            (state.durable, state.is_reserved())
        };
        let Active { header, offset, chain, .. } = self.active;
        let mut group = Group::new(header, offset, chain, self.next, durable);
        if self.void > 0 {
            group.push_void(self.void);
        }
        let (mut answers, mut records, mut estimate) = (Vec::new(), 0, 0);
        'backlog: while let Some(pending) = self.backlog.front_mut() {
            let kept_back = reserved && pending.right == Right::Ordinary;
            while let Some(record) = pending.records.front() {
                if kept_back && records > 0 {
                    break 'backlog;
                }
                if kept_back {
                    answers.extend(self.refuse_front());
                    return Step::Answer(answers);
                }
                let longer = group.len_with(record.len()) as u64;
                if offset + longer > header.bytes {
                    if records > 0 {
                        break 'backlog;
                    }
                    if answers.is_empty() {
                        return Step::Roll(frame_size(record.len()) as u64, pending.right);
                    }
                    return Step::Answer(answers);
                }
                if longer > limit && records > 0 {
                    break 'backlog;
                }
                group.push(record);
                records += 1;
                estimate += frame_size(record.len()) as u64;
                pending.records.pop_front();
                pending.split = true;
            }
            if let Some(pending) = self.backlog.pop_front() {
                let Pending { durable, refusal, last, split, .. } = pending;
                answers.push(Answer { durable, last, records: split, refusal });
            }
        }
        if records == 0 {
            return Step::Answer(answers);
        }
        Step::Write(Box::new(Filled { group, records, estimate, answers }))
    }

    async fn write(&mut self, filled: Filled) {
        let Filled { group, records, estimate, mut answers } = filled;
        if records > 8 {
            crate::sometimes!("group-over-8");
        }
        let Finished { bytes, chain, next, frames } = group.finish();
        if crate::mutate!("ack_before_sync", false, true) {
            answers.drain(..).for_each(Answer::give);
        }
        let done = self.write_and_sync(bytes.clone()).await;
        self.shared.state().queued -= estimate;
        let failed = match done {
            Ok(()) => {
                self.written(bytes.len(), chain, next, records, &frames);
                None
            }
            // Nothing of the group counts: the next one overwrites what is there of it.
            Err(DiskError::Full { .. }) => {
                self.shared.state().full = true;
                self.shared.chores.notify_one();
                self.void = 0;
                self.refuse((next.0 - self.next.0) as u32);
                Some(WalError::Full)
            }
            Err(e) => {
                self.shared.poison(&e);
                Some(WalError::Poisoned(e.to_string()))
            }
        };
        for mut answer in answers {
            if answer.records || failed != Some(WalError::Full) {
                answer.refusal = answer.refusal.or_else(|| failed.clone());
            }
            answer.give();
        }
        // The rest of an append whose first records were refused.
        if failed.is_some() && self.backlog.front().is_some_and(|pending| pending.split) {
            self.refuse_front().into_iter().for_each(Answer::give);
        }
    }

    fn written(
        &mut self,
        bytes: usize,
        chain: u32,
        next: Lsn,
        records: u64,
        frames: &[(Lsn, u64)],
    ) {
        self.active.offset += bytes as u64;
        self.active.chain = chain;
        self.next = next;
        self.void = 0;
        self.sealed = false;
        let durable = Lsn(next.0 - 1);
        let mut state = self.shared.state();
        state.durable = durable;
        state.records += records;
        state.room = self.active.room();
        state.recent.trim(durable);
        if let Some(segment) = state.segments.back_mut() {
            for (first, offset) in frames {
                segment.mark(*first, *offset);
            }
            segment.end = self.active.offset;
        }
    }

    /// One write and one sync at the end of the segment, measured.
    async fn write_and_sync(&mut self, bytes: Bytes) -> Result<(), DiskError> {
        let Active { file, offset, .. } = &self.active;
        let begun = self.shared.env.now();
        let mut done = file.write_and_sync(*offset, bytes).await;
        if crate::mutate!("failed_sync_retried", false, done.is_err()) {
            done = file.sync().await;
        }
        let took = self.shared.env.now().since(begun);
        self.shared.state().note_sync(took);
        done
    }

    /// Makes the next `count` records void.
    fn refuse(&mut self, count: u32) {
        let first = Lsn(self.next.0 + u64::from(self.void));
        self.shared.state().recent.void(first, count);
        self.void += count;
    }

    /// Takes the append in front out of the backlog: the disk is full.
    fn refuse_front(&mut self) -> Option<Answer> {
        let pending = self.backlog.pop_front()?;
        let size: u64 = pending.records.iter().map(|record| frame_size(record.len()) as u64).sum();
        self.shared.state().queued -= size;
        self.refuse(pending.records.len() as u32);
        let Pending { durable, last, .. } = pending;
        Some(Answer { durable, last, records: true, refusal: Some(WalError::Full) })
    }

    /// Goes on in a new segment, with room for so many bytes of records.
    async fn roll(&mut self, bytes: u64, right: Right) {
        let bytes = bytes + (SEGMENT_HEADER + FRAME_HEADER) as u64;
        match self.next_segment(bytes, right).await {
            Ok(true) => {}
            Ok(false) | Err(DiskError::Full { .. }) => {
                self.refuse_front().into_iter().for_each(Answer::give);
            }
            Err(e) => self.shared.poison(&e),
        }
    }

    /// False when there is no spare that these records may use.
    async fn next_segment(&mut self, bytes: u64, right: Right) -> Result<bool, DiskError> {
        let Some(mut spare) = take_spare(&self.shared, right).await else {
            return Ok(false);
        };
        let made = async {
            if spare.bytes < bytes {
                spare.file.allocate(bytes).await?;
                spare.bytes = bytes;
            }
            let header = SegmentHeader {
                number: self.active.header.number + 1,
                first: self.next,
                bytes: spare.bytes,
                salt: self.shared.env.rng.next_u64(),
                chain: self.active.chain,
            };
            let (disk, dir) = (&*self.shared.env.disk, &self.shared.dir);
            make_segment(disk, dir, &spare, header).await
        };
        let made = made.await;
        if matches!(made, Err(DiskError::Full { .. })) {
            let mut state = self.shared.state();
            state.stock.push_front(spare);
            state.full = true;
            return Ok(false);
        }
        let segment = made?;
        crate::sometimes!("segment-rolled");
        let (header, chain, offset) = (segment.header, segment.header.chain, segment.end);
        self.active = Active { file: spare.file, header, offset, chain };
        let mut state = self.shared.state();
        if let Some(before) = state.segments.back_mut() {
            before.close();
        }
        state.room = self.active.room();
        state.segments.push_back(segment);
        drop(state);
        self.shared.chores.notify_one();
        Ok(true)
    }

    /// Says at the end that everything before is durable: then damage to the last group is noticed
    /// as such, too.
    async fn seal(&mut self) {
        let Active { header, offset, chain, .. } = self.active;
        let durable = {
            let state = self.shared.state();
            if self.sealed || state.poisoned.is_some() {
                return;
            }
            state.durable
        };
        let mut group = Group::new(header, offset, chain, self.next, durable);
        if self.void > 0 {
            group.push_void(self.void);
        }
        group.push_seal();
        let Finished { bytes, .. } = group.finish();
        if offset + bytes.len() as u64 > header.bytes {
            return;
        }
        match self.write_and_sync(bytes).await {
            Ok(()) | Err(DiskError::Full { .. }) => {}
            Err(e) => self.shared.poison(&e),
        }
    }
}

/// A spare that these records may use, when it is there; nothing, when there will be none.
async fn take_spare(shared: &Shared, right: Right) -> Option<Spare> {
    let least = match right {
        Right::Ordinary => 2,
        Right::Reserve => 1,
    };
    loop {
        {
            let mut state = shared.state();
            if state.stock.len() >= least {
                return state.stock.pop_front();
            }
            if state.full || state.poisoned.is_some() {
                return None;
            }
        }
        shared.stocked.notified().await;
    }
}
