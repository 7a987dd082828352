//! Topics and filters as a broker takes them (MQTT 5 section 4.7).
//!
//! More lenient than those of the SDK, which writes for brokers of all kinds: a control character is
//! odd, and no reason to hang up.

pub use forebay_sdk::topic::{covers, matches, overlap};

/// The most levels of a topic or filter.
pub const MOST_LEVELS: usize = 200;
/// What is below is for nobody but the broker.
const PRIVATE: &str = "$forebay/";

/// Says what is wrong with a topic to publish to.
pub fn check_topic(topic: &str) -> Result<(), &'static str> {
    if topic.is_empty() {
        return Err("it is empty");
    }
    // One by one: a search for several is slow, and topics are long.
    if topic.contains('+') || topic.contains('#') {
        return Err("it has a wildcard");
    }
    check_text(topic)
}

/// Says what is wrong with a filter, shared or not.
pub fn check_filter(filter: &str) -> Result<(), &'static str> {
    if filter.is_empty() {
        return Err("it is empty");
    }
    check_text(filter)?;
    if let Some(rest) = filter.strip_prefix("$share/") {
        let Some((group, filter)) = rest.split_once('/') else { return Err("it shares no filter") };
        if group.is_empty() || group.contains(['+', '#']) {
            return Err("the name of those who share it is none");
        }
        if filter.is_empty() {
            return Err("it shares no filter");
        }
    }
    let mut levels = pattern_of(filter).split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        if level.contains('#') && (level != "#" || !is_last) {
            return Err("`#` is no whole last level");
        }
        if level.contains('+') && level != "+" {
            return Err("`+` is no whole level");
        }
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), &'static str> {
    if text.len() > usize::from(u16::MAX) {
        return Err("it has more than 65535 bytes");
    }
    if text.contains('\0') {
        return Err("it has a null character");
    }
    match text.split('/').nth(MOST_LEVELS).is_some() {
        true => Err("it has more than 200 levels"),
        false => Ok(()),
    }
}

/// The name of those who share a filter. None when nobody does.
pub fn group_of(filter: &str) -> Option<&str> {
    let (group, _) = filter.strip_prefix("$share/")?.split_once('/')?;
    Some(group)
}

/// The filter of topics in a filter that may be shared.
pub fn pattern_of(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, pattern)| pattern)
}

/// Whether a topic or filter is the broker's own. Wildcards do not find what begins with `$`.
pub fn is_private(topic: &str) -> bool {
    pattern_of(topic).starts_with(PRIVATE)
}

/// Whether a topic is one at which the broker says how it is. What is below `connection` is of bridges.
pub fn is_status(topic: &str) -> bool {
    let below = topic.strip_prefix("$SYS/");
    below.is_some_and(|below| !below.starts_with("broker/connection/"))
}

/// What all topics that match a pattern begin with.
pub fn common_beginning(pattern: &str) -> &str {
    let wildcard = pattern.find(['+', '#']).unwrap_or(pattern.len());
    // `sport/#` matches `sport` too.
    match pattern[..wildcard].strip_suffix('/') {
        Some(parent) if pattern[wildcard..].starts_with('#') => parent,
        _ => &pattern[..wildcard],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (pattern, yes, no) in [
            ("sport/#", &["sport", "sport/", "sport/a/b"][..], &["sports", "$sport"][..]),
            ("sport/+", &["sport/", "sport/a"], &["sport", "sport/a/b"]),
            ("+/+", &["/finance", "a/b"], &["finance", "$SYS/a"]),
            ("#", &["a", "a/b", "/"], &["$SYS/uptime"]),
            ("$SYS/#", &["$SYS/uptime", "$SYS"], &["SYS/uptime"]),
            ("+", &["a", ""], &["a/b", "/a"]),
        ] {
            for topic in yes {
                assert!(matches(pattern, topic), "{pattern} {topic}");
                assert!(topic.starts_with(common_beginning(pattern)), "{pattern} {topic}");
            }
            for topic in no {
                assert!(!matches(pattern, topic), "{pattern} {topic}");
            }
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for good in ["a", "/", "a//b", "+", "#", "+/#", "$share/g/+/a", "$SYS/#", "a b/ü\u{1}"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        let deep = vec!["a"; MOST_LEVELS + 1].join("/");
        for bad in [
            "",
            "a#",
            "#/a",
            "a/#/b",
            "a+",
            "+a/b",
            "$share/g",
            "$share//a",
            "$share/+/a",
            "$share/g/",
            &deep,
        ] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
        for bad in ["", "a/+", "#", "a\0", &deep] {
            assert!(check_topic(bad).is_err(), "{bad}");
        }
        assert_eq!(check_topic("$share/a"), Ok(()));
    }

    #[test]
    fn the_brokers_own_topics_are_told_apart() {
        assert!(is_private("$forebay/x") && is_private("$share/g/$forebay/#"));
        assert!(!is_private("forebay/x") && !is_private("$share/g/#"));
    }
}
