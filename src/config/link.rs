//! Conditions on the link to the outside, as a connection to a router tells it, and what a sink does while
//! one holds. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use forebay_sdk::{Problem, Rate, Value, finding::nearest, link::NAMES};
use forebay_yaml::units::Period;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use super::buffer::BatchSettings;

/// What a sink does while a condition on the link holds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSettings {
    /// The condition: `link.roaming`, `!link.connected`, `link.rsrp < -110`, `link.wan == "mobile"`, and several of
    /// them with `&&` and `||` between. What is not known of the link does not hold. Where several connections of type `router`
    /// are in the folder, `link.NAME.roaming` says of which.
    #[schemars(length(min = 1, max = 500))]
    when: String,
    /// Holds everything back in the buffer.
    #[serde(default)]
    hold: bool,
    /// How many messages the sink writes at once meanwhile.
    batch: Option<BatchSettings>,
    /// The most messages that are written meanwhile, such as `1/m`.
    rate: Option<Rate>,
}

/// A condition on the link, and what is done while it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRule {
    /// As written.
    pub text: String,
    /// Each of them is enough, and needs all of its own.
    any: Vec<Vec<Term>>,
    /// Nothing is written.
    pub holds_back: bool,
    /// The most messages in one write.
    pub max_messages: Option<usize>,
    /// How long a batch that is not full waits for more.
    pub max_wait: Option<Period>,
    /// The time from one message to the next.
    pub rate: Option<Rate>,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    /// The connection that tells. None where there is only one.
    of: Option<Arc<str>>,
    name: String,
    compare: Compare,
    with: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

/// What is known of each link, by the connection that tells it.
pub type KnownLinks = BTreeMap<Arc<str>, Map<String, Value>>;

impl LinkRule {
    /// Whether its condition holds, as far as is known.
    pub fn holds(&self, links: &KnownLinks) -> bool {
        self.any.iter().any(|all| all.iter().all(|term| term.holds(links)))
    }

    /// The connections that it asks. Empty text for the one that there is.
    pub fn asks(&self) -> BTreeSet<&str> {
        self.any.iter().flatten().map(|term| term.of.as_deref().unwrap_or_default()).collect()
    }

    /// Names the connection that there is, where its condition does not.
    pub fn of_the_one(&self, connection: &Arc<str>) -> LinkRule {
        let mut rule = self.clone();
        for term in rule.any.iter_mut().flatten() {
            term.of.get_or_insert_with(|| Arc::clone(connection));
        }
        rule
    }
}

impl Term {
    fn holds(&self, links: &KnownLinks) -> bool {
        let link = links.get(self.of.as_deref().unwrap_or_default());
        let Some(found) = link.and_then(|link| link.get(&self.name)) else { return false };
        let order = found.as_f64().zip(self.with.as_f64()).and_then(|(a, b)| a.partial_cmp(&b));
        match (self.compare, order) {
            (Compare::Equal, Some(order)) => order.is_eq(),
            (Compare::NotEqual, Some(order)) => order.is_ne(),
            (Compare::Equal, None) => *found == self.with,
            (Compare::NotEqual, None) => *found != self.with,
            (Compare::Less, order) => order.is_some_and(|order| order.is_lt()),
            (Compare::LessOrEqual, order) => order.is_some_and(|order| order.is_le()),
            (Compare::More, order) => order.is_some_and(|order| order.is_gt()),
            (Compare::MoreOrEqual, order) => order.is_some_and(|order| order.is_ge()),
        }
    }

    fn parse(text: &str) -> Result<Term, String> {
        // The longer ones first.
        const ALL: [(&str, Compare); 6] = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::MoreOrEqual),
            ("<", Compare::Less),
            (">", Compare::More),
        ];
        let text = text.trim();
        let found = ALL.iter().find_map(|(sign, compare)| Some((*compare, text.split_once(sign)?)));
        let (name, compare, with) = match found {
            Some((compare, (name, with))) => (name.trim(), compare, literal(with.trim())?),
            None => match text.strip_prefix('!') {
                Some(name) => (name.trim(), Compare::Equal, false.into()),
                None => (text, Compare::Equal, true.into()),
            },
        };
        let Some(name) = name.strip_prefix("link.") else {
            return Err(format!("expected a condition such as `link.roaming`, found `{name}`"));
        };
        let (of, value) = match name.rsplit_once('.') {
            Some((of, value)) => (Some(Arc::from(of)), value),
            None => (None, name),
        };
        if !NAMES.contains(&value) {
            let begin = name.strip_suffix(value).unwrap_or_default();
            return Err(match nearest(value, NAMES) {
                Some(near) => {
                    format!("there is no `link.{name}`; did you mean `link.{begin}{near}`?")
                }
                None => format!("there is no `link.{name}`, but {}", NAMES.join(", ")),
            });
        }
        if with.as_f64().is_none() && !matches!(compare, Compare::Equal | Compare::NotEqual) {
            return Err(format!("expected a number to compare `link.{name}` with, found {with}"));
        }
        Ok(Term { of, name: value.to_owned(), compare, with })
    }
}

