//! Writes a sink's queue out, batch by batch, until each message was taken or refused.
//!
//! A message leaves the queue once the other side has it. For a sink that must not repeat it is the
//! other way round: it leaves the queue first, and what the sink does not know then, nobody knows.

use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};

use anyhow::Context;
use forebay_sdk::{
    Capabilities, Delivery, Emitter, Envelope, Message, Node, Timestamp, WriteError, Written,
    clock,
    connection::Down,
    node::{DynSink, LONGEST_PAUSE},
    outlet::Wires,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    backoff::Backoff,
    envelope,
    errors::ErrorKind,
    gate::Gate,
    post::{Post, guard, guard_call},
    status::Count,
};
use crate::config::{Batch, Common, EnvelopeSettings};

/// How long it takes until a connection surely knows that it is down. Then connecting waits for it.
const UNTIL_TOLD: Duration = Duration::from_millis(50);

/// A link that is not there after this time counts as one that failed, so that messages are safe early.
const UNTIL_SUSPECT: Duration = Duration::from_millis(500);

/// How many messages a sink is shown at a time that goes on behind its batch.
const MORE_AT_ONCE: usize = 100;

/// A batch on which the node panics this often is not tried again as a whole.
const MOST_PANICS: u32 = 3;

/// Runs until the queue was closed and needs no reader, also when the link is down by then; or until
/// the sink cannot be made anew after a panic; or until it is told to stop. What it remembers is with its keeper then.
pub async fn run_sink(sink: Box<dyn DynSink>, post: Post, common: Common) {
    let Common { batch, envelope, link, .. } = common;
    let (inbox, doubt) = (Arc::clone(&post.inbox), Arc::clone(&post.doubt));
    let (stop, keeper) = (Arc::clone(&post.stop), Arc::clone(&post.keeper));
    let done = async {
        inbox.done().await;
        doubt.over().await;
    };
    let gate = Gate::of(&link, &post.site.links);
    if gate.is_none() {
        post.status.set_held_by_link(None);
    }
    let capabilities = post.configured.capabilities();
    let mut run = SinkRun {
        sink: Some(sink),
        post,
        envelope,
        capabilities,
        backoff: Backoff::of(capabilities),
        answers: Emitter::default(),
        connected: false,
        settled: 0,
        behind: Behind::default(),
        panics: 0,
        write_failed: false,
        gate,
    };
    tokio::select! {
        biased;
        () = stop.asked() => (),
        () = write_out(&mut run, batch) => (),
        () = done => (),
    }
    keeper.remember(run.sink.and_then(|mut sink| guard_call(|| sink.save()).ok().flatten()));
}

async fn write_out(run: &mut SinkRun, batch: Batch) {
    let capabilities = run.capabilities;
    // Halved to find a message that is refused, and back to the full size after successes. The full size is another while a
    // condition on the link holds.
    let mut halved = usize::MAX;
    while run.sink.is_some() {
        // Also what a predecessor posted to its outputs.
        if !run.post.outbox.is_clear() {
            run.post.inbox.show_none();
            run.post.outbox.room().await;
        }
        if !run.connected {
            run.connect().await;
            continue;
        }
        let batch = match &mut run.gate {
            None => batch,
            Some(gate) => {
                gate.pass(&run.post).await;
                gate.batch(batch)
            }
        };
        let most_in_batch = if capabilities.repeats { batch.max_messages } else { 1 };
        let messages = tokio::select! {
            biased;
            held = run.post.inbox.hold(halved.min(most_in_batch), batch.max_wait) => held,
            () = link_turned(&mut run.gate) => {
                run.post.inbox.show_none();
                continue;
            }
        };
        let Some(messages) = messages else { return };
        if let Some(gate) = &mut run.gate {
            // The link may have changed while it waited for messages.
            if !gate.is_open(&run.post) {
                run.post.inbox.show_none();
                continue;
            }
            gate.wrote(messages.len());
        }
        if !capabilities.repeats {
            run.write_once().await;
            continue;
        }
        match run.write(&messages).await {
            Ok(written) => {
                run.delivered(messages.len() + run.behind.taken, written);
                halved = halved.saturating_mul(2);
            }
            Err(WriteError::Reject(_)) if messages.len() > 1 => halved = messages.len() / 2,
            Err(WriteError::Reject(error)) => run.refused(&messages[0], &error),
            Err(WriteError::RejectSome { dealt_with, refused }) => {
                run.dealt_with(&messages, dealt_with, &refused);
            }
            Err(WriteError::Retry { error, after, taken }) => {
                run.settle(taken.min(messages.len() + run.behind.taken));
                run.write_failed = true;
                run.again(&error, after).await;
            }
            // A sink that says so without having said that it must not repeat: it is repeated.
            Err(WriteError::InDoubt(error)) => {
                run.write_failed = true;
                run.again(&error, None).await;
            }
        }
    }
}

