//! Keeps a source running.

use std::sync::Arc;

use forebay_sdk::{Node, Outlet, node::DynSource, outlet::Wires};
use tokio::time::Instant;

use super::{
    backoff::{Backoff, GOOD_AFTER},
    post::{Post, guard},
    status::Count,
};

/// Runs until it is dropped, or until the source cannot be made anew after a panic.
pub async fn run_source(mut source: Box<dyn DynSource>, post: Post) {
    let wires: Arc<dyn Wires> = Arc::clone(&post.outbox) as _;
    let outlet = Outlet::new(Arc::clone(&post.name), wires);
    let mut backoff = Backoff::of(post.configured.capabilities());
    // What a predecessor posted goes first.
    post.outbox.room().await;
    loop {
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
            drop(source);
            source = match post.build() {
                Ok(Node::Source(fresh)) => fresh,
                Ok(_) => unreachable!("a node type is registered under its own role"),
                Err(panic) => return post.status.broken(&panic),
            };
        }
        backoff.pause(&error, &post.site.world).await;
    }
}
