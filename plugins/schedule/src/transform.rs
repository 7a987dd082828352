//! A gate that is open at certain times.

use std::sync::Arc;

use forebay_sdk::{
    Capabilities, Configured, Emitter, Fields, Input, Node, Site, Timestamp, Topics, Transform,
    Zone, zone::Date,
};

use crate::{
    moment::{Day, Moment},
    sun::Place,
};

/// A node that was understood. It remembers nothing.
#[derive(Clone)]
pub(crate) struct Gate {
    pub open: Arc<[Span]>,
    pub zone: Zone,
    pub place: Option<Place>,
}

/// A part of some days.
pub(crate) struct Span {
    pub days: Vec<Day>,
    pub from: Moment,
    pub to: Moment,
}

impl Configured for Gate {
    fn build(&self, _: Site) -> Node {
        Node::transform(self.clone())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { errors: false, ..Capabilities::default() }
    }

    fn fields(&self) -> Fields {
        Fields::passing([])
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

impl Transform for Gate {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let now = out.now().wall;
        // Nobody knows what time it is, so nothing is dropped.
        if !now.clock_was_set() || self.is_open(now) {
            out.emit(input.message);
        }
        Ok(())
    }
}

impl Gate {
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        let today = self.zone.local(now).date();
        // What began yesterday may last until today.
        let days = [today.yesterday().ok(), Some(today)];
        self.open.iter().any(|span| days.iter().flatten().any(|day| self.lasts(span, *day, now)))
    }

    fn lasts(&self, span: &Span, day: Date, now: Timestamp) -> bool {
        let on = |moment: Moment, day: Date| moment.on(day, &self.zone, self.place);
        if !Day::includes(&span.days, day) {
            return false;
        }
        let Some(from) = on(span.from, day) else { return false };
        let to =
            on(span.to, day).filter(|to| *to > from).or_else(|| on(span.to, day.tomorrow().ok()?));
        to.is_some_and(|to| from <= now && now < to)
    }
}
