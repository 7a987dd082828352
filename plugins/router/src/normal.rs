//! From the answers of a router to the groups of a message: the same names and units whatever router and
//! firmware it is. What a router does not say is not there. Pure.

use std::collections::BTreeMap;

use forebay_sdk::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    figures::{Figures, Said, number, truth},
    group::{Group, Part},
    modem::{self, Identifiers},
    network,
};

/// The answers of a router, as far as it has them.
pub type Raw = BTreeMap<Part, Value>;

/// What the kernel scales loads by, where a firmware says them as they come: as whole multiples of the step.
const LOAD_SCALE: f64 = 65_536.0;
const LOAD_STEP: f64 = 32.0;
const HIGHEST_LOAD: f64 = 256.0;

/// What a group says. None when the router has nothing of it. The group `data` has a memory, and is told by
/// [`crate::counters::Counters`].
pub fn group(group: Group, raw: &Raw, identifiers: Identifiers, now: Timestamp) -> Option<Value> {
    let first = raw.get(group.parts().first()?)?;
    match group {
        Group::Signal => modem::signal(first, identifiers),
        Group::Data => None,
        Group::System => system(first),
        Group::Wan => network::wan(first, raw.get(&Part::Internet)),
        Group::Interfaces => network::interfaces(first),
        Group::Gps => gps(first),
        Group::Io => io(first),
        Group::Pulses => pulses(first, raw.get(&Part::Counter)),
        Group::Device => device(first, identifiers),
        Group::Clock => clock(first, now),
    }
}

/// The seconds since the router booted.
pub fn uptime(usage: &Value) -> Option<u64> {
    let usage = Figures::of(usage);
    let seconds = usage.count(&["uptime_seconds"]).or_else(|| usage.count(&["uptime_s"]));
    seconds.or_else(|| {
        let text = usage.text(&["uptime"])?;
        text.parse().ok().or_else(|| spelled_out(&text))
    })
}

