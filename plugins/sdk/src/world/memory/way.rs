//! The way to a place in memory, which fails as it is told: what goes over it is late, vanishes, or
//! is cut off.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

/// What a pipe holds before its writer waits.
pub(super) const PIPE_BYTES: usize = 64 << 10;
/// The most that is on its way in one direction before its sender waits.
const MOST_PIECES: usize = 64;

/// How a way is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// What is sent arrives.
    #[default]
    Flows,
    /// Who is connected is cut off, and nobody else is let in.
    Refused,
    /// What is sent vanishes, and nobody is told: connections stay, and whoever calls waits.
    Vanishes,
}

/// The way to one place, or to several at once. Cloning shares it.
#[derive(Clone, Default)]
pub struct Way(Arc<Inside>);

#[derive(Default)]
struct Inside {
    state: Mutex<State>,
    /// Counts up with each cut.
    cuts: watch::Sender<u64>,
    changed: Notify,
}

#[derive(Clone, Copy, Default)]
struct State {
    traffic: Traffic,
    delay: Duration,
    bytes_per_second: Option<u64>,
    loss_percent: u8,
    bytes: u64,
}

impl Way {
    /// How it is from now on.
    pub fn set(&self, traffic: Traffic) {
        self.state().traffic = traffic;
        if traffic == Traffic::Refused {
            self.cut();
        }
        self.0.changed.notify_waiters();
    }

    /// How it is.
    pub fn traffic(&self) -> Traffic {
        self.state().traffic
    }

    /// Cuts the connections that there are. New ones can be made.
    pub fn cut(&self) {
        self.0.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// What is sent arrives so much later.
    pub fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// No more than so many bytes pass in a second, in each direction.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.state().bytes_per_second = bytes_per_second;
    }

    /// So many of a hundred packets are lost. What is lost is sent again, so it comes late, and all behind it too.
    pub fn set_loss(&self, percent: u8) {
        self.state().loss_percent = percent;
    }

    /// The bytes that were sent over it so far, in both directions.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Resolves once somebody can be called over it, or says why not.
    pub(super) async fn call(&self) -> io::Result<()> {
        loop {
            let changed = self.0.changed.notified();
            match self.traffic() {
                Traffic::Flows => return Ok(()),
                Traffic::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                Traffic::Vanishes => changed.await,
            }
        }
    }

    /// A connection over it: this side's end, and the other's.
    pub(super) fn connect(&self) -> (DuplexStream, DuplexStream) {
        let (ours, near) = duplex(PIPE_BYTES);
        let (far, theirs) = duplex(PIPE_BYTES);
        let (way, mut cuts) = (self.clone(), self.0.cuts.subscribe());
        tokio::spawn(async move {
            let ((from_near, to_near), (from_far, to_far)) = (split(near), split(far));
            // Dropping the ends is how both sides hear of a cut.
            tokio::select! {
                biased;
                _ = cuts.changed() => (),
                _ = async { tokio::join!(way.carry(from_near, to_far), way.carry(from_far, to_near)) } => (),
            }
        });
        (ours, theirs)
    }

    /// Carries what comes to the other side, until one of them is gone.
    async fn carry(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut pieces: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let (mut buffer, mut free_at, mut is_over) = (vec![0; 8 << 10], Instant::now(), false);
        loop {
            let next = pieces.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let Some((_, piece)) = pieces.pop_front() else { continue };
                    to.write_all(&piece).await?;
                    to.flush().await?;
                }
                read = from.read(&mut buffer), if !is_over && pieces.len() < MOST_PIECES => {
                    let count = read?;
                    is_over = count == 0;
                    let now = Instant::now();
                    let State { traffic, delay, bytes_per_second, loss_percent, .. } = self.count(count);
                    // TCP sends again what was not confirmed, so it arrives once anything does.
                    if traffic == Traffic::Vanishes {
                        self.flows().await;
                    }
                    let seconds = bytes_per_second.map_or(0.0, |rate| count as f64 / rate.max(1) as f64);
                    let sent = free_at.max(now) + Duration::from_secs_f64(seconds);
                    free_at = sent + until_it_gets_through(loss_percent);
                    if count > 0 {
                        pieces.push_back((free_at + delay, buffer[..count].to_vec()));
                    }
                }
                else => break,
            }
        }
        to.shutdown().await
    }

    async fn flows(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.traffic() != Traffic::Vanishes {
                return;
            }
            changed.await;
        }
    }

    fn count(&self, bytes: usize) -> State {
        let mut state = self.state();
        state.bytes += bytes as u64;
        *state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long TCP takes to send something until it is not lost: each try waits twice as long as the one before.
fn until_it_gets_through(loss_percent: u8) -> Duration {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(120);
    let (mut waited, mut pause) = (Duration::ZERO, FIRST);
    // Without loss no chance is asked: a seed gives the same run as before.
    while loss_percent > 0 && waited < LONGEST && fastrand::u8(..100) < loss_percent {
        waited += pause;
        pause *= 2;
    }
    waited
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn send(stream: &mut DuplexStream, text: &str) {
        stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn receive(stream: &mut DuplexStream) -> String {
        let mut buffer = [0; 64];
        let count = stream.read(&mut buffer).await.unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_arrives_as_late_and_as_slowly_as_told() {
        let way = Way::default();
        way.set_delay(Duration::from_secs(3));
        let (mut ours, mut theirs) = way.connect();
        let began = Instant::now();
        send(&mut ours, "hello").await;
        assert_eq!(receive(&mut theirs).await, "hello");
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        way.set_delay(Duration::ZERO);
        way.set_rate(Some(10));
        send(&mut theirs, "12345678901234567890").await;
        assert_eq!(receive(&mut ours).await.len(), 20);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert_eq!(way.bytes(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_comes_late_and_in_order() {
        let way = Way::default();
        way.set_loss(50);
        let (mut ours, mut theirs) = way.connect();
        let (began, mut came) = (Instant::now(), String::new());
        for piece in 0..100 {
            send(&mut ours, &format!("{piece};")).await;
            came += &receive(&mut theirs).await;
        }
        assert_eq!(came, (0..100).map(|piece| format!("{piece};")).collect::<String>());
        // Of a hundred half come at once, and the others after 200 ms, 600 ms, 1400 ms…
        assert!(began.elapsed() > Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_vanishes_comes_when_the_way_is_there_again() {
        let way = Way::default();
        let (mut ours, mut theirs) = way.connect();
        way.set(Traffic::Vanishes);
        send(&mut ours, "lost").await;
        let late = Duration::from_secs(3600);
        assert!(tokio::time::timeout(late, receive(&mut theirs)).await.is_err());
        way.set(Traffic::Flows);
        assert_eq!(receive(&mut theirs).await, "lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_that_is_cut_ends_for_both_sides() {
        let way = Way::default();
        let (mut ours, mut theirs) = way.connect();
        way.cut();
        assert_eq!(receive(&mut ours).await, "");
        assert_eq!(receive(&mut theirs).await, "");
        assert!(way.call().await.is_ok());
        way.set(Traffic::Refused);
        assert!(way.call().await.is_err());
    }
}
