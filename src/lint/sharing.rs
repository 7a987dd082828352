//! What only one can hold is claimed once, over all files of the folder.

use std::{any::Any, collections::HashMap, fs};

use forebay_sdk::{Claim, Finding, Holding, Span};

use super::index::Connections;
use crate::{
    config::{Draft, Part},
    rules::{CLAIMED_TWICE, CONNECTED_TWICE},
};

/// Reports what is claimed twice, with both claimants.
pub(super) fn check(draft: &Draft, connections: &Connections<'_>, findings: &mut Vec<Finding>) {
    // Only those of one bucket can clash, so each is compared with few others.
    let mut buckets: HashMap<String, Vec<(&Part, Span, Claim)>> = HashMap::new();
    for part in &draft.parts {
        for claim in claims(part, connections) {
            let claim = resolved(claim);
            let span = place(part, &claim);
            let holders = buckets.entry(bucket(&claim)).or_default();
            match holders.iter().find(|(.., held)| held.clashes(&claim)) {
                // Two of one name are reported as that.
                Some((other, ..)) if other.name == part.name => (),
                None => holders.push((part, span, claim)),
                Some((other, first, held)) => {
                    findings.push(clash((other, *first, held), (part, span, &claim)));
                }
            }
        }
    }
}

/// What a node or connection claims, also of the connection that it uses.
fn claims(part: &Part, connections: &Connections<'_>) -> Vec<Claim> {
    let Some(configured) = &part.configured else { return Vec::new() };
    let mut claims = configured.claims();
    let used = part.uses.as_ref().and_then(|uses| connections.get(uses));
    if let Some(on) = used.and_then(|connection| connection.configured.as_ref()) {
        let settings: &dyn Any = &**on;
        claims.extend(configured.claims_on(settings));
    }
    claims
}

fn clash(first: (&Part, Span, &Claim), again: (&Part, Span, &Claim)) -> Finding {
    let ((other, first, held), (part, span, claim)) = (first, again);
    if let Holding::Peer(_) = held.held {
        let message = format!("`{}` and `{}` both lead to {}", other.name, part.name, held.what);
        let label = format!("give its nodes `connection: {}`", other.name);
        return Finding::warning(&CONNECTED_TWICE, span, message, label)
            .context(first, "first here")
            .note("many gateways and meters serve one client at a time, and then one of the two starves");
    }
    let message = format!("`{}` and `{}` both claim {}", other.name, part.name, claim.what);
    let label = match held.what == claim.what {
        true => "first claimed here".to_owned(),
        false => format!("first claimed here, as {}", held.what),
    };
    Finding::error(&CLAIMED_TWICE, span, message, "claimed again here").context(first, label)
}

/// Where a claim is made. A default claims without a word: then the name is marked.
fn place(part: &Part, claim: &Claim) -> Span {
    let span = match claim.setting.as_str() {
        "" => part.span(),
        setting => part.settings.at(setting).span,
    };
    if span == part.settings.span { part.span() } else { span }
}

/// A device has several names, such as those below `/dev/serial/by-id`. Follows links and opens
/// nothing; where there is no such file, on the desk at home, the name counts as written.
fn resolved(claim: Claim) -> Claim {
    match &claim.held {
        Holding::Path(path) if path.is_absolute() => {
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            Claim { held: Holding::Path(path), ..claim }
        }
        _ => claim,
    }
}

fn bucket(claim: &Claim) -> String {
    match &claim.held {
        Holding::Named(name) => name.clone(),
        Holding::Path(path) => path.display().to_string(),
        Holding::Listener(address) => address.port().to_string(),
        Holding::Peer(peer) => peer.clone(),
    }
}
