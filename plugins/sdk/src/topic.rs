//! Topic names and topic filters (MQTT 3.1.1 section 4.7).
//!
//! Our own, because rumqttc's matching never matches a topic that begins with `$`.

use crate::{rules::BAD_TOPIC, settings::Problem};

/// The most bytes that a topic can have on the wire.
pub const MOST_BYTES: usize = 65_535;

/// Why a text is no topic, or no topic filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoTopic {
    /// What would be right.
    pub expected: String,
    /// The first character that is wrong, from 0.
    pub at: usize,
}

impl NoTopic {
    pub(crate) fn new(expected: impl Into<String>, at: usize) -> NoTopic {
        NoTopic { expected: expected.into(), at }
    }

    /// What lint says of a setting that holds the text.
    pub fn problem(self, setting: impl Into<String>, message: impl Into<String>) -> Problem {
        let problem = Problem::new(setting, message, self.expected);
        problem.rule(&BAD_TOPIC).inside(1, self.at + 1)
    }
}

/// What a subscription asks for: a topic in which `+` stands for one level and `#` for the rest. A name
/// behind either, as in `site/+device/#rest`, says what to call what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Without names, as brokers know it.
    text: String,
    /// Where the filter proper begins, behind `$share/<group>/`.
    start: usize,
    named: Vec<Named>,
}

/// A wildcard with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: String,
    /// Which level of the topic, from 0.
    level: usize,
    /// All that follow too.
    is_rest: bool,
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
        let mut named: Vec<Named> = Vec::new();
        let mut plain = Vec::new();
        let mut levels = text[start..].split('/').enumerate().peekable();
        while let Some((level, written)) = levels.next() {
            let wildcard = |mark| written.chars().position(|c| c == mark).map(|within| at + within);
            let name = written.strip_prefix(['+', '#']).filter(|name| !name.is_empty());
            let is_rest = written.starts_with('#');
            let mark = if is_rest { "#" } else { "+" };
            if let Some(at) = wildcard('#').filter(|_| !is_rest || levels.peek().is_some()) {
                return Err(NoTopic::new("expected `#` only as the whole last level", at));
            }
            if let Some(at) = wildcard('+').filter(|_| !written.starts_with('+')) {
                return Err(NoTopic::new("expected `+` only as a whole level", at));
            }
            let Some(name) = name else {
                plain.push(written);
                at += written.chars().count() + 1;
                continue;
            };
            let refused = |expected: String| Err(NoTopic::new(expected, at));
            if !is_name(name) {
                let place = if is_rest { "the whole last level" } else { "a whole level" };
                return refused(format!(
                    "expected `{mark}` only as {place}, or with a name behind it such as `{mark}device`"
                ));
            }
            if RESERVED.contains(&name) {
                return refused(format!("expected another name: `meta.{name}` is there already"));
            }
            if named.iter().any(|other| other.name == name) {
                return refused(format!("expected another name: `{name}` stands before it"));
            }
            named.push(Named { name: name.to_owned(), level, is_rest });
            plain.push(mark);
            at += written.chars().count() + 1;
        }
        let text = text[..start].to_owned() + &plain.join("/");
        Ok(Filter { text, start, named })
    }

    /// The filter as brokers know it, without names.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it asks for, whoever shares it.
    pub fn without_group(&self) -> &str {
        &self.text[self.start..]
    }

    /// The names in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|named| named.name.as_str())
    }

    /// What stands in a topic that matches, by name. For the rest of a topic that ends before it, a
    /// text that is empty.
    pub fn captures<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.named.iter().map(move |named| {
            let mut levels = topic.splitn(named.level + 2, '/').skip(named.level);
            let first = levels.next().unwrap_or_default();
            let found = match levels.next() {
                Some(others) if named.is_rest => {
                    &topic[topic.len() - others.len() - 1 - first.len()..]
                }
                _ => first,
            };
            (named.name.as_str(), found)
        })
    }

    /// Whether this asks for all that the other asks for. Those of a group are another matter.
    pub fn covers(&self, other: &Filter) -> bool {
        self.start == 0 && other.start == 0 && covers(&self.text, &other.text)
    }

    /// Whether some topic is asked for by both, whoever shares them.
    pub fn overlaps(&self, other: &Filter) -> bool {
        overlap(self.without_group(), other.without_group())
    }

    /// Whether a message of this topic is asked for.
    pub fn matches(&self, topic: &str) -> bool {
        matches(&self.text[self.start..], topic)
    }
}

