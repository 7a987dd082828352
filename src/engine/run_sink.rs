//! Writes a sink's queue out, batch by batch, until each message was taken or refused.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use forebay_sdk::{Delivery, Message, Node, WriteError, node::DynSink, outlet::Wires};
use tokio::time::{sleep, timeout};

use super::{
    backoff::Backoff,
    station::{Post, guard},
    status::Count,
};
use crate::config::Batch;

/// A write or connect that takes longer is tried again: the other side went silent.
const LONGEST_TRY: Duration = Duration::from_secs(120);
/// A batch on which the node panics this often is not tried again as a whole.
const MOST_PANICS: u32 = 3;

/// Runs until the queue was closed and needs no reader, also when the link is down by then.
pub async fn run_sink(sink: Box<dyn DynSink>, post: Post, batch: Batch) {
    let inbox = Arc::clone(&post.inbox);
    tokio::select! {
        biased;
        () = write_out(sink, post, batch) => (),
        () = inbox.done() => (),
    }
}

async fn write_out(sink: Box<dyn DynSink>, post: Post, batch: Batch) {
    let mut run = SinkRun {
        sink,
        post,
        backoff: Backoff::new(),
        connected: false,
        panics: 0,
        write_failed: false,
    };
    // Also what a predecessor posted to `errors`.
    run.post.outbox.room().await;
    // Halved to find a message that is refused, and back to the full size after a success.
    let mut most = batch.max_messages;
    loop {
        if !run.connected {
            run.connect().await;
            continue;
        }
        let Some(messages) = run.post.inbox.hold(most, batch.max_wait).await else { return };
        match run.write(&messages).await {
            Ok(()) => {
                run.delivered(messages.len());
                most = (most * 2).min(batch.max_messages);
            }
            Err(WriteError::Reject(_)) if messages.len() > 1 => most = messages.len() / 2,
            Err(WriteError::Reject(error)) => run.refused(&messages[0], &error).await,
            Err(WriteError::Retry { error, after }) => {
                run.write_failed = true;
                run.again(&error, after).await;
            }
        }
    }
}

struct SinkRun {
    sink: Box<dyn DynSink>,
    post: Post,
    backoff: Backoff,
    connected: bool,
    /// In a row.
    panics: u32,
    write_failed: bool,
}

impl SinkRun {
    async fn connect(&mut self) {
        let attempt = timeout(LONGEST_TRY, guard(self.sink.connect())).await;
        match attempt.context("connecting took too long") {
            Ok(Ok(Ok(()))) => {
                self.connected = true;
                // After a failed write, only the next one tells whether it works again.
                if !self.write_failed {
                    self.post.status.running(&self.post.name);
                }
            }
            Ok(Ok(Err(error))) | Err(error) => self.again(&error, None).await,
            Ok(Err(panic)) => {
                self.rebuild();
                self.again(&panic, None).await;
            }
        }
    }

    async fn write(&mut self, messages: &[Message]) -> Result<(), WriteError> {
        let attempt = timeout(LONGEST_TRY, guard(self.sink.write(messages))).await;
        match attempt.context("the other side did not answer")? {
            Ok(outcome) => {
                self.panics = 0;
                outcome
            }
            Err(panic) => {
                self.rebuild();
                self.panics += 1;
                match self.panics < MOST_PANICS {
                    true => Err(WriteError::retry(panic)),
                    false => Err(WriteError::reject(panic)),
                }
            }
        }
    }

    fn delivered(&mut self, count: usize) {
        let settled = self.post.inbox.release(count);
        self.post.inbox.link_works();
        self.post.status.add_many(Count::Received, count as u64);
        self.post.status.add_many(Count::Delivered, count as u64);
        settled.into_iter().filter_map(|envelope| envelope.delivery).for_each(Delivery::settle);
        self.backoff.reset();
        self.write_failed = false;
        self.post.status.running(&self.post.name);
    }

    /// The other side will never take this message: it goes to `errors`, and its source is told
    /// that it was dealt with, for sending it again would change nothing.
    async fn refused(&mut self, message: &Message, error: &anyhow::Error) {
        self.post.status.add(Count::Received);
        let delivery = self.post.inbox.release(1).pop().and_then(|envelope| envelope.delivery);
        self.post.outbox.post_error(error, Some(message), delivery.as_ref());
        delivery.into_iter().for_each(Delivery::settle);
        self.post.outbox.room().await;
    }

    async fn again(&mut self, error: &anyhow::Error, after: Option<Duration>) {
        self.connected = false;
        self.post.inbox.link_failed();
        self.post.status.waiting(&self.post.name, error);
        match after {
            Some(after) => sleep(after).await,
            None => self.backoff.pause().await,
        }
    }

    fn rebuild(&mut self) {
        if let Node::Sink(fresh) = self.post.build() {
            self.sink = fresh;
        }
    }
}
