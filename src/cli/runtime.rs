//! The threads that a verb runs on, for those that wait for something.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Builder;

/// Runs a task to its end, and does not wait for a disk or terminal that is stuck.
///
/// One thread runs all nodes: on a router there is little to gain from more, and each costs memory.
/// Files are read beside it.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    const FILE_THREADS: usize = 4;
    // A script nested as deep as its limits allow is compiled on such a thread. Touched on demand.
    const STACK_BYTES: usize = 8 << 20;
    const LAST_WORDS: Duration = Duration::from_millis(500);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(FILE_THREADS)
        .thread_stack_size(STACK_BYTES)
        .build()
        .context("starting")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_WORDS);
    outcome
}
