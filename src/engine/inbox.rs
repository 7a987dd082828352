//! A node's queue, for tasks: who waits for messages, for room, and for the log.
//!
//! It belongs to the engine and outlives the node that reads it. A sink reads from the front without
//! taking: a message leaves once it is settled. So a sink can be stopped at any moment, and its
//! successor finds everything that was not delivered.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use forebay_sdk::{Envelope, Message};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

pub use super::queue::Pushed;
use super::{
    queue::{Done, Due, Job, Look, Opened, Queue, Shown, Turn},
    status::Status,
    stop::Stop,
};
use crate::config::Buffer;

/// A bounded queue of messages.
pub struct Inbox {
    /// Of the node that reads: what is dropped here is dropped by its buffer.
    status: Arc<Status>,
    queue: Mutex<Queue>,
    /// Told when a message came or the inbox was closed.
    work: Notify,
    /// Told when a message left or the limits grew.
    room: Notify,
    /// Told when there may be work for the disk.
    disk: Notify,
    /// Told when no reader is needed any more.
    done: Notify,
    /// Told when the disk has let go of a message.
    let_go: Notify,
    /// What is not on disk is to be put there, and nothing more comes.
    finishing: AtomicBool,
}

/// What waits in an inbox.
pub struct Waiting {
    pub messages: usize,
    /// On disk, where they are there, else in memory.
    pub bytes: u64,
    pub oldest: Option<Duration>,
    pub limits: Buffer,
}

impl Inbox {
    pub fn new(status: Arc<Status>) -> Inbox {
        Inbox {
            status,
            queue: Mutex::new(Queue::new()),
            work: Notify::new(),
            room: Notify::new(),
            disk: Notify::new(),
            done: Notify::new(),
            let_go: Notify::new(),
            finishing: AtomicBool::new(false),
        }
    }

