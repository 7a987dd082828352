//! What `--watch` shows: the same again, after each change.

use std::io;

use forebay_sdk::Timestamp;

use super::super::output::{knows_escapes, print};

/// On a terminal, what was printed before makes room for what is `done` now.
pub(super) fn begin_again(done: &str) -> anyhow::Result<()> {
    const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";
    let clear = if knows_escapes(&io::stdout()) { CLEAR } else { "" };
    print(&format!("{clear}{done} at {} UTC\n\n", Timestamp::now().time_of_day()))
}
