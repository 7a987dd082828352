//! Topic names and topic filters (MQTT 3.1.1 section 4.7).
//!
//! Our own, because rumqttc's matching never matches a topic that begins with `$`.

use forebay_sdk::Problem;

use crate::rules::{BAD_TOPIC, LITERAL_PLACEHOLDER, RESERVED_TOPIC};

/// The most bytes that a topic can have on the wire.
const MOST_BYTES: usize = 65_535;

/// Why a text is no topic, or no topic filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoTopic {
    /// What would be right.
    pub expected: String,
    /// The first character that is wrong, from 0.
    pub at: usize,
}

impl NoTopic {
    fn new(expected: impl Into<String>, at: usize) -> NoTopic {
        NoTopic { expected: expected.into(), at }
    }

    /// What lint says of a setting that holds the text.
    pub fn problem(self, setting: impl Into<String>, message: impl Into<String>) -> Problem {
        let problem = Problem::new(setting, message, self.expected);
        problem.rule(&BAD_TOPIC).inside(1, self.at + 1)
    }
}

/// What a subscription asks for: a topic in which `+` stands for one level and `#` for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    text: String,
    /// Where the filter proper begins, behind `$share/<group>/`.
    start: usize,
}

impl Filter {
    /// Reads a filter; says what would be right when it cannot.
    pub fn parse(text: &str) -> Result<Filter, NoTopic> {
        check_text(text)?;
        let start = match text.strip_prefix("$share/") {
            None => 0,
            Some(rest) => match rest.split_once('/') {
                Some((group, filter))
                    if !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty() =>
                {
                    text.len() - filter.len()
                }
                _ => return Err(NoTopic::new("expected `$share/<group>/<filter>`", 0)),
            },
        };
        let mut at = text[..start].chars().count();
        let mut levels = text[start..].split('/').peekable();
        while let Some(level) = levels.next() {
            let wildcard = |mark| level.chars().position(|c| c == mark).map(|within| at + within);
            if let Some(at) = wildcard('#').filter(|_| level != "#" || levels.peek().is_some()) {
                return Err(NoTopic::new("expected `#` only as the whole last level", at));
            }
            if let Some(at) = wildcard('+').filter(|_| level != "+") {
                return Err(NoTopic::new("expected `+` only as a whole level", at));
            }
            at += level.chars().count() + 1;
        }
        Ok(Filter { text: text.to_owned(), start })
    }

