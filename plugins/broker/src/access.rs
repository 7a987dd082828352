//! Who may publish and read what, by topic.

use std::borrow::Cow;

use crate::topics::{check_filter, matches, pattern_of};

/// Someone whose rights are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// None for who connected without a name.
    pub user: Option<&'a str>,
    pub client_id: &'a str,
}

/// All rules. What none of them allows is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access(pub Vec<Rule>);

/// What one rule says of the topics that its filter matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `%u` in it stands for the user, and `%c` for the client id.
    pub filter: String,
    pub right: Right,
    pub whom: Whom,
}

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Read,
    Write,
    Both,
    /// Nothing, whatever other rules say.
    Neither,
}

/// For whom a rule is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    Everybody,
    /// Those users, and perhaps those who have no name.
    Some {
        users: Vec<String>,
        anonymous: bool,
    },
}

impl Access {
    /// Whether someone may publish to a topic.
    pub fn may_write(&self, person: Person<'_>, topic: &str) -> bool {
        self.allows(person, topic, Right::Write)
    }

    /// Whether someone may get what is published to a topic.
    pub fn may_read(&self, person: Person<'_>, topic: &str) -> bool {
        self.allows(person, topic, Right::Read)
    }

    /// Whether anything that a filter asks for may be read. What comes by it is looked at, too.
    pub fn may_subscribe(&self, person: Person<'_>, filter: &str) -> bool {
        let asked = pattern_of(filter);
        let filters = |right: fn(Right) -> bool| {
            let rules = self.0.iter().filter(move |rule| right(rule.right));
            rules.filter_map(move |rule| rule.filter_for(person))
        };
        filters(|right| matches!(right, Right::Read | Right::Both))
            .any(|allowed| overlap(asked, &allowed))
            && !filters(|right| right == Right::Neither).any(|denied| covers(&denied, asked))
    }

    fn allows(&self, person: Person<'_>, topic: &str, wanted: Right) -> bool {
        let mut is_allowed = false;
        for rule in &self.0 {
            let says = rule.right == wanted || rule.right == Right::Both;
            if (!says || is_allowed) && rule.right != Right::Neither {
                continue;
            }
            if rule.filter_for(person).is_some_and(|filter| matches(&filter, topic)) {
                if rule.right == Right::Neither {
                    return false;
                }
                is_allowed = true;
            }
        }
        is_allowed
    }
}

impl Rule {
    /// Its filter, as it is meant for someone. None when it is not.
    fn filter_for(&self, person: Person<'_>) -> Option<Cow<'_, str>> {
        let is_for = match &self.whom {
            Whom::Everybody => true,
            Whom::Some { users, anonymous } => match person.user {
                Some(user) => users.iter().any(|one| one == user),
                None => *anonymous,
            },
        };
        if !is_for {
            return None;
        }
        let mut filter = Cow::Borrowed(&*self.filter);
        for (sign, value) in [("%c", Some(person.client_id)), ("%u", person.user)] {
            if filter.contains(sign) {
                // A client names itself: `+` would give it the topics of others.
                let value = value.filter(|value| !value.contains(['+', '#']))?;
                filter = filter.replace(sign, value).into();
            }
        }
        Some(filter)
    }
}

/// Says what is wrong with the filter of a rule.
pub fn check_rule(filter: &str) -> Result<(), &'static str> {
    check_filter(&filter.replace("%c", "c").replace("%u", "u"))
}

/// Whether there is a topic that both filters match.
fn overlap(one: &str, other: &str) -> bool {
    // A wildcard in front does not find what begins with `$`.
    let (hides, shows) =
        (|filter: &str| filter.starts_with(['+', '#']), |filter: &str| filter.starts_with('$'));
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

/// Whether a filter matches all topics that another does.
fn covers(whole: &str, part: &str) -> bool {
    if whole.starts_with(['+', '#']) && part.starts_with('$') {
        return false;
    }
    let (mut whole, mut part) = (whole.split('/'), part.split('/'));
    loop {
        match (whole.next(), part.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => (),
            (Some(a), Some(b)) if a == b => (),
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(filter: &str, right: Right, users: &[&str]) -> Rule {
        let users: Vec<String> = users.iter().map(|user| (*user).to_owned()).collect();
        let whom = match users.is_empty() {
            true => Whom::Everybody,
            false => Whom::Some { anonymous: users.iter().any(|user| user == "-"), users },
        };
        Rule { filter: filter.to_owned(), right, whom }
    }

    fn person<'a>(user: &'a str, client_id: &'a str) -> Person<'a> {
        Person { user: Some(user).filter(|user| !user.is_empty()), client_id }
    }

    fn access() -> Access {
        Access(vec![
            rule("machine/%u/#", Right::Both, &[]),
            rule("client/%c/cmd", Right::Read, &[]),
            rule("plant/#", Right::Read, &["hmi", "scada"]),
            rule("plant/secret/#", Right::Neither, &["hmi"]),
            rule("say", Right::Write, &["-"]),
        ])
    }

    #[test]
    fn a_rule_is_for_whom_it_names_and_a_denial_is_stronger() {
        for (user, topic, read, write) in [
            ("plc", "machine/plc/a", true, true),
            ("plc", "machine/other/a", false, false),
            ("plc", "client/c7/cmd", true, false),
            ("plc", "client/c8/cmd", false, false),
            ("plc", "plant/a", false, false),
            ("hmi", "plant/a", true, false),
            ("hmi", "plant/secret/a", false, false),
            ("scada", "plant/secret/a", true, false),
            ("", "say", false, true),
            ("", "machine//a", false, false),
            ("hmi", "say", false, false),
            ("hmi", "$SYS/broker/uptime", false, false),
        ] {
            let (access, person) = (access(), person(user, "c7"));
            let found = (access.may_read(person, topic), access.may_write(person, topic));
            assert_eq!(found, (read, write), "{user} {topic}");
        }
    }

    #[test]
    fn a_name_with_wildcards_gives_no_rights() {
        for name in ["+", "#", "a+", "+/x"] {
            assert!(!access().may_read(person(name, "c"), "machine/plc/a"), "{name}");
            assert!(!access().may_read(person("plc", name), "client/c7/cmd"), "{name}");
        }
        // Its other rights are untouched.
        assert!(access().may_read(person("plc", "+"), "machine/plc/a"));
    }

    #[test]
    fn who_may_read_nothing_of_a_filter_is_told() {
        for (user, filter, expected) in [
            ("hmi", "#", true),
            ("hmi", "plant/+", true),
            ("hmi", "plant/secret/#", false),
            ("hmi", "plant/secret/+/x", false),
            ("hmi", "plant/+/x", true),
            ("hmi", "$share/g/plant/a", true),
            ("hmi", "other/#", false),
            ("plc", "plant/#", false),
            ("plc", "machine/#", true),
            ("plc", "client/+/cmd", true),
            ("hmi", "$SYS/#", false),
        ] {
            let said = access().may_subscribe(person(user, "c7"), filter);
            assert_eq!(said, expected, "{user} {filter}");
        }
        let all = Access(vec![rule("#", Right::Read, &[])]);
        assert!(!all.may_subscribe(person("a", "c"), "$SYS/#"));
        assert!(!Access::default().may_subscribe(person("a", "c"), "#"));
    }

    #[test]
    fn what_is_no_filter_is_no_rule() {
        assert!(check_rule("a/%u/#").is_ok() && check_rule("a-%c/+").is_ok());
        assert!(check_rule("a#").is_err() && check_rule("").is_err());
    }
}
