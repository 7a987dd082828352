//! The `file` sink: appends each message to a file as a line, and starts a new file when it is
//! large enough. A line that was settled is on the disk.

mod append;
mod record;
mod rules;
mod settings;
mod sink;
#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::FileSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("file", include_str!("../sample.yaml"))
        .offers(file())
        .rules(&[&rules::RELATIVE_PATH])
}

fn file() -> Native<FileSettings> {
    Native::new(Role::Sink, "file", "Appends each message to a file as a line.")
}
