//! Topic names and topic filters (MQTT 3.1.1 section 4.7).
//!
//! Our own, because rumqttc's matching never matches a topic that begins with `$`.

/// The most bytes that a topic can have on the wire.
const MOST_BYTES: usize = 65_535;

/// What a subscription asks for: a topic in which `+` stands for one level and `#` for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    text: String,
    /// Where the filter proper begins, behind `$share/<group>/`.
    start: usize,
}

impl Filter {
    /// Reads a filter; says what would be right when it cannot.
    pub fn parse(text: &str) -> Result<Filter, String> {
        check_text(text)?;
        let start = match text.strip_prefix("$share/") {
            None => 0,
            Some(rest) => match rest.split_once('/') {
                Some((group, filter))
                    if !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty() =>
                {
                    text.len() - filter.len()
                }
                _ => return Err(format!("expected `$share/<group>/<filter>`, found `{text}`")),
            },
        };
        let mut levels = text[start..].split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(format!("expected `#` only as the whole last level, found `{text}`"));
            }
            if level.contains('+') && level != "+" {
                return Err(format!("expected `+` only as a whole level, found `{text}`"));
            }
        }
        Ok(Filter { text: text.to_owned(), start })
    }

    /// The filter as its author wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
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
pub fn check_topic(topic: &str) -> Result<(), String> {
    check_text(topic)?;
    match topic.find(['+', '#']) {
        Some(_) => Err(format!("expected a topic without `+` and `#`, found `{topic}`")),
        None => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("expected a topic, found nothing".to_owned());
    }
    if text.len() > MOST_BYTES {
        return Err(format!("expected at most {MOST_BYTES} bytes, found {}", text.len()));
    }
    match text.contains('\0') {
        true => Err("expected a topic without the character U+0000".to_owned()),
        false => Ok(()),
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
    fn a_wrong_filter_says_what_would_be_right() {
        let said = |text: &str| Filter::parse(text).unwrap_err();
        assert_eq!(said(""), "expected a topic, found nothing");
        assert_eq!(said("a/#/b"), "expected `#` only as the whole last level, found `a/#/b`");
        assert_eq!(said("a/b#"), "expected `#` only as the whole last level, found `a/b#`");
        assert_eq!(said("a+/b"), "expected `+` only as a whole level, found `a+/b`");
        assert_eq!(said("$share/a"), "expected `$share/<group>/<filter>`, found `$share/a`");
        assert_eq!(said("a\0b"), "expected a topic without the character U+0000");
        assert!(said(&"x".repeat(65_536)).contains("at most 65535 bytes"));
    }

    #[test]
    fn nobody_publishes_to_a_wildcard() {
        assert_eq!(check_topic("a/b c/$d"), Ok(()));
        assert!(check_topic("a/+/b").unwrap_err().contains("without `+` and `#`"));
        assert!(check_topic("#").is_err() && check_topic("").is_err());
    }
}
