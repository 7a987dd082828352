//! Messages at times of the day.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Capabilities, Configured, Fields, Message, Node, Outlet, Payload, Sends, Site, Source,
    Timestamp, Value, World, Zone, clock,
};
use serde_json::json;

use crate::{
    moment::{Day, Moment},
    sun::Place,
};

/// As far ahead the next time is looked for: a year, for those who wait for the polar night to end.
const LOOK_AHEAD_DAYS: usize = 366;
/// After a clock was set back by more, the times in between come again.
const SET_BACK: Duration = Duration::from_secs(3600);
/// Where no time is in sight it is looked for again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(86_400);

/// A source that was understood.
#[derive(Clone)]
pub(crate) struct Schedule {
    pub at: Arc<[Moment]>,
    pub days: Arc<[Day]>,
    pub zone: Zone,
    pub place: Option<Place>,
    /// None for the name of the node.
    pub topic: Option<Arc<str>>,
    /// None for the time of the event.
    pub payload: Option<Value>,
}

impl Configured for Schedule {
    fn build(&self, site: Site) -> Node {
        let topic = self.topic.clone().unwrap_or(site.name);
        Node::source(Scheduled { schedule: self.clone(), topic, world: site.world, told: None })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { errors: false, ..Capabilities::default() }
    }

    fn fields(&self) -> Fields {
        let sends = match &self.payload {
            None => Sends::Only(["at".to_owned()].into()),
            Some(Value::Object(fields)) => Sends::Only(fields.keys().cloned().collect()),
            Some(_) => Sends::Unknown,
        };
        Fields { reads: Vec::new(), sends }
    }
}

struct Scheduled {
    schedule: Schedule,
    topic: Arc<str>,
    world: World,
    /// The time that was told last.
    told: Option<Timestamp>,
}

impl Source for Scheduled {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        out.ready();
        let mut since = Timestamp::now();
        loop {
            let now = clock::now();
            // Before the clock is set no time of the day is known.
            let next = match now.wall.clock_was_set() {
                true => self.schedule.next(self.after(since, now.wall)),
                false => None,
            };
            let wait = match next {
                Some(next) => tokio::time::sleep_until(now.at_wall(next)),
                None => tokio::time::sleep(LOOK_AGAIN),
            };
            tokio::select! {
                biased;
                () = wait => (),
                () = self.world.clock_was_moved() => {
                    // What a jump leaves out is over.
                    since = Timestamp::now();
                    continue;
                }
            }
            let Some(next) = next.filter(|next| *next <= Timestamp::now()) else { continue };
            since = next;
            self.told = Some(next);
            let payload =
                self.schedule.payload.clone().unwrap_or_else(|| json!({ "at": next.to_rfc3339() }));
            out.send(Message::new(Arc::clone(&self.topic), Payload::from(payload))).await;
        }
    }
}

impl Scheduled {
    /// From where the next time is looked for: none is told twice because somebody corrected the clock.
    fn after(&self, since: Timestamp, now: Timestamp) -> Timestamp {
        let is_near = |told: &Timestamp| {
            let ahead = told.unix_nanos().saturating_sub(now.unix_nanos());
            ahead <= i64::try_from(SET_BACK.as_nanos()).unwrap_or(i64::MAX)
        };
        match self.told.filter(is_near) {
            Some(told) => since.max(told),
            None => since,
        }
    }
}

impl Schedule {
    /// The first time after a moment.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut day = self.zone.local(after).date().yesterday().ok()?;
        let mut found: Option<Timestamp> = None;
        for _ in 0..LOOK_AHEAD_DAYS {
            if Day::includes(&self.days, day) {
                let times =
                    self.at.iter().filter_map(|moment| moment.on(day, &self.zone, self.place));
                let next = times.filter(|time| *time > after).min();
                // The evening of one day may be later than the morning of the next.
                match (found, next) {
                    (Some(before), Some(next)) => return Some(before.min(next)),
                    (Some(before), None) => return Some(before),
                    (None, next) => found = next,
                }
            } else if found.is_some() {
                return found;
            }
            day = day.tomorrow().ok()?;
        }
        found
    }
}