struct SinkRun {
    /// None once it panicked and could not be made anew.
    sink: Option<Box<dyn DynSink>>,
    post: Post,
    envelope: Option<EnvelopeSettings>,
    capabilities: Capabilities,
    backoff: Backoff,
    answers: Emitter,
    connected: bool,
    /// How many messages of the batch were settled while the rest was being written.
    settled: usize,
    behind: Behind,
    /// In a row.
    panics: u32,
    write_failed: bool,
    /// None without conditions on the link.
    gate: Option<Gate>,
}

/// What a sink was shown in one write behind its batch.
#[derive(Default)]
struct Behind {
    /// Without those that were settled meanwhile.
    messages: VecDeque<Message>,
    /// How many those were.
    settled: usize,
    /// How many messages the sink took, of all.
    taken: usize,
}

impl Behind {
    /// So many, of all, are settled.
    fn settle(&mut self, count: usize) {
        let newly = count.saturating_sub(self.settled).min(self.messages.len());
        self.messages.drain(..newly);
        self.settled += newly;
    }

    fn get(&self, at: usize) -> Option<&Message> {
        self.messages.get(at.checked_sub(self.settled)?)
    }
}

/// Waits until another condition on the link holds. For ever where there are none.
async fn link_turned(gate: &mut Option<Gate>) {
    match gate {
        Some(gate) => gate.turned().await,
        None => pending().await,
    }
}

/// How a call of the sink ended.
enum Ended<T> {
    By(T),
    Panic(anyhow::Error),
    /// The engine stopped waiting.
    TimeOut(anyhow::Error),
}

impl SinkRun {
    async fn connect(&mut self) {
        let Some(sink) = &mut self.sink else { return };
        let inbox = &self.post.inbox;
        let connecting = guard(sink.connect());
        let attempt = async {
            tokio::pin!(connecting);
            // A sink may wait here for its connection, and as long as it does the link is suspect.
            match timeout(UNTIL_SUSPECT, &mut connecting).await {
                Ok(ended) => ended,
                Err(_) => {
                    inbox.link_failed();
                    connecting.await
                }
            }
        };
        let attempt = timeout(self.capabilities.longest_try, attempt).await;
        match attempt.context("connecting took too long") {
            Ok(Ok(Ok(()))) => {
                self.connected = true;
                // After a failed write, only the next one tells whether it works again.
                if !self.write_failed {
                    self.post.status.running();
                }
            }
            Ok(Ok(Err(error))) => self.again(&error, None).await,
            Ok(Err(panic)) => {
                self.make_anew();
                self.again(&panic, None).await;
            }
            Err(error) => {
                self.break_off();
                self.again(&error, None).await;
            }
        }
    }

    /// Writes a batch that may be written again.
    async fn write(&mut self, messages: &[Message]) -> Result<Written, WriteError> {
        match self.call(messages).await {
            Ended::By(outcome) => {
                self.panics = 0;
                outcome
            }
            Ended::TimeOut(error) => Err(WriteError::retry(error)),
            Ended::Panic(panic) => {
                self.panics += 1;
                if self.panics < MOST_PANICS {
                    Err(WriteError::retry(panic))
                } else {
                    Err(WriteError::reject(panic))
                }
            }
        }
    }

