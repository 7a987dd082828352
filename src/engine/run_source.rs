//! Keeps a source running.

use std::sync::Arc;

use forebay_sdk::{Node, Outlet, node::DynSource, outlet::Wires};
use tokio::time::Instant;

use super::{
    backoff::{Backoff, GOOD_AFTER},
    post::{Post, guard, guard_call},
    status::Count,
};

/// Runs until it is told to stop, or until the source cannot be made anew after a panic. What it remembers is with
/// its keeper then.
pub async fn run_source(source: Box<dyn DynSource>, post: Post) {
    let mut source = Some(source);
    tokio::select! {
        biased;
        () = post.stop.asked() => (),
        () = keep_running(&mut source, &post) => (),
    }
    let saved = source.and_then(|mut source| guard_call(|| source.save()).ok().flatten());
    post.keeper.remember(saved);
}

async fn keep_running(slot: &mut Option<Box<dyn DynSource>>, post: &Post) {
    let wires: Arc<dyn Wires> = Arc::clone(&post.outbox) as _;
    let outlet = Outlet::new(Arc::clone(&post.name), wires);
    let mut backoff = Backoff::of(post.configured.capabilities());
    // What a predecessor posted goes first.
    post.outbox.room().await;
    while let Some(source) = slot {
        let (began, before) = (Instant::now(), post.status.counts());
        let (error, panicked) = match guard(source.run(&outlet)).await {
            Ok(Ok(())) => (anyhow::anyhow!("the other side closed the connection"), false),
            Ok(Err(error)) => (error, false),
            Err(panic) => (panic, true),
        };
        let has_sent = before.get(Count::Emitted) < post.status.counts().get(Count::Emitted);
        if has_sent || began.elapsed() >= GOOD_AFTER {
            backoff.reset();
        }
        post.status.waiting(&error);
        if panicked {
            drop(slot.take());
            match post.build() {
                Ok(Node::Source(fresh)) => *slot = Some(fresh),
                Ok(_) => unreachable!("a node type is registered under its own role"),
                Err(panic) => return post.status.broken(&panic),
            }
        }
        backoff.pause(&error, &post.site.world).await;
    }
}