/// Whether a topic matches a pattern, which is a filter that nobody shares (MQTT 5 section 4.7).
pub fn matches(pattern: &str, topic: &str) -> bool {
    // A wildcard at the beginning leaves out the broker's own topics [MQTT-4.7.2-1].
    if topic.starts_with('$') && pattern.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in pattern.split('/') {
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

/// Whether a pattern matches all topics that another does.
pub fn covers(whole: &str, part: &str) -> bool {
    if part.starts_with('$') && whole.starts_with(['+', '#']) {
        return false;
    }
    let (mut whole, mut part) = (whole.split('/'), part.split('/'));
    loop {
        match (whole.next(), part.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => (),
            (Some(one), Some(other)) if one == other => (),
            _ => return false,
        }
    }
}

/// Whether there is a topic that both patterns match.
pub fn overlap(one: &str, other: &str) -> bool {
    let (hides, shows) =
        (|pattern: &str| pattern.starts_with(['+', '#']), |pattern: &str| pattern.starts_with('$'));
    if hides(one) && shows(other) || shows(one) && hides(other) {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => (),
            _ => return false,
        }
    }
}

/// Entries of `meta` that are there whatever a filter says.
const RESERVED: [&str; 3] = ["mqtt", "source", "topic_levels"];

/// Letters, digits and `_`, so that it can stand behind a point in a script.
fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// Checks a topic to publish to; says what would be right when it is none.
pub fn check_topic(topic: &str) -> Result<(), NoTopic> {
    check_text(topic)?;
    no_wildcard(topic, 0)
}

/// `text` stands at `at` in a topic, in characters.
pub(crate) fn no_wildcard(text: &str, at: usize) -> Result<(), NoTopic> {
    match text.chars().position(|c| matches!(c, '+' | '#')) {
        Some(within) => Err(NoTopic::new("expected a topic without `+` and `#`", at + within)),
        None => Ok(()),
    }
}

pub(crate) fn check_text(text: &str) -> Result<(), NoTopic> {
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
pub(crate) fn closes_connections(c: char) -> bool {
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
        assert_eq!(
            said("##"),
            "0: expected `#` only as the whole last level, or with a name behind it such as `#device`"
        );
        assert_eq!(said("a/#rest/b"), "2: expected `#` only as the whole last level");
        assert_eq!(said("+a/+a"), "3: expected another name: `a` stands before it");
        assert_eq!(said("a/+mqtt"), "2: expected another name: `meta.mqtt` is there already");
        assert_eq!(said("x/a+/b"), "3: expected `+` only as a whole level");
        let or_name = ", or with a name behind it such as `";
        assert_eq!(said("x/++"), format!("2: expected `+` only as a whole level{or_name}+device`"));
        assert_eq!(said("x/+1a"), said("x/++"));
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
    fn filters_overlap_when_a_topic_fits_both() {
        let overlaps = |one: &str, other: &str| {
            let (one, other) = (Filter::parse(one).unwrap(), Filter::parse(other).unwrap());
            assert_eq!(one.overlaps(&other), other.overlaps(&one));
            one.overlaps(&other)
        };
        for (one, other) in [
            ("a/+", "+/b"),
            ("a/#", "a"),
            ("#", "x/y"),
            ("$SYS/#", "$SYS/+/x"),
            ("$share/g/a/#", "a/b"),
        ] {
            assert!(overlaps(one, other), "{one} {other}");
        }
        for (one, other) in
            [("a/+", "b/+"), ("a/+", "a"), ("#", "$SYS/x"), ("+/x", "$SYS/#"), ("a/b", "a/b/c")]
        {
            assert!(!overlaps(one, other), "{one} {other}");
        }
    }

    #[test]
    fn nobody_publishes_to_a_wildcard() {
        assert_eq!(check_topic("a/b c/$d"), Ok(()));
        let wrong = check_topic("ä/+/b").unwrap_err();
        assert_eq!((wrong.at, &*wrong.expected), (2, "expected a topic without `+` and `#`"));
        assert!(check_topic("#").is_err() && check_topic("").is_err());
    }

    #[track_caller]
    fn check_captures(filter: &str, topic: &str, expected: &[(&str, &str)]) {
        let filter = Filter::parse(filter).unwrap();
        assert!(filter.matches(topic));
        assert_eq!(filter.captures(topic).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn wildcards_are_captured_by_name() {
        let filter = Filter::parse("$share/g/site/+device/+/#rest").unwrap();
        assert_eq!(filter.as_str(), "$share/g/site/+/+/#");
        check_captures(
            "$share/g/site/+device/+/#rest",
            "site/a/b/c/d/",
            &[("device", "a"), ("rest", "c/d/")],
        );
        check_captures("site/+device/#rest", "site/a", &[("device", "a"), ("rest", "")]);
        check_captures("#all", "a/b", &[("all", "a/b")]);
        check_captures("a/b", "a/b", &[]);
        check_captures("größe/+x/#y", "größe/ü/ä/ö", &[("x", "ü"), ("y", "ä/ö")]);
    }

    /// influxdata/telegraf#11528: the empty level in front was not counted.
    #[test]
    fn a_topic_that_begins_with_a_slash_was_captured_one_level_off() {
        check_captures(
            "/sys/+product/+device/#event",
            "/sys/p/d/event/property/post",
            &[("product", "p"), ("device", "d"), ("event", "event/property/post")],
        );
        check_captures("/+x", "/", &[("x", "")]);
    }
}
