//! Keeps a source running.

use std::sync::Arc;

use forebay_sdk::{Node, Outlet, node::DynSource, outlet::Wires};

use super::{
    backoff::Backoff,
    station::{Post, guard},
    status::State,
};

pub async fn run_source(mut source: Box<dyn DynSource>, post: Post) {
    let wires: Arc<dyn Wires> = Arc::clone(&post.outbox) as _;
    let outlet = Outlet::new(Arc::clone(&post.name), wires);
    let mut backoff = Backoff::new();
    // What a predecessor posted goes first.
    post.outbox.room().await;
    loop {
        let error = match guard(source.run(&outlet)).await {
            Ok(Ok(())) => anyhow::anyhow!("the other side closed the connection"),
            Ok(Err(error)) => error,
            Err(panic) => {
                if let Node::Source(fresh) = post.build() {
                    source = fresh;
                }
                panic
            }
        };
        if post.status.state() == State::Running {
            backoff.reset();
        }
        post.status.waiting(&post.name, &error);
        backoff.pause().await;
    }
}