    /// Writes the first message, which must not be written again: it leaves the queue before, and is
    /// in doubt until the sink has said what became of it.
    async fn write_once(&mut self) {
        let Some(envelope) = self.post.inbox.let_go().await else { return };
        // From here to the end of the write there is no way back: whoever stops this task tells.
        let Envelope { message, delivery, began } = envelope;
        self.post.doubt.begin(message.clone());
        Delivery::settle_all(delivery);
        self.post.status.add(Count::Received);
        let outcome = match self.call(std::slice::from_ref(&message)).await {
            Ended::By(outcome) => outcome,
            Ended::Panic(error) | Ended::TimeOut(error) => Err(WriteError::in_doubt(error)),
        };
        self.post.doubt.end();
        let outcome = match outcome {
            Err(WriteError::Retry { error, after, .. }) => {
                self.post.inbox.put_back(message);
                self.write_failed = true;
                return self.again(&error, after).await;
            }
            other => other,
        };
        match outcome {
            Ok(written) => {
                self.post.status.delivered([took(began, &message, Instant::now())].into_iter());
                self.works(written);
            }
            Err(WriteError::InDoubt(error)) => {
                self.connected = false;
                self.post.outbox.post_in_doubt(&format!("{error:#}"), &message);
            }
            Err(WriteError::Reject(error) | WriteError::Retry { error, .. }) => {
                self.post.outbox.post_error(ErrorKind::NotTaken, &error, Some(&message), None);
            }
            Err(WriteError::RejectSome { refused, .. }) => {
                for (_, error) in refused {
                    self.post.outbox.post_error(ErrorKind::NotTaken, &error, Some(&message), None);
                }
            }
        }
        self.post.inbox.doubt_is_over();
    }

    /// Calls the sink, for as long as a write may take.
    async fn call(&mut self, messages: &[Message]) -> Ended<Result<Written, WriteError>> {
        let repeats = self.capabilities.repeats;
        let SinkRun { sink, post, answers, settled, behind, envelope, gate, .. } = self;
        let Some(sink) = sink else {
            return Ended::Panic(anyhow::anyhow!("the node could not be made anew"));
        };
        let wrap = |messages: &[Message]| {
            envelope.as_ref().map(|it| envelope::wrap(messages, it)).transpose()
        };
        let wrapped = match wrap(messages) {
            Ok(wrapped) => wrapped,
            Err(error) => return Ended::By(Err(WriteError::Reject(error))),
        };
        let messages = wrapped.as_deref().unwrap_or(messages);
        // What an earlier write had answered before it failed.
        answers.discard();
        *settled = 0;
        *behind = Behind::default();
        let progress = answers.progress();
        // A condition on the link that holds is one for whole batches.
        let mut goes_on = repeats && gate.as_ref().is_none_or(Gate::is_free);
        let ended = {
            let writing = guard(sink.write(messages, answers));
            let writing = timeout(self.capabilities.longest_try, writing);
            tokio::pin!(writing);
            loop {
                tokio::select! {
                    biased;
                    ended = &mut writing => break ended,
                    // What must not be repeated has left the queue before.
                    () = progress.more(), if repeats => {
                        let shown = messages.len() + progress.taken_behind();
                        let count = progress.count().min(shown);
                        if count > *settled {
                            settle_first(post, count - *settled);
                            behind.settle(count.saturating_sub(messages.len()));
                            *settled = count;
                        }
                    }
                    () = link_turned(gate), if goes_on => goes_on = false,
                    more = post.inbox.hold_more(MORE_AT_ONCE), if goes_on && progress.asks() => {
                        match wrap(&more) {
                            Ok(wrapped) => progress.give(wrapped.unwrap_or_else(|| more.clone())),
                            // The next write will say it.
                            Err(_) => goes_on = false,
                        }
                        behind.messages.extend(more);
                    }
                }
            }
        };
        behind.taken = progress.taken_behind();
        match ended {
            Ok(Ok(outcome)) => Ended::By(outcome),
            Ok(Err(panic)) => {
                self.make_anew();
                Ended::Panic(panic)
            }
            Err(_) => {
                self.break_off();
                let waited = self.capabilities.longest_try.as_secs();
                Ended::TimeOut(anyhow::anyhow!("the other side did not answer within {waited} s"))
            }
        }
    }

