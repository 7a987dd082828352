//! Where a sink has a condition on the link, somebody tells how that is.

use forebay_sdk::{
    Finding, Role,
    finding::{nearest, quoted},
};

use super::index::has_a_name;
use crate::{
    config::{Draft, LinkRule, Part},
    rules::UNKNOWN_CONNECTION,
};

pub(super) fn check(draft: &Draft, findings: &mut Vec<Finding>) {
    let connections = draft.parts.iter().filter(|part| part.role == Role::Connection);
    // What is wrong with one is said there.
    if connections.clone().any(|part| part.configured.is_none()) {
        return;
    }
    let knows = |part: &&Part| part.configured.as_ref().is_some_and(|it| it.knows_link());
    let telling: Vec<&Part> = connections.filter(knows).collect();
    for part in draft.parts.iter() {
        for rule in part.common.link.iter() {
            findings.extend(wrong(part, rule, &telling));
        }
    }
}

/// What is wrong with the connections that a condition asks.
fn wrong(part: &Part, rule: &LinkRule, telling: &[&Part]) -> Option<Finding> {
    let entry = part.common_setting("link")?;
    let (title, span) = (part.title(), entry.key_span);
    let named: Vec<&str> =
        telling.iter().filter(|part| has_a_name(part)).map(|part| part.short.as_str()).collect();
    let asked = rule.asks();
    if let Some(unknown) = asked.iter().find(|name| !name.is_empty() && !named.contains(name)) {
        let message = format!("{title} asks how the link of `{unknown}` is, which nobody tells");
        let label = match (nearest(unknown, named.iter().copied()), &*named) {
            (Some(near), _) => format!("did you mean `link.{near}`?"),
            (None, []) => "needs a connection of type `router` of that name".to_owned(),
            (None, named) => format!("expected one of {}", quoted(named.iter().copied())),
        };
        return Some(Finding::error(&UNKNOWN_CONNECTION, span, message, label));
    }
    match telling {
        _ if !asked.contains("") => None,
        [_] => None,
        [] => {
            let message = format!("{title} asks how the link is, and no connection tells");
            let label = "needs a connection of type `router` in this folder";
            let finding = Finding::error(&UNKNOWN_CONNECTION, span, message, label);
            Some(finding.help("declare one in a section `connections:`"))
        }
        [first, second, ..] => {
            let message = format!("{title} asks how the link is, and several connections tell");
            let label = match named.first() {
                Some(name) => {
                    format!("expected the name of one of them, as in `link.{name}.roaming`")
                }
                None => "expected a connection of type `router` with a name".to_owned(),
            };
            let finding = Finding::error(&UNKNOWN_CONNECTION, span, message, label);
            Some(finding.context(first.name_span, "").context(second.name_span, ""))
        }
    }
}
