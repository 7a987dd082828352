//! The time of connections: what the nodes of one ask of it, all files taken together.

use std::{any::Any, collections::BTreeMap, time::Duration};

use forebay_sdk::{Busy, Finding};

use super::index::Connections;
use crate::{
    config::{Draft, Part},
    rules::POLLS_TOO_FAST,
};

/// From this share on there is no room for an answer that is late.
const NEARLY_ALL: f64 = 0.8;
/// Of a bus with fifty meters, nobody wants to see all.
const MOST_SHOWN: usize = 6;

/// Reports connections that are asked for more time than there is, or nearly.
pub(super) fn check(draft: &Draft, connections: &Connections<'_>, findings: &mut Vec<Finding>) {
    let mut by_connection: BTreeMap<&str, (&Part, Vec<&Part>)> = BTreeMap::new();
    for part in draft.parts.iter().filter(|part| part.configured.is_some()) {
        let Some(connection) = part.uses.as_ref().and_then(|uses| connections.get(uses)) else {
            continue;
        };
        let (_, users) = by_connection.entry(&connection.name).or_insert((connection, Vec::new()));
        users.push(part);
    }
    for (connection, users) in by_connection.into_values() {
        let mut load = load(connection, &users);
        // The one that takes most first.
        load.sort_by(|(_, one), (_, other)| share(other).total_cmp(&share(one)));
        if load.iter().map(|(_, busy)| share(busy)).sum::<f64>() >= NEARLY_ALL {
            findings.push(too_busy(connection, &load));
        }
    }
}

/// How much of the connection's time its users take, as far as it can say.
fn load<'a>(connection: &Part, users: &[&'a Part]) -> Vec<(&'a Part, Busy)> {
    let Some(configured) = &connection.configured else { return Vec::new() };
    let settings: Vec<&dyn Any> = users
        .iter()
        .filter_map(|user| user.configured.as_ref())
        .map(|configured| &**configured as &dyn Any)
        .collect();
    let load = configured.load(&settings).into_iter().filter(|busy| !busy.every.is_zero());
    load.filter_map(|busy| Some((*users.get(busy.user)?, busy))).collect()
}

fn too_busy(connection: &Part, users: &[(&Part, Busy)]) -> Finding {
    let total: f64 = users.iter().map(|(_, busy)| share(busy)).sum();
    let (node, busy) = &users[0];
    let others = &users[1..];
    let takes = |busy: &Busy| {
        let (takes, every) = (shown(busy.takes), shown(busy.every));
        format!("one cycle takes {takes} of each {every} ({})", percent(share(busy)))
    };
    let name = &connection.short;
    let message = match (total > 1.0, others) {
        (true, []) => format!("`{}` asks for more time than `{name}` has", node.short),
        (true, _) => format!("the nodes on `{name}` ask for {} of its time", percent(total)),
        (false, _) => format!("`{name}` is busy for {} of its time", percent(total)),
    };
    let span = node.settings.at(&busy.setting).span;
    let mut finding = Finding::warning(&POLLS_TOO_FAST, span, message, takes(busy));
    for (other, busy) in others.iter().take(MOST_SHOWN) {
        finding = finding.context(other.settings.at(&busy.setting).span, takes(busy));
    }
    if span.file == node.name_span.file {
        finding = finding.context(node.name_span, "");
    }
    finding = finding.context(connection.name_span, "");
    let consequence = match total > 1.0 {
        true => "what does not fit is skipped, so values come less often",
        false => "one late answer, and polls are skipped",
    };
    finding
        .note(format!("a cycle of `{}` is {}; {consequence}", node.short, busy.why))
        .help(advice(users))
}

/// How all of it would take less than [`NEARLY_ALL`] of the time.
fn advice(users: &[(&Part, Busy)]) -> String {
    let (node, busy) = &users[0];
    let others: f64 = users[1..].iter().map(|(_, busy)| share(busy)).sum();
    let mut advice = match NEARLY_ALL - others {
        // Slowing down the busiest is enough.
        rest if rest > NEARLY_ALL / 4.0 => {
            let every = shown(round_up(busy.takes.div_f64(rest)));
            format!("with `{}: {every}`, `{}` leaves room", busy.setting, node.short)
        }
        _ => "poll less often, or put some of the devices on a line of their own".to_owned(),
    };
    let less = users.iter().filter_map(|(node, busy)| Some((node, busy.less.as_ref()?)));
    for (node, (change, takes)) in less.take(2) {
        advice += &format!("; with {change}, a cycle of `{}` takes {}", node.short, shown(*takes));
    }
    advice
}

fn share(busy: &Busy) -> f64 {
    busy.takes.as_secs_f64() / busy.every.as_secs_f64()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// In the largest unit that suits: `412ms`, `1.5s`.
fn shown(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    match millis {
        millis if millis < 1000.0 => format!("{millis:.0}ms"),
        millis if millis < 60_000.0 => format!("{}s", (millis / 10.0).round() / 100.0),
        millis => format!("{}m", (millis / 600.0).round() / 100.0),
    }
}

/// To a figure that somebody would write.
fn round_up(time: Duration) -> Duration {
    const STEPS: [f64; 8] = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5];
    let millis = time.as_secs_f64() * 1000.0;
    let power = 10_f64.powf(millis.log10().floor());
    let step = STEPS.into_iter().map(|step| step * power).find(|step| *step >= millis);
    Duration::from_secs_f64(step.unwrap_or(10.0 * power) / 1000.0)
}