/// A number, a text in quotes, true or false.
fn literal(text: &str) -> Result<Value, String> {
    let bare = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    match bare('\'').map(Value::from).or_else(|| serde_json::from_str(text).ok()) {
        Some(value @ (Value::Number(_) | Value::String(_) | Value::Bool(_))) => Ok(value),
        _ => Err(format!("expected a number, true, false or a text in quotes, found `{text}`")),
    }
}

impl LinkSettings {
    /// What it means, or what is wrong with it. `path` leads to it.
    pub fn resolve(&self, path: &str) -> Result<LinkRule, Box<Problem>> {
        if !self.hold && self.batch.is_none() && self.rate.is_none() {
            let message = "nothing is said of what the sink does meanwhile";
            let label = "expected `hold: true`, a `batch` or a `rate` beside it";
            return Err(Problem::new(format!("{path}.when"), message, label).into());
        }
        let any = self.when.split("||").map(|all| all.split("&&").map(Term::parse).collect());
        let any = any.collect::<Result<Vec<Vec<Term>>, String>>().map_err(|label| {
            Box::new(Problem::new(
                format!("{path}.when"),
                "`when` is no condition on the link",
                label,
            ))
        })?;
        let batch = self.batch.as_ref();
        Ok(LinkRule {
            text: self.when.clone(),
            any,
            holds_back: self.hold,
            max_messages: batch.and_then(|it| it.max_messages).map(|most| most as usize),
            max_wait: batch.and_then(|it| it.max_wait),
            rate: self.rate,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(when: &str) -> Result<LinkRule, String> {
        let settings = json!({ "when": when, "hold": true });
        let settings: LinkSettings = serde_json::from_value(settings).unwrap();
        settings.resolve("link[0]").map_err(|problem| problem.label)
    }

    #[test]
    fn a_condition_holds_for_what_is_known() {
        let link = json!({ "roaming": true, "rsrp": -112, "wan": "mobile", "connected": false });
        for (when, expected) in [
            ("link.roaming", true),
            ("!link.roaming", false),
            ("!link.connected", true),
            ("link.rsrp < -110", true),
            ("link.rsrp<=-113", false),
            ("link.rsrp > -113.5", true),
            ("link.wan == \"mobile\"", true),
            ("link.wan != 'mobile'", false),
            ("link.roaming && link.rsrp < -120", false),
            ("link.roaming && link.rsrp < -120 || link.wan == 'mobile'", true),
            // Nobody knows.
            ("link.sinr < 0", false),
            ("link.sinr != 0", false),
            ("!link.internet", false),
            ("link.wan < 3", false),
        ] {
            let rule = rule(when).unwrap().of_the_one(&"box".into());
            let known = KnownLinks::from([("box".into(), link.as_object().unwrap().clone())]);
            assert_eq!(rule.holds(&known), expected, "{when}");
        }
    }

    #[test]
    fn a_condition_may_ask_several_links() {
        let of = |roaming: bool| json!({ "roaming": roaming }).as_object().unwrap().clone();
        let known = KnownLinks::from([("box".into(), of(true)), ("old-box".into(), of(false))]);
        for (when, expected) in [
            ("link.box.roaming", true),
            ("link.old-box.roaming", false),
            ("link.box.roaming && !link.old-box.roaming", true),
            ("link.third.roaming", false),
        ] {
            let rule = rule(when).unwrap();
            assert_eq!(rule.holds(&known), expected, "{when}");
            assert!(!rule.asks().contains(""));
        }
    }

    #[test]
    fn what_is_no_condition_is_told_what_would_be() {
        for (when, expected) in [
            ("roaming", "expected a condition such as `link.roaming`, found `roaming`"),
            ("link.roming", "there is no `link.roming`; did you mean `link.roaming`?"),
            ("link.box.roming", "there is no `link.box.roming`; did you mean `link.box.roaming`?"),
            (
                "link.wan == mobile",
                "expected a number, true, false or a text in quotes, found `mobile`",
            ),
            ("link.wan < 'a'", "expected a number to compare `link.wan` with, found \"a\""),
            ("link.roaming &&", "expected a condition such as `link.roaming`, found ``"),
        ] {
            assert_eq!(rule(when), Err(expected.to_owned()));
        }
    }
}
