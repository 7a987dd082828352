//! The status as it changes, as server-sent events: first all of it, then what is another since, as JSON merge
//! patches (RFC 7396). Over a slow link it is told less often, and no less.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::question::{Question, Wanted};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A line without a change, so often, tells both sides that the other is there.
const MOST_QUIET: u32 = 15;

/// Of memory, a quarter of a mebibyte is seen.
const MEMORY_BITS: u32 = 18;

/// Follows the status for one who looks on, until it looks no more.
pub(super) fn follow(ask: mpsc::Sender<Question>) -> mpsc::Receiver<String> {
    // Not one more than the link takes: what changes meanwhile is in the next.
    let (say, lines) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut quiet) = (Value::Null, 0);
        loop {
            tokio::select! {
                _ = looks.tick() => (),
                () = say.closed() => return,
            }
            // None while the program ends.
            let Some(status) = Question::ask(&ask, Wanted::Status).await else { return };
            let Ok(status) = serde_json::from_str(&status) else { return };
            let (mut now, running_for) = by_name(status);
            let event = if told.is_null() {
                told = now.clone();
                now["running_for_s"] = running_for;
                event("status", &now)
            } else if let Some(mut patch) = change(&mut told, &now) {
                patch["running_for_s"] = running_for;
                event("change", &patch)
            } else if quiet < MOST_QUIET {
                quiet += 1;
                continue;
            } else {
                ":\n".to_owned()
            };
            quiet = 0;
            if say.send(event).await.is_err() {
                return;
            }
        }
    });
    lines
}

/// In the form of HTML's section 9.2.6; the line's end comes with the body.
fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n")
}

/// Lists of what has a name become maps, so that one of them can change, and ages become times since the program
/// began, which stand; how long ago that was is apart.
fn by_name(mut status: Value) -> (Value, Value) {
    let running_for = status["running_for_s"].take();
    let began = running_for.as_i64().unwrap_or_default();
    for list in ["nodes", "connections"] {
        let parts = status[list].as_array_mut().map(std::mem::take).unwrap_or_default();
        let named = parts.into_iter().filter_map(|mut part| {
            since(&mut part, "for_s", "since_s", began);
            since(&mut part["last_error"], "ago_s", "at_s", began);
            since(&mut part["failing"], "for_s", "since_s", began);
            let name = part.as_object_mut()?.remove("name")?;
            Some((name.as_str()?.to_owned(), rounded(without_nulls(part))))
        });
        status[list] = Value::Object(named.collect());
    }
    // Pages of memory come and go all the time.
    if let Some(memory) = status["memory_bytes"].as_u64() {
        status["memory_bytes"] = (memory >> MEMORY_BITS << MEMORY_BITS).into();
    }
    (without_nulls(status), running_for)
}

fn since(part: &mut Value, age: &str, time: &str, now: i64) {
    if let Some(fields) = part.as_object_mut()
        && let Some(age) = fields.remove(age).and_then(|age| age.as_i64())
    {
        fields.insert(time.to_owned(), (now - age).into());
    }
}

/// In a patch, null is what is gone.
fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

/// Rates, shares and times that were measured, with the three digits that somebody sees. The others cost more than all the rest.
fn rounded(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.values_mut().for_each(|field| *field = rounded(field.take()));
    }
    match value.as_f64().filter(|float| float.fract() != 0.0) {
        // In decimal digits, so that JSON has no more of them either.
        Some(float) => format!("{float:.2e}").parse::<f64>().map_or(value, Value::from),
        None => value,
    }
}

/// Brings what was told to what is now, and says how. None when nothing is another.
fn change(told: &mut Value, now: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (&mut *told, now) else {
        return (!is_same(told, now)).then(|| {
            told.clone_from(now);
            now.clone()
        });
    };
    let gone: Vec<String> =
        before.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
    let mut patch = Map::new();
    for key in gone {
        before.remove(&key);
        patch.insert(key, Value::Null);
    }
    for (key, value) in after {
        let changed = match before.get_mut(key) {
            Some(old) if key.ends_with("_s") && is_near(old, value) => None,
            Some(old) => change(old, value),
            None => {
                before.insert(key.clone(), value.clone());
                Some(value.clone())
            }
        };
        patch.extend(changed.map(|changed| (key.clone(), changed)));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Times in whole seconds, of which one was made of two, may be off by one.
fn is_near(old: &Value, new: &Value) -> bool {
    matches!((old.as_i64(), new.as_i64()), (Some(old), Some(new)) if old.abs_diff(new) <= 1)
}

/// Nobody sees the hundredth part of a rate or a level change.
fn is_same(old: &Value, new: &Value) -> bool {
    match (old.as_f64(), new.as_f64()) {
        (Some(old), Some(new)) if new.fract() != 0.0 => (old - new).abs() < 0.005 * new.abs(),
        _ => old == new,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(running_for_s: u64, nodes: Value) -> Value {
        json!({ "running_for_s": running_for_s, "nodes": nodes, "connections": [] })
    }

    /// The patch from one status to another. Whoever applies it has the other.
    fn told(old: Value, new: Value) -> Option<Value> {
        let (mut told, (now, _)) = (by_name(old).0, by_name(new));
        let patch = change(&mut told, &now);
        assert_eq!(change(&mut told, &now), None);
        patch
    }

    #[test]
    fn what_only_became_older_was_told_each_second() {
        let node =
            |for_s, sent| json!([{ "name": "a/b", "for_s": for_s, "counts": { "sent": sent } }]);
        let (old, new) = (status(10, node(3, 7)), status(11, node(4, 7)));
        assert_eq!(told(old.clone(), new), None);
        // Rounded in another direction.
        assert_eq!(told(old.clone(), status(12, node(4, 7))), None);
        let failing = |for_s| json!([{ "name": "a/b", "failing": { "for_s": for_s } }]);
        assert_eq!(told(status(40, failing(30)), status(41, failing(31))), None);
        let more = json!({ "nodes": { "a/b": { "counts": { "sent": 8 } } } });
        assert_eq!(told(old, status(11, node(4, 8))), Some(more));
    }

    #[test]
    fn a_node_that_is_gone_stayed_in_the_picture() {
        let old = status(1, json!([{ "name": "a", "why": "gone" }, { "name": "b" }]));
        let new = status(1, json!([{ "name": "a" }, { "name": "c", "for_s": 1 }]));
        let patch = json!({ "nodes": { "a": { "why": null }, "b": null, "c": { "since_s": 0 } } });
        assert_eq!(told(old, new), Some(patch));
    }

    #[test]
    fn digits_that_nobody_sees_were_sent_each_second() {
        let measured = json!({ "a": 0.490_224_33, "b": [1.5], "c": { "d": 12.345_6, "e": 123_456.7 }, "f": 7, "g": 0.0 });
        let seen =
            json!({ "a": 0.49, "b": [1.5], "c": { "d": 12.3, "e": 123_000.0 }, "f": 7, "g": 0.0 });
        assert_eq!(rounded(measured), seen);
    }

    #[test]
    fn a_rate_that_moves_by_a_hair_is_no_change() {
        let node = |rate| json!([{ "name": "a", "per_second": { "sent": rate } }]);
        assert_eq!(told(status(1, node(9.98)), status(1, node(9.99))), None);
        assert!(told(status(1, node(9.98)), status(1, node(8.99))).is_some());
        assert!(told(status(1, node(9.98)), status(1, node(0.0))).is_some());
    }
}
