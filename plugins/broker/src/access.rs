//! Who may publish and read what, by topic.

use std::borrow::Cow;

use crate::topics::{check_filter, covers, matches, overlap, pattern_of};

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
            if rule.is_for(person) && rule.fits(person, topic) {
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
    fn is_for(&self, person: Person<'_>) -> bool {
        match &self.whom {
            Whom::Everybody => true,
            Whom::Some { users, anonymous } => match person.user {
                Some(user) => users.iter().any(|one| one == user),
                None => *anonymous,
            },
        }
    }

    /// Whether its filter, as it is meant for someone, matches a topic. Asked for each message, so it copies nothing.
    fn fits(&self, person: Person<'_>, topic: &str) -> bool {
        if !self.filter.contains('%') {
            return matches(&self.filter, topic);
        }
        if topic.starts_with('$') && self.filter.starts_with(['+', '#']) {
            return false;
        }
        let mut left = Some(topic);
        for level in self.filter.split('/') {
            // `sport/#` asks for `sport` too.
            let Some(topic) = left else { return level == "#" };
            let behind = match level {
                "#" => return true,
                "+" => Some(topic.find('/').map_or("", |at| &topic[at..])),
                level => strip(level, person, topic),
            };
            left = match behind.map(|behind| (behind, behind.strip_prefix('/'))) {
                Some((_, Some(behind))) => Some(behind),
                Some(("", None)) => None,
                _ => return false,
            };
        }
        left.is_none()
    }

    /// Its filter, as it is meant for someone. None when it is not.
    fn filter_for(&self, person: Person<'_>) -> Option<Cow<'_, str>> {
        if !self.is_for(person) {
            return None;
        }
        if !self.filter.contains('%') {
            return Some(Cow::Borrowed(&self.filter));
        }
        pieces(&self.filter).map(|piece| piece.text_for(person)).collect()
    }
}

/// A piece of the filter of a rule.
enum Piece<'a> {
    Text(&'a str),
    User,
    ClientId,
}

impl<'a> Piece<'a> {
    /// What begins a filter, if that stands for something.
    fn sign(filter: &str) -> Option<Piece<'static>> {
        match filter.get(..2)? {
            "%u" => Some(Piece::User),
            "%c" => Some(Piece::ClientId),
            _ => None,
        }
    }

    /// What it is for someone. None when it is nothing.
    fn text_for<'t>(&self, person: Person<'t>) -> Option<&'t str>
    where
        'a: 't,
    {
        let name = match self {
            Piece::Text(text) => return Some(text),
            Piece::User => person.user?,
            Piece::ClientId => person.client_id,
        };
        // A client names itself: `+` would give it the topics of others.
        (!name.contains(['+', '#'])).then_some(name)
    }
}

fn pieces(filter: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut left = filter;
    std::iter::from_fn(move || {
        if let Some(sign) = Piece::sign(left) {
            left = &left[2..];
            return Some(sign);
        }
        let mut signs = left.match_indices('%').map(|(at, _)| at);
        let end = signs.find(|at| Piece::sign(&left[*at..]).is_some()).unwrap_or(left.len());
        let (text, behind) = left.split_at(end);
        left = behind;
        (!text.is_empty()).then_some(Piece::Text(text))
    })
}

/// Takes what a level of a filter is for someone away in front of a topic. None when something else stands there.
fn strip<'t>(level: &str, person: Person<'_>, topic: &'t str) -> Option<&'t str> {
    pieces(level).try_fold(topic, |topic, piece| topic.strip_prefix(piece.text_for(person)?))
}

/// Says what is wrong with the filter of a rule.
pub fn check_rule(filter: &str) -> Result<(), &'static str> {
    check_filter(&filter.replace("%c", "c").replace("%u", "u"))
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
    fn a_filter_with_names_matches_as_one_without() {
        let levels = ["a", "+", "%u", "x%c-y%u", "%", "ü%u", ""];
        let topics = ["a", "plc", "xc7-yplc", "%", "üplc", "", "$a", "a/b", "s/t"];
        let mut random = fastrand::Rng::with_seed(1);
        let people =
            [person("plc", "c7"), person("s/t", "c7"), person("", "%u"), person("+", "c7")];
        let mut found = [0, 0];
        for _ in 0..20_000 {
            let mut join = |texts: &[&str]| {
                let count = random.usize(1..4);
                (0..count).map(|_| texts[random.usize(..texts.len())]).collect::<Vec<_>>().join("/")
            };
            let (mut filter, topic) = (join(&levels), join(&topics));
            if random.u8(..4) == 0 {
                filter += "/#";
            }
            let person = people[random.usize(..people.len())];
            let rule = rule(&filter, Right::Both, &[]);
            let written = rule.filter_for(person);
            let expected = written.is_some_and(|filter| matches(&filter, &topic));
            assert_eq!(rule.fits(person, &topic), expected, "{filter} {topic} {person:?}");
            found[usize::from(expected)] += 1;
        }
        assert!(found.iter().all(|count| *count > 500), "{found:?}");
    }

    #[test]
    fn a_name_in_a_name_stands_for_nothing() {
        let access = Access(vec![rule("of/%c/%u", Right::Both, &[])]);
        assert!(access.may_read(person("plc", "%u"), "of/%u/plc"));
        assert!(!access.may_read(person("plc", "%u"), "of/plc/plc"));
        assert!(access.may_subscribe(person("plc", "%u"), "of/%u/plc"));
        assert!(!access.may_subscribe(person("plc", "%u"), "of/plc/plc"));
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
