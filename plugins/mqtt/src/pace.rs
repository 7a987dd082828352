//! How many publications are under way at once, and on which of them the broker hangs up.
//!
//! MQTT 3.1.1 leaves a broker only one way to say no to a message: to close the connection. So when
//! a connection is lost with publications under way, the next one begins with one at a time, and
//! doubles with each answer. That costs a working link seven round trips, and leaves the message at
//! fault under way alone.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forebay_sdk::mqtt::Publication;
use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

/// As many at once need no pace.
const WIDE: usize = 128;
/// A message that was under way alone so often when the broker hung up is refused.
const MOST_TIMES: u32 = 3;
/// Before the last of these times the connection must have lasted for a while without the message:
/// a broker that hangs up on everybody says nothing about it.
const CALM: Duration = Duration::from_secs(6);
/// It doubles with each message that is refused while nothing gets through: who refuses all of them
/// refuses us, and that is for a person to mend.
pub const LONGEST_CALM: Duration = Duration::from_secs(40);
/// For how long a message is refused without being sent once more.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// The most messages that are remembered.
const MOST_SUSPECTS: usize = 256;

/// The pace of one session.
pub struct Pace {
    /// Held by those that publish: together at full speed, or alone.
    way: RwLock<()>,
    state: Mutex<State>,
    hasher: RandomState,
}

struct State {
    /// How many may be under way, from one to `WIDE`.
    window: usize,
    /// By their contents.
    suspects: HashMap<u64, Suspect>,
    /// How many messages were refused since one got through.
    refused: u32,
}

#[derive(Clone, Copy)]
struct Suspect {
    times: u32,
    since: Instant,
}

/// Leave to publish.
pub struct Turn<'a> {
    /// How many messages of the batch.
    pub most: usize,
    held: Held<'a>,
}

enum Held<'a> {
    Together { _guard: RwLockReadGuard<'a, ()> },
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

impl Default for Pace {
    fn default() -> Pace {
        let state = State { window: WIDE, suspects: HashMap::new(), refused: 0 };
        Pace { way: RwLock::default(), state: Mutex::new(state), hasher: RandomState::new() }
    }
}

impl Turn<'_> {
    /// Whether others publish meanwhile.
    pub fn is_shared(&self) -> bool {
        matches!(self.held, Held::Together { .. })
    }

    /// The message that nothing else is under way with.
    pub fn single<'b>(&self, batch: &'b [Publication]) -> Option<&'b Publication> {
        match (&self.held, &batch[..self.most]) {
            (Held::Alone { .. }, [single]) => Some(single),
            _ => None,
        }
    }
}

