//! The messages of a queue that are in memory: two lanes, and what of them is being written.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use forebay_sdk::{Delivery, Message};
use tokio::time::Instant;

use super::super::buffer::Ranges;

/// Which messages stand together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lane {
    /// In the order in which they came. With `order: fifo`, everything that is in memory.
    #[default]
    Live,
    /// With `order: live_first`: what waited for the link. It goes when nothing is live.
    Waited,
}

/// A message that is in memory.
pub(super) struct Entry {
    pub message: Message,
    /// None when nobody wants to know, or when the log has taken over the promise.
    pub delivery: Option<Delivery>,
    /// Its number in the log.
    pub seq: Option<u64>,
    /// The log has let go of it, for a write that is about to begin.
    pub is_let_go: bool,
    pub since: Instant,
    /// It waited while the link was down.
    pub is_historical: bool,
    /// When it began its way. None for what came back from the log.
    pub began: Option<Instant>,
    /// How the reader wrote where it comes from. None for what came back from the log.
    pub from: Option<Arc<str>>,
}

/// The lanes.
#[derive(Default)]
pub(super) struct Lanes {
    live: VecDeque<Entry>,
    waited: VecDeque<Entry>,
    /// How many messages at the front of which lane are being written right now. They are not dropped
    /// for newer ones.
    shown: (Lane, usize),
    size_bytes: usize,
}

impl Entry {
    /// A message that came now.
    pub fn new(message: Message, since: Instant) -> Entry {
        let (seq, is_let_go, is_historical) = (None, false, false);
        let (delivery, began, from) = (None, None, None);
        Entry { message, delivery, seq, is_let_go, since, is_historical, began, from }
    }

    /// As a sink sees it.
    pub fn show(&self, is_historical: bool) -> Message {
        let mut message = self.message.clone();
        message.restamp();
        if is_historical {
            message.meta.insert("historical", true);
        }
        message
    }
}

impl Lanes {
    pub fn len(&self) -> usize {
        self.live.len() + self.waited.len()
    }

    pub fn len_of(&self, lane: Lane) -> usize {
        self.lane(lane).len()
    }

    pub fn is_empty(&self, lane: Lane) -> bool {
        self.lane(lane).is_empty()
    }

    /// Of both.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub fn front(&self, lane: Lane) -> Option<&Entry> {
        self.lane(lane).front()
    }

    /// The first of each lane.
    pub fn fronts(&self) -> impl Iterator<Item = &Entry> {
        self.live.front().into_iter().chain(self.waited.front())
    }

    pub fn entries(&self, lane: Lane) -> impl Iterator<Item = &Entry> {
        self.lane(lane).iter()
    }

    /// Of both, what waited first.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.waited.iter().chain(&self.live)
    }

    /// The same, to change them. Their messages stay as they are.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.waited.iter_mut().chain(&mut self.live)
    }

    /// The numbers of all that have one.
    pub fn numbers(&self) -> Ranges {
        let mut seqs: Vec<u64> = self.all().filter_map(|entry| entry.seq).collect();
        seqs.sort_unstable();
        let mut numbers = Ranges::default();
        seqs.into_iter().for_each(|seq| numbers.push(seq..seq + 1));
        numbers
    }

    pub fn push_back(&mut self, lane: Lane, entry: Entry) {
        self.size_bytes += entry.message.size_bytes();
        self.lane_mut(lane).push_back(entry);
    }

    pub fn push_front(&mut self, lane: Lane, entry: Entry) {
        self.size_bytes += entry.message.size_bytes();
        self.lane_mut(lane).push_front(entry);
    }

    pub fn pop_front(&mut self, lane: Lane) -> Option<Entry> {
        let entry = self.lane_mut(lane).pop_front()?;
        self.forget(&entry);
        Some(entry)
    }

    /// Takes out everything in the live lane that is not being written.
    pub fn take_live(&mut self) -> Vec<Entry> {
        let shown = self.shown_in(Lane::Live).min(self.live.len());
        let taken: Vec<Entry> = self.live.drain(shown..).collect();
        taken.iter().for_each(|entry| self.forget(entry));
        taken
    }

    /// What was live is live no longer: it waits, behind what waits already.
    pub fn set_aside(&mut self) {
        self.waited.append(&mut self.live);
    }

    /// Takes out what `stays` does not keep, of both lanes; what is being written stays.
    pub fn take_unless(&mut self, mut stays: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let mut taken = Vec::new();
        for lane in [Lane::Live, Lane::Waited] {
            let mut at = self.shown_in(lane);
            while let Some(entry) = self.lane(lane).get(at) {
                if stays(entry) {
                    at += 1;
                } else {
                    taken.extend(self.lane_mut(lane).remove(at));
                }
            }
        }
        taken.iter().for_each(|entry| self.forget(entry));
        taken
    }

    /// Takes out the one that waits longest and is not being written.
    pub fn take_oldest(&mut self) -> Option<Entry> {
        let oldest = [Lane::Waited, Lane::Live].into_iter().find_map(|lane| {
            let shown = self.shown_in(lane);
            self.lane_mut(lane).remove(shown)
        })?;
        self.forget(&oldest);
        Some(oldest)
    }

    /// Forgets messages that are no longer in the log; what is being written goes on. Returns how many.
    pub fn drop_numbered(&mut self, seqs: &Range<u64>) -> usize {
        let mut freed = 0;
        let before = self.len();
        for lane in [Lane::Live, Lane::Waited] {
            let shown = self.shown_in(lane);
            let mut index = 0;
            self.lane_mut(lane).retain(|entry| {
                index += 1;
                let stays = index <= shown || !entry.seq.is_some_and(|seq| seqs.contains(&seq));
                freed += if stays { 0 } else { entry.message.size_bytes() };
                stays
            });
        }
        self.size_bytes = self.size_bytes.saturating_sub(freed);
        before - self.len()
    }

    /// So many at the front of a lane are being written.
    pub fn show(&mut self, lane: Lane, count: usize) {
        self.shown = (lane, count);
    }

    /// Nothing is being written.
    pub fn show_none(&mut self) {
        self.shown = (Lane::Live, 0);
    }

    /// The lane of which something is being written.
    pub fn shown_lane(&self) -> Lane {
        self.shown.0
    }

    pub fn shown_in(&self, lane: Lane) -> usize {
        if self.shown.0 == lane { self.shown.1 } else { 0 }
    }

    fn forget(&mut self, entry: &Entry) {
        self.size_bytes = self.size_bytes.saturating_sub(entry.message.size_bytes());
    }

    fn lane(&self, lane: Lane) -> &VecDeque<Entry> {
        match lane {
            Lane::Live => &self.live,
            Lane::Waited => &self.waited,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut VecDeque<Entry> {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Waited => &mut self.waited,
        }
    }
}
