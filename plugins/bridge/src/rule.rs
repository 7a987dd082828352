//! One rule of a bridge: read from a map or from a line as in Mosquitto, and checked.

use forebay_sdk::{Filter, Problem};

use crate::settings::{Direction, RuleSettings, check_prefix, default_qos, default_retain};

/// A rule that can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which way.
    pub direction: Direction,
    /// What it is about at the local broker, and at the remote one.
    pub local: Filter,
    /// The same at the remote one.
    pub remote: Filter,
    /// As it was written.
    pub written: RuleSettings,
}

impl Rule {
    /// Checks what was written at a place such as `topics[0]`. What is wrong is among the problems.
    pub fn resolve(
        written: RuleSettings,
        place: &Place,
        problems: &mut Vec<Problem>,
    ) -> Option<Rule> {
        let RuleSettings { pattern, local_prefix, remote_prefix, .. } = &written;
        let mut is_right = true;
        for (name, prefix) in [("local_prefix", local_prefix), ("remote_prefix", remote_prefix)] {
            if let Err(wrong) = check_prefix(prefix) {
                let message = format!("`{name}` cannot stand in front of topics");
                problems.push(place.problem(
                    name,
                    message,
                    &wrong.expected.replace("a topic", "a prefix"),
                ));
                is_right = false;
            }
        }
        if pattern.is_empty() && (local_prefix.is_empty() || remote_prefix.is_empty()) {
            let message = "a rule without a `pattern` needs both prefixes".to_owned();
            let missing = match (local_prefix.is_empty(), remote_prefix.is_empty()) {
                (true, true) => "expected a pattern, such as `machine/#`",
                (true, false) => "`local_prefix` is missing: the topic at the local broker",
                _ => "`remote_prefix` is missing: the topic at the remote broker",
            };
            problems.push(place.problem("pattern", message, missing));
            return None;
        }
        if !is_right {
            return None;
        }
        let filter = |prefix: &str, problems: &mut Vec<Problem>| {
            let whole = format!("{prefix}{pattern}");
            Filter::parse(&whole)
                .map_err(|wrong| {
                    let message = match prefix {
                        "" => format!("`{pattern}` fits no topic"),
                        _ => format!("`{whole}`, with its prefix, fits no topic"),
                    };
                    problems.push(place.problem("pattern", message, &wrong.expected));
                })
                .ok()
        };
        let (local, remote) = (filter(local_prefix, problems)?, filter(remote_prefix, problems)?);
        if local.names().next().is_some() || local.without_group() != local.as_str() {
            let message =
                "a rule of a bridge has no names and no `$share` in its pattern".to_owned();
            problems.push(place.problem("pattern", message, "expected plain `+` and `#`"));
            return None;
        }
        Some(Rule { direction: written.direction, local, remote, written })
    }
}

impl Rule {
    /// What it is about at an end: `local` or `remote`.
    pub fn at(&self, end: &str) -> &Filter {
        if end == "local" { &self.local } else { &self.remote }
    }

    /// Whether nothing is left for another rule that comes behind.
    pub fn takes_all_of(&self, other: &Rule) -> bool {
        let (out, in_) = (Direction::Out, Direction::In);
        let goes = |rule: &Rule, way| rule.direction == way || rule.direction == Direction::Both;
        let takes = |way, end: &str| {
            !goes(other, way) || goes(self, way) && self.at(end).covers(other.at(end))
        };
        takes(out, "local") && takes(in_, "remote")
    }
}

/// Where a rule stands.
pub struct Place {
    /// Such as `topics[0]`.
    pub setting: String,
    /// It is one line: then what is wrong with a part of it is wrong with the line.
    pub is_line: bool,
}

impl Place {
    fn problem(&self, part: &str, message: String, label: &str) -> Problem {
        Problem::new(self.of(part), message, label)
    }

    /// Where a part of the rule stands.
    pub fn of(&self, part: &str) -> String {
        match self.is_line {
            true => self.setting.clone(),
            false => format!("{}.{part}", self.setting),
        }
    }
}

/// Reads a line as in Mosquitto: `PATTERN [out|in|both [QOS [LOCAL-PREFIX [REMOTE-PREFIX]]]]`. Says what would be
/// right when it is none.
pub fn read_line(line: &str) -> Result<RuleSettings, String> {
    let mut words = words(line)?.into_iter();
    let pattern =
        words.next().ok_or("expected `PATTERN DIRECTION QOS LOCAL-PREFIX REMOTE-PREFIX`")?;
    let direction = match words.next().as_deref() {
        None | Some("out") => Direction::Out,
        Some("in") => Direction::In,
        Some("both") => Direction::Both,
        Some(other) => return Err(format!("expected `out`, `in` or `both`, found `{other}`")),
    };
    let qos = match words.next().as_deref() {
        None => default_qos(),
        Some("0") => 0,
        Some("1") => 1,
        Some("2") => 2,
        Some(other) => return Err(format!("expected a QoS of 0 to 2, found `{other}`")),
    };
    let (local_prefix, remote_prefix) =
        (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match words.next() {
        Some(more) => Err(format!("expected nothing behind the remote prefix, found `{more}`")),
        None => {
            let retain = default_retain();
            Ok(RuleSettings { pattern, direction, qos, local_prefix, remote_prefix, retain })
        }
    }
}

/// The words of a line. One in quotes may be empty, or have blanks in it.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut rest) = (Vec::new(), line.trim());
    while let Some(first) = rest.chars().next() {
        let (word, behind) = match first {
            '"' | '\'' => {
                let closed = rest[1..].split_once(first);
                closed.ok_or_else(|| format!("expected {first} at the end of {rest}"))?
            }
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    Ok(words)
}
