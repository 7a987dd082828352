//! Where a sink has a condition on the link, somebody tells how that is.

use forebay_sdk::{Finding, Role};

use crate::{
    config::{Draft, Part},
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
    for part in draft.parts.iter().filter(|part| !part.common.link.is_empty()) {
        let Some(entry) = part.common_setting("link") else { continue };
        let title = part.title();
        match telling[..] {
            [_] => (),
            [] => {
                let message = format!("{title} asks how the link is, and no connection tells");
                let label = "needs a connection of type `router` in this folder";
                let finding = Finding::error(&UNKNOWN_CONNECTION, entry.key_span, message, label);
                findings.push(finding.help("declare one in a section `connections:`"));
            }
            [first, second, ..] => {
                let message = format!("{title} asks how the link is, and several connections tell");
                let label = "expected one connection of type `router` in this folder";
                let finding = Finding::error(&UNKNOWN_CONNECTION, entry.key_span, message, label);
                let finding = finding.context(first.name_span, "");
                findings.push(finding.context(second.name_span, ""));
            }
        }
    }
}