    /// Of the node that reads.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    pub fn set_limits(&self, limits: Buffer) {
        self.change(|queue| queue.set_limits(limits));
    }

    /// There is a log behind it, of which more is known once it was opened.
    pub fn expect_log(&self) {
        self.change(Queue::expect_log);
    }

    /// Puts a message in, or says why not. Never waits. `from` is how the reader wrote where it comes
    /// from.
    pub fn push(&self, envelope: Envelope, from: &Arc<str>) -> Pushed {
        let pushed = self.change(|queue| queue.push(envelope, from));
        if let Pushed::DroppedOldest | Pushed::DroppedNewest = pushed {
            self.status.dropped_for_room();
        }
        self.work.notify_one();
        pushed
    }

    /// Resolves when there may be room.
    pub async fn room(&self) {
        let mut told = std::pin::pin!(self.room.notified());
        // Registered before looking, so that room made in between is not missed.
        told.as_mut().enable();
        if self.queue().is_full() {
            told.await;
        }
    }

    /// Takes the first message, for a reader that handles it without an `await`.
    pub fn pop(&self) -> Option<(Envelope, Arc<str>)> {
        self.change(Queue::pop)
    }

    /// Waits for a message to [`Inbox::pop`]. False once the inbox is closed and empty, or the reader
    /// was asked to stop.
    pub async fn wait(&self, stop: &Stop) -> bool {
        loop {
            if stop.is_asked() {
                return false;
            }
            {
                let queue = self.queue();
                if queue.has_next() {
                    return true;
                }
                if queue.is_closed() {
                    return false;
                }
            }
            self.work.notified().await;
        }
    }

    /// Has the reader look again.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// Waits for messages and shows up to `most` of them, which stay until they are released. Waits
    /// up to `max_wait` for more when there are fewer. None once the inbox is closed and what is left
    /// needs no reader.
    pub async fn hold(&self, most: usize, max_wait: Duration) -> Option<Vec<Message>> {
        let mut deadline = None;
        loop {
            let turn = self.turn(most);
            match turn {
                Turn::End => return None,
                Turn::Wait => self.work.notified().await,
                Turn::Until(at) => {
                    let _ = timeout_at(at, self.work.notified()).await;
                }
                Turn::Write(batch) => {
                    let until = *deadline.get_or_insert_with(|| Instant::now() + max_wait);
                    let is_small = batch.len() < most && self.queue().can_grow_to(most);
                    if !is_small || Instant::now() >= until {
                        return Some(batch);
                    }
                    let _ = timeout_at(until, self.work.notified()).await;
                }
            }
        }
    }

    /// Waits for messages behind those that are shown, and shows up to `most` of them too. Dropping the
    /// future shows none.
    pub async fn hold_more(&self, most: usize) -> Vec<Message> {
        loop {
            let more = self.change(|queue| queue.turn_more(most));
            if !more.is_empty() {
                return more;
            }
            self.work.notified().await;
        }
    }

    fn turn(&self, most: usize) -> Turn {
        let (expired, turn) = self.change(|queue| (queue.drop_expired(), queue.turn(most)));
        if expired > 0 {
            self.status.expired(expired as u64);
        }
        turn
    }

    /// Takes out the first `count` messages that are shown; the rest stays shown. The caller owes the
    /// deliveries that come with them.
    pub fn release(&self, count: usize) -> Vec<Envelope> {
        self.change(|queue| queue.release(count))
    }

    /// Nothing is being written any more.
    pub fn show_none(&self) {
        self.change(Queue::show_none);
    }

    /// Lets go of the first message that is shown, before a write that must not be repeated: it is in
    /// no queue any more, and on disk it is one in doubt. The caller owes its delivery.
    pub async fn let_go(&self) -> Option<Envelope> {
        loop {
            let mut told = std::pin::pin!(self.let_go.notified());
            told.as_mut().enable();
            if self.change(Queue::may_let_go) {
                return self.release(1).pop();
            }
            told.await;
        }
    }

    /// What was let go turned out not to have happened: it is the first again.
    pub fn put_back(&self, message: Message) {
        self.change(|queue| queue.put_back(message));
        self.work.notify_one();
    }

    /// It is known, or was told, what became of the message that was let go.
    pub fn doubt_is_over(&self) {
        self.change(Queue::doubt_is_over);
    }

    /// A write or a connect failed: the link is suspect.
    pub fn link_failed(&self) {
        self.change(Queue::link_failed);
    }

    /// The other side took something.
    pub fn link_works(&self) {
        self.change(Queue::link_works);
    }

    /// Nothing more comes: readers end once they have read what is there.
    pub fn close(&self) {
        self.change(Queue::close);
        self.work.notify_one();
    }

    /// Resolves once the inbox is closed, and what is left needs no reader.
    pub async fn done(&self) {
        loop {
            let mut told = std::pin::pin!(self.done.notified());
            told.as_mut().enable();
            if self.queue().is_done() {
                return;
            }
            told.await;
        }
    }

    /// Forgets everything, for nobody will read it. Whoever waits for room goes on.
    pub fn clear(&self) {
        self.change(|queue| *queue = Queue::new());
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.queue().len()
    }

    /// What waits, for showing: see [`Queue::waiting`].
    pub fn waiting(&self, most: usize) -> (Option<u64>, Vec<Shown>) {
        self.queue().waiting(most)
    }

    /// Reads from the log what waits there, about so many bytes, from that number on. None when it does not answer any
    /// more.
    pub async fn read_log(
        &self,
        from: u64,
        bytes: usize,
    ) -> Option<io::Result<Vec<(u64, Message)>>> {
        if self.finishing.load(Ordering::Acquire) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        self.change(|queue| queue.look(Look { from, bytes, tell }));
        told.await.ok()
    }

    /// What waits, for showing.
    pub fn look(&self) -> Waiting {
        let queue = self.queue();
        Waiting {
            messages: queue.len(),
            bytes: queue.size_bytes(),
            oldest: queue.oldest_waits(),
            limits: *queue.limits(),
        }
    }

    /// How many of them would be gone with the program.
    pub fn unsafe_len(&self) -> usize {
        self.queue().unsafe_len()
    }

    /// How many of these nobody sends again.
    pub fn untracked_len(&self) -> usize {
        self.queue().untracked_len()
    }

    /// Waits for work for the disk. None when everything is there and nothing more comes.
    pub async fn disk_work(&self) -> Option<(Job, Buffer)> {
        loop {
            let finishing = self.finishing.load(Ordering::Acquire);
            let (due, limits, is_full) = {
                let mut queue = self.queue();
                (queue.due(finishing), *queue.limits(), queue.is_full())
            };
            if !is_full {
                // What waits in memory may just have begun to go to the log.
                self.room.notify_waiters();
            }
            match due {
                Due::Now(job) => return Some((*job, limits)),
                Due::At(at) => {
                    let _ = timeout_at(at, self.disk.notified()).await;
                }
                Due::Never => self.disk.notified().await,
                Due::Finished => return None,
            }
        }
    }

    /// The log behind the inbox is open, and holds this.
    pub fn opened(&self, opened: Opened) {
        self.change(|queue| queue.opened(opened));
        self.work.notify_one();
    }

    /// The log could not be opened.
    pub fn open_failed(&self) {
        self.change(Queue::open_failed);
        self.let_go.notify_waiters();
        self.work.notify_one();
    }

    /// Waits before the log is opened again. False when it is not worth it any more.
    pub async fn pause_before_open(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while !self.finishing.load(Ordering::Acquire) {
            if timeout_at(until, self.disk.notified()).await.is_err() {
                return true;
            }
        }
        false
    }

    /// The disk did a job, or part of it.
    pub fn disk_did(&self, done: Done) {
        let expired = done.expired_messages;
        let dropped = self.change(|queue| queue.done(done));
        self.let_go.notify_waiters();
        if expired > 0 {
            self.status.expired(expired);
        }
        if dropped > expired {
            self.status.dropped_from_log(dropped - expired);
        }
        self.work.notify_one();
    }

    /// Everything that is not on disk and can be is to be put there.
    pub fn finish(&self) {
        self.finishing.store(true, Ordering::Release);
        self.disk.notify_one();
    }

    /// Drops all that waits, but for what is being written; returns how many.
    pub fn drop_waiting(&self) -> usize {
        self.change(Queue::drop_waiting)
    }

    /// Whatever changes the queue may make room in it, or work for the disk.
    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue();
        let outcome = change(&mut queue);
        let (is_full, has_log, is_done) = (queue.is_full(), queue.has_log(), queue.is_done());
        drop(queue);
        if is_done {
            self.done.notify_waiters();
        }
        if !is_full {
            self.room.notify_waiters();
        }
        if has_log {
            self.disk.notify_one();
        }
        outcome
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
