//! Topics that can be published to, and that are mostly not meant.

use forebay_sdk::Problem;

use crate::rules::{LITERAL_PLACEHOLDER, RESERVED_TOPIC};

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
