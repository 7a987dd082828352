//! What the log warns of. Each line at WARN or ERROR names one as its `rule`, and `forebay explain NAME` shows the page: what
//! it means, and what to do at the site.

use std::fmt;

/// What a line of the log warns of.
pub struct Warning {
    /// Names it in words.
    pub name: &'static str,
    /// As written: `# name`, `Log: LEVEL, words of the line`, one sentence, and below headings what it means and what to do.
    pub page: &'static str,
}

impl Warning {
    const fn new(name: &'static str, page: &'static str) -> Warning {
        Warning { name, page }
    }

    /// What happened, in one sentence.
    pub fn summary(&self) -> &'static str {
        self.page.lines().filter(|line| !line.is_empty()).nth(2).unwrap_or_default()
    }
}

/// The name, as it stands in the log.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The certificate for `api` in `forebay.yaml` cannot be read.
pub static API_CERTIFICATE: Warning =
    Warning::new("api-certificate", include_str!("api-certificate.md"));
/// A node or connection could not be made, and stands still until the files change.
pub static BROKEN_NODE: Warning = Warning::new("broken-node", include_str!("broken-node.md"));
/// A part of a buffer on disk cannot be read, and its messages are lost.
pub static BUFFER_DAMAGED: Warning =
    Warning::new("buffer-damaged", include_str!("buffer-damaged.md"));
/// The disk under a buffer does not take or give back messages.
pub static BUFFER_DISK_FAILS: Warning =
    Warning::new("buffer-disk-fails", include_str!("buffer-disk-fails.md"));
/// Somebody or something removed the files of a buffer while it was in use.
pub static BUFFER_REMOVED: Warning =
    Warning::new("buffer-removed", include_str!("buffer-removed.md"));
/// The copy of the accepted files could not be written into the data folder.
pub static COPY_NOT_KEPT: Warning = Warning::new("copy-not-kept", include_str!("copy-not-kept.md"));
/// The file system of the data folder cannot lock files.
pub static DATA_FOLDER_NOT_LOCKED: Warning =
    Warning::new("data-folder-not-locked", include_str!("data-folder-not-locked.md"));
/// The data folder cannot be written.
pub static DATA_FOLDER_NOT_WRITABLE: Warning =
    Warning::new("data-folder-not-writable", include_str!("data-folder-not-writable.md"));
/// `data` in `forebay.yaml` was changed while the program runs.
pub static DATA_FOLDER_STAYS: Warning =
    Warning::new("data-folder-stays", include_str!("data-folder-stays.md"));
/// Messages were dropped, as the limits of the pipeline say.
pub static DROPPED_MESSAGES: Warning =
    Warning::new("dropped-messages", include_str!("dropped-messages.md"));
/// Neither the folder nor what ran before can run.
pub static LAST_GOOD_CANNOT_RUN: Warning =
    Warning::new("last-good-cannot-run", include_str!("last-good-cannot-run.md"));
/// The folder could not run at the start, so that what ran before runs.
pub static LAST_GOOD_RUNS: Warning =
    Warning::new("last-good-runs", include_str!("last-good-runs.md"));
/// Something that a node needs does not work, and may not for a while.
pub static LASTING_TROUBLE: Warning =
    Warning::new("lasting-trouble", include_str!("lasting-trouble.md"));
/// The log's level was changed in `forebay.yaml`, and the environment has another.
pub static LOG_LEVEL_FORCED: Warning =
    Warning::new("log-level-forced", include_str!("log-level-forced.md"));
/// Messages are gone though no limit said so.
pub static LOST_MESSAGES: Warning = Warning::new("lost-messages", include_str!("lost-messages.md"));
/// The last pipeline was removed, and nothing runs.
pub static NO_PIPELINE_LEFT: Warning =
    Warning::new("no-pipeline-left", include_str!("no-pipeline-left.md"));
/// The socket in the data folder could not be opened.
pub static NO_SOCKET: Warning = Warning::new("no-socket", include_str!("no-socket.md"));
/// A node had messages left when the time to stop was up.
pub static NOT_DONE_AT_STOP: Warning =
    Warning::new("not-done-at-stop", include_str!("not-done-at-stop.md"));
/// A buffer on disk holds messages of a sink that is not in the files any more.
pub static ORPHAN_BUFFER: Warning = Warning::new("orphan-buffer", include_str!("orphan-buffer.md"));
/// A part of the program met something that its authors thought impossible.
pub static PANIC: Warning = Warning::new("panic", include_str!("panic.md"));
/// The system does not tell when files change, so the folder is looked at every two seconds.
pub static POLLING_INSTEAD: Warning =
    Warning::new("polling-instead", include_str!("polling-instead.md"));
/// The address of `api` in `forebay.yaml` cannot be listened at.
pub static PORT_IN_USE: Warning = Warning::new("port-in-use", include_str!("port-in-use.md"));
/// Messages could not be handled, and nobody reads the node's `errors` output: they are gone.
pub static REFUSED_MESSAGES: Warning =
    Warning::new("refused-messages", include_str!("refused-messages.md"));
/// The files on disk have an error, and what ran before goes on.
pub static RELOAD_REFUSED: Warning =
    Warning::new("reload-refused", include_str!("reload-refused.md"));
/// A node was removed from the files while messages waited in front of it.
pub static REMOVED_WITH_BACKLOG: Warning =
    Warning::new("removed-with-backlog", include_str!("removed-with-backlog.md"));
/// A second signal ended the program before it had sent what was queued.
pub static STOPPED_AT_ONCE: Warning =
    Warning::new("stopped-at-once", include_str!("stopped-at-once.md"));
/// The program ended before everything was delivered.
pub static STOPPED_WITH_MESSAGES: Warning =
    Warning::new("stopped-with-messages", include_str!("stopped-with-messages.md"));
/// A node or connection cannot do its work now, and goes on trying.
pub static TRIED_AGAIN: Warning = Warning::new("tried-again", include_str!("tried-again.md"));
/// Something went wrong in a node, and nothing is lost by it.
pub static TROUBLE: Warning = Warning::new("trouble", include_str!("trouble.md"));
/// A node had an error that is not about a message, and nobody reads its `errors` output.
pub static UNHEARD_ERROR: Warning = Warning::new("unheard-error", include_str!("unheard-error.md"));

/// All of them, by name.
pub static WARNINGS: [&Warning; 30] = [
    &API_CERTIFICATE,
    &BROKEN_NODE,
    &BUFFER_DAMAGED,
    &BUFFER_DISK_FAILS,
    &BUFFER_REMOVED,
    &COPY_NOT_KEPT,
    &DATA_FOLDER_NOT_LOCKED,
    &DATA_FOLDER_NOT_WRITABLE,
    &DATA_FOLDER_STAYS,
    &DROPPED_MESSAGES,
    &LAST_GOOD_CANNOT_RUN,
    &LAST_GOOD_RUNS,
    &LASTING_TROUBLE,
    &LOG_LEVEL_FORCED,
    &LOST_MESSAGES,
    &NO_PIPELINE_LEFT,
    &NO_SOCKET,
    &NOT_DONE_AT_STOP,
    &ORPHAN_BUFFER,
    &PANIC,
    &POLLING_INSTEAD,
    &PORT_IN_USE,
    &REFUSED_MESSAGES,
    &RELOAD_REFUSED,
    &REMOVED_WITH_BACKLOG,
    &STOPPED_AT_ONCE,
    &STOPPED_WITH_MESSAGES,
    &TRIED_AGAIN,
    &TROUBLE,
    &UNHEARD_ERROR,
];