    fn delivered(&mut self, count: usize, written: Written) {
        // The answers first: the messages are delivered once those are on their way.
        self.works(written);
        self.settle(count);
    }

    /// The other side did what it was asked to.
    fn works(&mut self, written: Written) {
        if let Err(error) = self.answers.end() {
            self.post.outbox.post_error(ErrorKind::Other, &error, None, None);
        }
        for (port, envelope) in self.answers.drain() {
            self.post.outbox.post(port, envelope);
        }
        self.post.inbox.link_works();
        self.post.status.add_many(Count::BytesOut, written.wire_bytes.unwrap_or(0));
        self.backoff.reset();
        self.write_failed = false;
        self.post.status.running();
    }

    /// The first messages are dealt with.
    fn settle(&mut self, count: usize) {
        // These were settled before.
        let settled = self.settled.min(count);
        self.settled -= settled;
        if count > settled {
            settle(&self.post, self.post.inbox.release(count - settled));
        }
    }

    /// The other side will never take this message: it goes to `errors`, and its source is told
    /// that it was dealt with, for sending it again would change nothing.
    fn refused(&mut self, message: &Message, error: &anyhow::Error) {
        self.post.status.add(Count::Received);
        let delivery = self.post.inbox.release(1).pop().and_then(|envelope| envelope.delivery);
        self.post.outbox.post_error(ErrorKind::NotTaken, error, Some(message), delivery.as_ref());
        Delivery::settle_all(delivery);
    }

    /// The other side took the first messages, but for some that it never will.
    fn dealt_with(
        &mut self,
        messages: &[Message],
        count: usize,
        refused: &[(usize, anyhow::Error)],
    ) {
        let mut done = 0;
        for (at, error) in refused {
            let behind = || self.behind.get(at.checked_sub(messages.len())?);
            let Some(message) = messages.get(*at).or_else(behind).cloned() else { continue };
            self.delivered(at.saturating_sub(done), Written::default());
            self.refused(&message, error);
            done = at + 1;
        }
        let count = count.min(messages.len() + self.behind.taken);
        self.delivered(count.saturating_sub(done), Written::default());
    }

    async fn again(&mut self, error: &anyhow::Error, after: Option<Duration>) {
        self.connected = false;
        self.post.inbox.link_failed();
        if self.sink.is_none() {
            return;
        }
        self.post.status.waiting(error);
        match after {
            Some(after) => sleep(after.min(LONGEST_PAUSE)).await,
            None if error.is::<Down>() => sleep(UNTIL_TOLD).await,
            None => self.backoff.pause(error, &self.post.site.world).await,
        }
    }

    /// The engine stopped waiting for an answer, which must not come to the next write.
    fn break_off(&mut self) {
        self.connected = false;
        let Some(sink) = &mut self.sink else { return };
        if guard_call(|| sink.break_off()).is_err() {
            self.make_anew();
        }
    }

    fn make_anew(&mut self) {
        self.connected = false;
        drop(self.sink.take());
        match self.post.build() {
            Ok(Node::Sink(fresh)) => self.sink = Some(fresh),
            Ok(_) => unreachable!("a node type is registered under its own role"),
            Err(panic) => self.post.status.broken(&panic),
        }
    }
}

/// The other side has the first messages of a batch, and the rest is under way.
fn settle_first(post: &Post, count: usize) {
    post.inbox.link_works();
    post.status.running();
    settle(post, post.inbox.release(count));
}

/// These were delivered.
fn settle(post: &Post, released: Vec<Envelope>) {
    post.status.add_many(Count::Received, released.len() as u64);
    let now = Instant::now();
    let times = released.iter().map(|envelope| took(envelope.began, &envelope.message, now));
    post.status.delivered(times);
    Delivery::settle_all(released.into_iter().filter_map(|envelope| envelope.delivery));
}

/// How long a message was on its way. What was on disk meanwhile, since it was made.
fn took(began: Option<Instant>, message: &Message, now: Instant) -> Duration {
    match began {
        Some(began) => now.saturating_duration_since(began),
        None => clock::age(message.time, Timestamp::now()),
    }
}