impl Pace {
    /// Waits for leave to publish the first messages of a batch, which is not empty.
    pub async fn turn(&self, batch: &[Publication]) -> Turn<'_> {
        if self.most(batch).is_none() {
            let guard = self.way.read().await;
            // Another may have lost the connection meanwhile.
            if self.most(batch).is_none() {
                return Turn { most: batch.len(), held: Held::Together { _guard: guard } };
            }
        }
        let guard = self.way.write().await;
        let most = self.most(batch).unwrap_or(WIDE).min(batch.len());
        Turn { most, held: Held::Alone { _guard: guard } }
    }

    /// Whether anybody may publish anything, as fast as the connection takes it.
    pub fn is_free(&self) -> bool {
        let state = self.state();
        state.window >= WIDE && state.suspects.is_empty()
    }

    /// The broker has taken these.
    pub fn passed(&self, batch: &[Publication]) {
        let mut state = self.state();
        state.window = (state.window * 2).min(WIDE);
        // At QoS 0 a message has only left.
        if batch.iter().any(|publication| publication.qos > 0) {
            state.refused = 0;
        }
        if !state.suspects.is_empty() {
            for publication in batch {
                state.suspects.remove(&self.fingerprint(publication));
            }
        }
    }

    /// The connection was lost with publications under way.
    pub fn lost(&self) {
        self.state().window = 1;
    }

    /// The broker hung up with this message under way alone.
    pub fn hung_up_on(&self, publication: &Publication) {
        let mut state = self.state();
        let now = Instant::now();
        state.suspects.retain(|_, suspect| now - suspect.since < REFUSED_FOR);
        let fingerprint = self.fingerprint(publication);
        if state.suspects.len() >= MOST_SUSPECTS && !state.suspects.contains_key(&fingerprint) {
            return;
        }
        let suspect = state.suspects.entry(fingerprint).or_insert(Suspect { times: 0, since: now });
        suspect.times += 1;
        suspect.since = now;
        if suspect.times == MOST_TIMES {
            state.refused += 1;
        }
    }

    /// How often the broker hung up on a message, when that is often enough to refuse it.
    pub fn refuses(&self, publication: &Publication) -> Option<u32> {
        let suspect = self.suspect(publication)?;
        (suspect.times >= MOST_TIMES).then_some(suspect.times)
    }

    /// How long the connection must have lasted before this message may be sent.
    pub fn calm_before(&self, publication: &Publication) -> Option<Duration> {
        let suspect = self.suspect(publication)?;
        let calm = CALM.saturating_mul(1 << self.state().refused.min(8));
        (suspect.times + 1 >= MOST_TIMES).then(|| calm.min(LONGEST_CALM))
    }

    /// How many messages of a batch may be under way, with nobody else's. None for all of them,
    /// with everybody's.
    fn most(&self, batch: &[Publication]) -> Option<usize> {
        let State { window, suspects, .. } = &*self.state();
        if suspects.is_empty() {
            return (*window < WIDE).then_some(*window);
        }
        let is_suspect = |publication| suspects.contains_key(&self.fingerprint(publication));
        match batch.iter().take(*window).position(is_suspect) {
            // A suspect goes alone.
            Some(at) => Some(at.max(1)),
            None => (*window < WIDE).then_some(*window),
        }
    }

    fn suspect(&self, publication: &Publication) -> Option<Suspect> {
        let state = self.state();
        if state.suspects.is_empty() {
            return None;
        }
        let suspect = *state.suspects.get(&self.fingerprint(publication))?;
        (suspect.since.elapsed() < REFUSED_FOR).then_some(suspect)
    }

    fn fingerprint(&self, publication: &Publication) -> u64 {
        let Publication { topic, payload, qos, retain, .. } = publication;
        self.hasher.hash_one((topic, payload, qos, retain))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn batch(payloads: &[&'static str]) -> Vec<Publication> {
        payloads.iter().map(|payload| Publication::new("t", *payload).qos(1)).collect()
    }

    /// How many of a batch may go now, when any may.
    fn most(pace: &Pace, batch: &[Publication]) -> usize {
        pace.turn(batch).now_or_never().expect("nobody else publishes").most
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_loss_the_window_opens_with_each_answer() {
        let (pace, batch) = (Pace::default(), batch(&["x"; 200]));
        assert_eq!(most(&pace, &batch), 200);
        pace.lost();
        let mut windows = Vec::new();
        while windows.last() != Some(&200) {
            windows.push(most(&pace, &batch));
            pace.passed(&batch[..windows[windows.len() - 1]]);
        }
        assert_eq!(windows, [1, 2, 4, 8, 16, 32, 64, 200]);
    }

    #[tokio::test(start_paused = true)]
    async fn at_full_speed_all_go_together_and_after_a_loss_nobody_else_goes() {
        let (pace, batch) = (Pace::default(), batch(&["x"; 3]));
        let together = [pace.turn(&batch).await, pace.turn(&batch).await];
        pace.lost();
        assert!(pace.turn(&batch).now_or_never().is_none());
        drop(together);
        let alone = pace.turn(&batch).await;
        assert!(alone.single(&batch).is_some());
        assert!(pace.turn(&batch).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspect_goes_alone_and_is_refused_in_the_end_for_a_while() {
        let (pace, batch) = (Pace::default(), batch(&["a", "b", "bad", "c"]));
        for times in 1..=MOST_TIMES {
            assert_eq!(pace.refuses(&batch[2]), None);
            assert_eq!(pace.calm_before(&batch[2]).is_some(), times == MOST_TIMES);
            pace.hung_up_on(&batch[2]);
            assert_eq!((most(&pace, &batch), most(&pace, &batch[2..])), (2, 1));
        }
        assert_eq!((pace.refuses(&batch[2]), pace.refuses(&batch[1])), (Some(MOST_TIMES), None));
        tokio::time::advance(REFUSED_FOR).await;
        assert_eq!(pace.refuses(&batch[2]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_refuses_everything_is_asked_less_and_less_often() {
        let pace = Pace::default();
        let mut calms = Vec::new();
        for payload in ["a", "b", "c", "d", "e"] {
            let suspect = &batch(&[payload])[0];
            (1..MOST_TIMES).for_each(|_| pace.hung_up_on(suspect));
            calms.extend(pace.calm_before(suspect).map(|calm| calm.as_secs()));
            pace.hung_up_on(suspect);
        }
        assert_eq!(calms, [6, 12, 24, 40, 40]);
        // What gets through is no suspect any more, and ends it.
        let suspect = &batch(&["f"])[0];
        (1..MOST_TIMES).for_each(|_| pace.hung_up_on(suspect));
        pace.passed(&batch(&["g"]));
        assert_eq!(pace.calm_before(suspect), Some(CALM));
        pace.passed(std::slice::from_ref(suspect));
        assert_eq!(pace.calm_before(suspect), None);
    }
}
