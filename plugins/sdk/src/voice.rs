//! How a node or a connection tells the engine how it is. What is counted here is what `status`,
//! `top` and the metrics show; what is told here the engine logs, once for all and not too often.

use std::{fmt, sync::Arc};

/// A number that a node or connection counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Figure {
    /// Bytes that came over the wire, without those of TCP and TLS.
    BytesIn,
    /// Bytes that went over the wire, without those of TCP and TLS.
    BytesOut,
    /// Bytes that were written to disk, which wears out flash.
    BytesToDisk,
    /// Messages that were dropped because there was no room for them.
    Dropped,
    /// Beats, polls or turns that were skipped because the one before took too long.
    Overruns,
}

/// What stands behind a [`Voice`]. The engine implements it; so do tests.
pub trait Hears: Send + Sync {
    /// See [`Voice::ready`].
    fn ready(&self);
    /// See [`Voice::works`].
    fn works(&self) {}
    /// See [`Voice::trouble`].
    fn trouble(&self, error: &anyhow::Error);
    /// See [`Voice::trouble_lasts`].
    fn trouble_lasts(&self, what: &str, why: &anyhow::Error);
    /// See [`Voice::trouble_is_over`].
    fn trouble_is_over(&self, what: &str);
    /// See [`Voice::count`].
    fn count(&self, figure: Figure, by: u64);
    /// See [`Voice::dropped`].
    fn dropped(&self, by: u64, why: &str);
    /// See [`Voice::busy`].
    fn busy(&self, share: f64);
    /// See [`Voice::held_up_by`].
    fn held_up_by(&self) -> Option<Arc<str>> {
        None
    }
}

/// How a node or a connection tells how it is. Cloning shares it.
#[derive(Clone)]
pub struct Voice(Arc<dyn Hears>);

impl Voice {
    /// A voice that is heard there.
    pub fn new(hears: Arc<dyn Hears>) -> Voice {
        Voice(hears)
    }

    /// A voice that nobody hears, for tests.
    pub fn unheard() -> Voice {
        struct Nobody;
        impl Hears for Nobody {
            fn ready(&self) {}
            fn trouble(&self, _: &anyhow::Error) {}
            fn trouble_lasts(&self, _: &str, _: &anyhow::Error) {}
            fn trouble_is_over(&self, _: &str) {}
            fn count(&self, _: Figure, _: u64) {}
            fn dropped(&self, _: u64, _: &str) {}
            fn busy(&self, _: f64) {}
        }
        Voice(Arc::new(Nobody))
    }

    /// The other side is there. For a connection that is not yet the end of a trouble: many an other
    /// side lets everybody in and hangs up on the first word.
    pub fn ready(&self) {
        self.0.ready();
    }

    /// Something got through over this connection, so that it is good for something: the engine's
    /// pause after the next error starts small. Cheap, to be said of each message.
    pub fn works(&self) {
        self.0.works();
    }

    /// Something went wrong that ends nothing, such as one client of many that was refused. It is
    /// counted as an error and logged, equal ones at most once a minute.
    pub fn trouble(&self, error: &anyhow::Error) {
        self.0.trouble(error);
    }

    /// Something is wrong and stays so until it is over, such as a register that its device refuses:
    /// it is counted as one error and logged once when it begins, and once when it is over. To be said
    /// each time it is seen, as often as that is.
    ///
    /// `what` names it among the troubles of this node, in the user's words, such as
    /// `` register `flow_temp` ``; the log shows `what: why`. While it lasts, a `why` that changes is
    /// not logged. A node that is made anew begins without any.
    pub fn trouble_lasts(&self, what: &str, why: &anyhow::Error) {
        self.0.trouble_lasts(what, why);
    }

    /// The trouble of this name is over. To be said each time all is well: it costs next to nothing
    /// when there was none.
    pub fn trouble_is_over(&self, what: &str) {
        self.0.trouble_is_over(what);
    }

    /// Counts up a number that is only shown.
    pub fn count(&self, figure: Figure, by: u64) {
        self.0.count(figure, by);
    }

    /// Messages were dropped. They are counted, and the log says how many and why, now and then.
    pub fn dropped(&self, by: u64, why: &str) {
        self.0.dropped(by, why);
    }

    /// The share of its time that a bus is busy, from 0 to 1 and above, over the last minute or so.
    pub fn busy(&self, share: f64) {
        self.0.busy(share);
    }

    /// The node behind this one, as `pipeline/node`, whose buffer is full, so that this one waits for
    /// room. None when it does not.
    pub fn held_up_by(&self) -> Option<Arc<str>> {
        self.0.held_up_by()
    }
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Voice")
    }
}