    /// The filter as its author wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this asks for all that the other asks for. Those of a group are another matter.
    pub fn covers(&self, other: &Filter) -> bool {
        if self.start > 0 || other.start > 0 {
            return false;
        }
        // The broker's own topics are left out by a wildcard at the beginning.
        if other.text.starts_with('$') && self.text.starts_with(['+', '#']) {
            return false;
        }
        let mut theirs = other.text.split('/');
        for wanted in self.text.split('/') {
            match (wanted, theirs.next()) {
                ("#", _) => return true,
                ("+", Some(level)) if level != "#" => (),
                (wanted, Some(level)) if wanted == level => (),
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether a message of this topic is asked for.
    pub fn matches(&self, topic: &str) -> bool {
        let filter = &self.text[self.start..];
        // A wildcard at the beginning leaves out the broker's own topics [MQTT-4.7.2-1].
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in filter.split('/') {
            match (wanted, levels.next()) {
                // `sport/#` asks for `sport` too.
                ("#", _) => return true,
                ("+", Some(_)) => (),
                (wanted, Some(level)) if wanted == level => (),
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

/// Checks a topic to publish to; says what would be right when it is none.
pub fn check_topic(topic: &str) -> Result<(), NoTopic> {
    check_text(topic)?;
    match topic.chars().position(|c| matches!(c, '+' | '#')) {
        Some(at) => Err(NoTopic::new("expected a topic without `+` and `#`", at)),
        None => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), NoTopic> {
    if text.is_empty() {
        return Err(NoTopic::new("expected a topic, found nothing", 0));
    }
    if text.len() > MOST_BYTES {
        let expected = format!("expected at most {MOST_BYTES} bytes, found {}", text.len());
        return Err(NoTopic::new(expected, 0));
    }
    match text.chars().enumerate().find(|(_, c)| closes_connections(*c)) {
        Some((at, c)) => {
            let expected = format!("expected a topic without the character {}", name(c));
            Err(NoTopic::new(expected, at))
        }
        None => Ok(()),
    }
}

/// Characters on which a broker may close the connection (MQTT 3.1.1 section 1.5.3), and many do:
/// control characters, and those that Unicode has set aside.
fn closes_connections(c: char) -> bool {
    let code = u32::from(c);
    c.is_control() || code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code)
}

fn name(c: char) -> String {
    let code = format!("U+{:04X}", u32::from(c));
    match c {
        '\n' => format!("{code} (a line break)"),
        '\r' => format!("{code} (a carriage return)"),
        '\t' => format!("{code} (a tab)"),
        _ => code,
    }
}

/// What is allowed in a topic that is published to, and mostly not meant.
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
    if let Some((at, placeholder)) = placeholder(topic) {
        let message = format!("`{setting}` is published as it stands, `{placeholder}` included");
        let label = "expected a topic without placeholders";
        let mut problem = Problem::new(setting, message, label).rule(&LITERAL_PLACEHOLDER);
        problem.help = Some(format!(
            "leave `{setting}` out, and set the topic of each message in a script: \
             msg.topic = `site/${{msg.payload.id}}`;"
        ));
        problems.push(problem.inside(1, at + 1).warning());
    }
    problems
}

/// The first of `{id}`, `{{ id }}`, `<id>` and `%id%`, and where its name begins, in characters.
fn placeholder(topic: &str) -> Option<(usize, &str)> {
    [("{{", "}}"), ("{", "}"), ("<", ">"), ("%", "%")].into_iter().find_map(|(open, close)| {
        let start = topic.find(open)?;
        let name_start = start + open.len();
        let length = topic[name_start..].find(close)?;
        let name = &topic[name_start..name_start + length];
        let is_of_a_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        if name.trim().is_empty() || !name.trim().chars().all(is_of_a_name) {
            return None;
        }
        let blanks = name.len() - name.trim_start().len();
        let at = topic[..name_start + blanks].chars().count();
        Some((at, &topic[start..name_start + length + close.len()]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_matches(filter: &str, yes: &[&str], no: &[&str]) {
        let filter = Filter::parse(filter).unwrap();
        for topic in yes {
            assert!(filter.matches(topic), "{filter:?} {topic}");
        }
        for topic in no {
            assert!(!filter.matches(topic), "{filter:?} {topic}");
        }
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        check_matches(
            "sport/tennis/player1",
            &["sport/tennis/player1"],
            &["sport/tennis", "sport"],
        );
        check_matches(
            "sport/#",
            &["sport", "sport/", "sport/tennis/player1"],
            &["sports", "$sport"],
        );
        check_matches("sport/+", &["sport/", "sport/tennis"], &["sport", "sport/tennis/player1"]);
        check_matches("+/+", &["/finance", "a/b"], &["finance", "$SYS/a"]);
        check_matches("/+", &["/finance"], &["finance"]);
        check_matches("#", &["a", "a/b", "/"], &["$SYS/uptime"]);
        check_matches("$SYS/#", &["$SYS/uptime", "$SYS"], &["SYS/uptime"]);
        check_matches("$share/group/a/+", &["a/b"], &["$share/group/a/b", "a"]);
        check_matches("über/+", &["über/größe"], &["uber/x"]);
    }

    #[test]
    fn a_wrong_filter_says_what_would_be_right_and_where() {
        let said = |text: &str| {
            let wrong = Filter::parse(text).unwrap_err();
            format!("{}: {}", wrong.at, wrong.expected)
        };
        assert_eq!(said(""), "0: expected a topic, found nothing");
        assert_eq!(said("a/#/b"), "2: expected `#` only as the whole last level");
        assert_eq!(said("ä/b#"), "3: expected `#` only as the whole last level");
        assert_eq!(said("#/"), "0: expected `#` only as the whole last level");
        assert_eq!(said("##"), "0: expected `#` only as the whole last level");
        assert_eq!(said("x/a+/b"), "3: expected `+` only as a whole level");
        assert_eq!(said("x/++"), "2: expected `+` only as a whole level");
        assert_eq!(said("$share/a"), "0: expected `$share/<group>/<filter>`");
        assert_eq!(said("$share/a/b#"), "10: expected `#` only as the whole last level");
        assert_eq!(said("a\0b"), "1: expected a topic without the character U+0000");
        assert_eq!(said("q\tr"), "1: expected a topic without the character U+0009 (a tab)");
        for c in
            ['\u{1}', '\n', '\r', '\u{1f}', '\u{7f}', '\u{85}', '\u{9f}', '\u{fdd0}', '\u{ffff}']
        {
            assert!(said(&format!("ä/{c}")).starts_with("2: expected a topic without"), "{c:?}");
            assert!(check_topic(&format!("a{c}")).is_err(), "{c:?}");
        }
        assert_eq!(check_topic("a b/größe/\u{feff}\u{a0}😀"), Ok(()));
        assert!(said(&"x".repeat(65_536)).contains("at most 65535 bytes"));
    }

    #[test]
    fn a_filter_covers_what_it_asks_for_too() {
        let covers = |one: &str, other: &str| {
            Filter::parse(one).unwrap().covers(&Filter::parse(other).unwrap())
        };
        for (one, other) in
            [("#", "a/#"), ("a/#", "a"), ("a/#", "a/+/b"), ("a/+", "a/b"), ("+/b", "a/b")]
        {
            assert!(covers(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("a/#", "#"),
            ("a/+", "a/#"),
            ("a/b", "a/+"),
            ("#", "$SYS/#"),
            ("#", "$share/g/a"),
            ("a", "a/b"),
        ] {
            assert!(!covers(one, other), "{one} {other}");
        }
    }

    #[test]
    fn nobody_publishes_to_a_wildcard() {
        assert_eq!(check_topic("a/b c/$d"), Ok(()));
        let wrong = check_topic("ä/+/b").unwrap_err();
        assert_eq!((wrong.at, &*wrong.expected), (2, "expected a topic without `+` and `#`"));
        assert!(check_topic("#").is_err() && check_topic("").is_err());
    }

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
            ("site/{id}/power", 7),
            ("größe/{{ payload.id }}", 10),
            ("<site>/a", 2),
            ("a/%serial%", 4),
        ] {
            assert_eq!(rules(topic), [("literal-placeholder", at(column))], "{topic}");
        }
        for topic in
            ["a/b", "$aws/things/x", "$SYSTEM", "a/{}", "50%/a", "a<b", "a/{\"x\":1}", "100%/50%"]
        {
            assert_eq!(rules(topic), [], "{topic}");
        }
    }
}
