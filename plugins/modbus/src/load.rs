//! How much of the time of a bus its nodes ask for, as far as anybody can say before they run.

use std::{any::Any, time::Duration};

use forebay_sdk::{Busy, Period};

use crate::{
    block::Block,
    bus::Bus,
    plan::{Limits, Merging, plan},
    serial::TURN_AROUND,
    source::ModbusSource,
    sunspec,
};

/// A change that leaves more of the time than this is not worth a word.
const WORTH_IT: f64 = 0.8;

/// What each of the users takes. Their requests are all their own: each source makes its own plan.
pub fn load(bus: &Bus, users: &[&dyn Any]) -> Vec<Busy> {
    let sources = users.iter().enumerate();
    let sources =
        sources.filter_map(|(user, any)| Some((user, any.downcast_ref::<ModbusSource>()?)));
    sources.filter_map(|(user, source)| busy(bus, user, source)).collect()
}

/// None when nobody knows: how long a device on the network takes is not said anywhere.
fn busy(bus: &Bus, user: usize, source: &ModbusSource) -> Option<Busy> {
    let requests = &requests(bus, source, source.reading.merging);
    let takes = bus.time_of(requests) * source.units.len() as u32;
    if takes.is_zero() {
        return None;
    }
    let less = less(bus, source).filter(|(_, less)| *less < takes.mul_f64(WORTH_IT));
    let (every, mut why) = (*source.every, bus.why(requests));
    if source.units.len() > 1 {
        why += &format!(", for each of {} devices", source.units.len());
    }
    Some(Busy { user, setting: "every".into(), every, takes, why, less })
}

impl Bus {
    fn time_of(&self, requests: &[Block]) -> Duration {
        let on_the_line =
            |request: &Block| self.line.map_or(Duration::ZERO, |line| line.time_of(*request));
        requests.iter().map(|request| on_the_line(request) + *self.pause).sum()
    }

    /// How that time comes about.
    fn why(&self, requests: &[Block]) -> String {
        let mut why = count(requests);
        if let Some(line) = self.line {
            why += &format!(" at {}, each answered after {}", line.words(), Period(TURN_AROUND));
        }
        if !self.pause.is_zero() {
            why += &format!(", and `pause: {}` after each", self.pause);
        }
        why
    }
}

fn requests(bus: &Bus, source: &ModbusSource, merging: Merging) -> Vec<Block> {
    let (fields, _) = sunspec::assume(&source.reading.fields);
    let blocks: Vec<Block> = fields.iter().map(|field| field.block).collect();
    let requests = plan(&blocks, &Limits::of(merging), |block| bus.cost(block));
    requests.into_iter().map(|request| request.block).collect()
}

/// What a poll would take if `max_gap` were left to the planner.
fn less(bus: &Bus, source: &ModbusSource) -> Option<(String, Duration)> {
    source.reading.merging.max_gap?;
    let requests = requests(bus, source, Merging { max_gap: None, ..source.reading.merging });
    Some((
        format!("no `max_gap` ({})", count(&requests)),
        bus.time_of(&requests) * source.units.len() as u32,
    ))
}

fn count(requests: &[Block]) -> String {
    match requests.len() {
        1 => "1 request".to_owned(),
        count => format!("{count} requests"),
    }
}
