//! What can be written, and is mostly not meant, or not taken.

use forebay_sdk::{Period, Problem};

use crate::rules::{LITERAL_PLACEHOLDER, LONG_CLIENT_ID, RESERVED_TOPIC, UNFIT_KEEP_ALIVE};

/// The most bytes of a client id that every broker of MQTT 3.1.1 takes [MQTT-3.1.3-5].
const SURE_CLIENT_ID: usize = 23;
/// The most that there can be.
const MOST_CLIENT_ID: usize = 65_535;
/// Above this, in seconds, a network on the way may have forgotten the connection; below it, it may only be slow.
const FIT_KEEP_ALIVE: std::ops::RangeInclusive<u64> = 10..=1800;

/// A client id that a broker of MQTT 3.1.1 may not take.
pub fn long_client_id(id: &str) -> Option<Problem> {
    let bytes = id.len();
    if bytes <= SURE_CLIENT_ID || bytes > MOST_CLIENT_ID {
        return endless_client_id(id);
    }
    let message = "not every broker of MQTT 3.1.1 takes such a long `client_id`";
    let label = format!("expected at most {SURE_CLIENT_ID} bytes, found {bytes}");
    let note = "most take more; when this one does, allow it with a comment";
    Some(Problem::new("client_id", message, label).note(note).rule(&LONG_CLIENT_ID).warning())
}

/// A client id that MQTT has no room for.
pub fn endless_client_id(id: &str) -> Option<Problem> {
    let bytes = id.len();
    let label = format!("expected at most {MOST_CLIENT_ID} bytes, found {bytes}");
    let problem = || Problem::new("client_id", "`client_id` is too long for MQTT", label);
    (bytes > MOST_CLIENT_ID).then(problem)
}

/// A keep-alive that the way to a broker may not bear. Without pings TCP asks.
pub fn unfit_keep_alive(keep_alive: Period) -> Option<Problem> {
    let seconds = keep_alive.as_secs();
    if keep_alive.is_zero() || FIT_KEEP_ALIVE.contains(&seconds) {
        return None;
    }
    let (message, note) = match seconds < *FIT_KEEP_ALIVE.start() {
        true => (
            "`keep_alive` is shorter than a mobile link is silent at times",
            "each ping costs some 200 bytes, and a broker ends the connection when one is late",
        ),
        false => (
            "`keep_alive` is longer than networks on the way remember a silent connection",
            "what is lost then is noticed after one and a half times `keep_alive`",
        ),
    };
    let problem = Problem::new("keep_alive", message, "expected `10s` to `30m`, such as `4m`");
    Some(problem.note(note).rule(&UNFIT_KEEP_ALIVE).warning())
}

/// What is allowed in a topic or template, and mostly not meant.
pub fn doubts(setting: &str, topic: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for prefix in ["$SYS/", "$share/"] {
        if topic.starts_with(prefix) {
            let message = format!("`{setting}` begins with `{prefix}`, where nobody publishes");
            let label = match prefix {
                "$SYS/" => "expected a topic of your own: these are the broker's",
                _ => "expected the topic alone: this is for subscriptions",
            };
            let problem = Problem::new(setting, message, label).rule(&RESERVED_TOPIC);
            problems.push(problem.inside(1, 1).warning());
        }
    }
    if let Some((at, placeholder, name)) = placeholder(topic) {
        let message = format!("`{setting}` is published as it stands, `{placeholder}` included");
        let label = "nothing is put in its place";
        let problem = Problem::new(setting, message, label).rule(&LITERAL_PLACEHOLDER);
        let help = format!("`{{{name}}}` stands for that field of the payload");
        problems.push(problem.inside(1, at + 1).help(help).warning());
    }
    problems
}

/// The first of `{{ id }}`, `${id}`, `<id>` and `%id%`, where its name begins, in characters, and that name.
fn placeholder(topic: &str) -> Option<(usize, &str, &str)> {
    [("{{", "}}"), ("${", "}"), ("<", ">"), ("%", "%")].into_iter().find_map(|(open, close)| {
        let start = topic.find(open)?;
        let name_start = start + open.len();
        let length = topic[name_start..].find(close)?;
        let inside = &topic[name_start..name_start + length];
        let name = inside.trim();
        let is_of_a_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        if name.is_empty() || !name.chars().all(is_of_a_name) {
            return None;
        }
        let blanks = inside.len() - inside.trim_start().len();
        let at = topic[..name_start + blanks].chars().count();
        Some((at, &topic[start..name_start + length + close.len()], name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_can_hardly_be_meant_is_doubted() {
        let rules = |topic: &str| {
            let doubts = doubts("topic", topic).into_iter();
            doubts.map(|doubt| (doubt.rule.name, doubt.inside)).collect::<Vec<_>>()
        };
        let at = |column| Some((1, column));
        assert_eq!(rules("$SYS/broker/uptime"), [("reserved-topic", at(1))]);
        assert_eq!(rules("$share/g/a"), [("reserved-topic", at(1))]);
        for (topic, column) in [
            ("site/${id}/power", 8),
            ("größe/{{ payload.id }}", 10),
            ("<site>/a", 2),
            ("a/%serial%", 4),
        ] {
            assert_eq!(rules(topic), [("literal-placeholder", at(column))], "{topic}");
        }
        for topic in [
            "a/b",
            "$aws/things/x",
            "$SYSTEM",
            "site/{id}",
            "50%/a",
            "a<b",
            "a/{{\"x\":1}}",
            "100%/50%",
        ] {
            assert_eq!(rules(topic), [], "{topic}");
        }
    }
}