/// `2d 12h 22m 40s`.
fn spelled_out(text: &str) -> Option<u64> {
    let mut seconds = 0_u64;
    for word in text.split_whitespace() {
        let (count, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
        let scale = match unit {
            "d" => 86_400,
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(count.parse::<u64>().ok()?.checked_mul(scale)?)?;
    }
    (seconds > 0).then_some(seconds)
}

fn system(usage: &Value) -> Option<Value> {
    let all = Figures::of(usage);
    let mut said = Said::default();
    said.put("uptime", uptime(usage));
    let load = all.inside("load");
    let of = |names: &[&str]| load.float(names).filter(|load| *load >= 0.0);
    let loads = [&["min1", "1", "1min"], &["min5", "5", "5min"], &["min15", "15", "15min"]];
    let loads = loads.map(|names| of(names));
    let are_scaled = loads.iter().flatten().all(|load| load % LOAD_STEP == 0.0);
    let is_scaled = |load: f64| are_scaled || load > HIGHEST_LOAD;
    let unscaled = |load: f64| if is_scaled(load) { load / LOAD_SCALE } else { load };
    let [one, five, fifteen] = loads.map(|load| load.map(unscaled));
    // One of them stands alone in older firmwares, without saying of which time. In those that have all, it is this one.
    let alone = || all.float(&["loadavg"]).filter(|load| *load >= 0.0);
    said.put("load_1m", one);
    said.put("load_5m", five);
    said.put("load_15m", fifteen.or_else(alone));
    let size =
        |name: &str| all.number(&[name]).filter(|it| it.as_f64().is_some_and(|it| it >= 0.0));
    for (ours, theirs) in [
        ("memory_total", "ram_total"),
        ("memory_used", "ram_used"),
        ("memory_free", "ram_free"),
        ("flash_total", "flash_total"),
        ("flash_used", "flash_used"),
        ("flash_free", "flash_free"),
    ] {
        said.put(ours, size(theirs));
    }
    for (ours, theirs) in
        [("memory_percent", "ram_percentage"), ("flash_percent", "flash_percentage")]
    {
        said.put(ours, all.within(&[theirs], 0.0, 100.0));
    }
    said.put("temperature", all.within(&["board_temperature", "cpu_temperature"], -60.0, 150.0));
    said.done()
}

/// No position without a fix: a router goes on to say the last one that it had.
fn gps(position: &Value) -> Option<Value> {
    let all = Figures::of(position);
    let mut said = Said::default();
    let latitude = all.float(&["latitude", "lat"]).filter(|it| it.abs() <= 90.0);
    let longitude =
        all.float(&["longitude", "longtitude", "lon", "lng"]).filter(|it| it.abs() <= 180.0);
    let satellites = all.count(&["satellites", "sats", "satellites_used"]);
    let is_nowhere = latitude == Some(0.0) && longitude == Some(0.0);
    let fix = all.get(&["fix_status", "fix", "status"]).is_some_and(is_fix)
        && satellites != Some(0)
        && latitude.is_some()
        && longitude.is_some()
        && !is_nowhere;
    said.put("fix", Some(fix));
    if fix {
        said.put("latitude", latitude);
        said.put("longitude", longitude);
        said.put("altitude", all.within(&["altitude", "alt"], -1000.0, 100_000.0));
        said.put("speed", all.within(&["speed"], 0.0, 2000.0));
        said.put("course", all.within(&["angle", "course", "heading"], 0.0, 360.0));
        let accuracy = all.number(&["accuracy", "hdop"]);
        said.put("accuracy", accuracy.filter(|it| it.as_f64().is_some_and(|it| it >= 0.0)));
        said.put("satellites", satellites);
        said.put("time", all.number(&["utc_timestamp", "timestamp"]).and_then(|it| moment(&it)));
    }
    said.done()
}

fn is_fix(status: &Value) -> bool {
    const WORDS: [&str; 8] = ["fix", "fixed", "2d", "3d", "2d fix", "3d fix", "valid", "a"];
    match (number(status), status) {
        (Some(number), _) => number.as_f64().is_some_and(|fix| fix > 0.0),
        (None, Value::String(text)) => {
            WORDS.iter().any(|word| text.trim().eq_ignore_ascii_case(word))
                || truth(status) == Some(true)
        }
        (None, other) => truth(other) == Some(true),
    }
}

/// A moment in seconds or milliseconds since 1970, as RFC 3339.
fn moment(number: &serde_json::Number) -> Option<String> {
    const IN_MILLIS: f64 = 1e11;
    const NANOS: f64 = 1e9;
    const LATEST: f64 = 9e9;
    let found = number.as_f64()?;
    let seconds = if found.abs() > IN_MILLIS { found / 1000.0 } else { found };
    let is_sane = (1.0..LATEST).contains(&seconds);
    is_sane.then(|| Timestamp::from_unix_nanos((seconds * NANOS) as i64).to_rfc3339())
}

/// The inputs and outputs of an answer, with their names.
fn pins(rows: &Value) -> Vec<(String, Figures<'_>)> {
    let named: Vec<(Option<&String>, &Value)> = match rows {
        Value::Array(rows) => rows.iter().map(|row| (None, row)).collect(),
        Value::Object(rows) => rows.iter().map(|(name, row)| (Some(name), row)).collect(),
        _ => Vec::new(),
    };
    let named = named.into_iter().filter_map(|(key, row)| {
        let pin = Figures::of(row);
        Some((pin.text(&["id", "io_name", "name"]).or_else(|| key.cloned())?, pin))
    });
    named.collect()
}

/// Inputs and outputs by their names: true and false, or the number of an analog one.
fn io(rows: &Value) -> Option<Value> {
    let mut said = Map::new();
    for (name, pin) in pins(rows) {
        let state = pin.text(&["state"]).map(|state| state.to_ascii_lowercase());
        let value = match (pin.get(&["value"]), state.as_deref()) {
            (Some(value), _) if is_digital(&name) => truth(value).map(Value::from),
            (Some(value), _) => number(value).map(Value::from),
            (None, Some("closed" | "wet" | "active" | "on" | "high")) => Some(true.into()),
            (None, Some("open" | "dry" | "inactive" | "off" | "low")) => Some(false.into()),
            (None, _) => None,
        };
        if let Some(value) = value {
            said.insert(name, value);
        }
    }
    (!said.is_empty()).then(|| said.into())
}

/// What the impulse counter of the router has counted, by input. None while it does not count.
fn pulses(rows: &Value, counter: Option<&Value>) -> Option<Value> {
    let counts = counter.and_then(|counter| Figures::of(counter).truth(&["state"]));
    if counts == Some(false) {
        return None;
    }
    let mut said = Said::default();
    for (name, pin) in pins(rows) {
        said.put(&name, pin.count(&["count"]));
    }
    said.done()
}

fn is_digital(name: &str) -> bool {
    !["adc", "acl", "therm", "analog"].iter().any(|analog| name.contains(analog))
}

fn device(status: &Value, identifiers: Identifiers) -> Option<Value> {
    let all = Figures::of(status);
    let (made, fixed) = (all.inside("mnfinfo"), all.inside("static"));
    let either = |names: &[&str]| fixed.text(names).or_else(|| all.text(names));
    let mut said = Said::default();
    said.put("name", either(&["device_name", "hostname"]));
    let model = made.text(&["name"]).or_else(|| either(&["model", "board_name", "device_model"]));
    said.put("model", model);
    said.put("firmware", either(&["fw_version", "firmware", "version"]));
    said.put("built", either(&["fw_build_date"]));
    said.put("kernel", either(&["kernel"]));
    said.put("cpus", fixed.count(&["cpu_count"]));
    if identifiers == Identifiers::Shown {
        said.put("serial", made.text(&["serial"]).or_else(|| all.text(&["serial"])));
        said.put("mac", made.text(&["mac"]));
    }
    said.done()
}

fn clock(usage: &Value, now: Timestamp) -> Option<Value> {
    let seconds = Figures::of(usage).number(&["localtime"])?;
    let mut said = Said::default();
    said.put("time", Some(moment(&seconds)?));
    said.put("is_set", Some(now.clock_was_set()));
    if now.clock_was_set() {
        let ours = now.unix_millis().div_euclid(1000);
        said.put("ahead", seconds.as_i64().map(|theirs| theirs.saturating_sub(ours)));
    }
    said.done()
}

/// What conditions on sinks can ask, by name. What is not known is not there.
pub fn link(raw: &Raw, data: Option<&Value>, now: Timestamp) -> Map<String, Value> {
    let mut link = Map::new();
    let of = |it| group(it, raw, Identifiers::Hidden, now);
    if let Some(Value::Object(signal)) = of(Group::Signal) {
        link.extend(signal);
    }
    if let Some(Value::Object(mut wan)) = of(Group::Wan) {
        let kind = wan.remove("kind");
        link.extend(kind.map(|kind| ("wan".to_owned(), kind)));
        link.extend(wan.remove("internet").map(|it| ("internet".to_owned(), it)));
    }
    for period in ["today", "month"] {
        let of = |way: &str| data?.get(period)?.get(way)?.as_u64();
        let sum = of("up").zip(of("down")).map(|(up, down)| up.saturating_add(down));
        link.extend(sum.map(|bytes| (period.to_owned(), json!(bytes))));
    }
    link
}
