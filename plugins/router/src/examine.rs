//! For `forebay doctor`: from the name of the router to what it tells and does. Nothing is done there.

use std::{collections::BTreeSet, io};

use forebay_sdk::{
    Examination, Timestamp,
    tls::{self, Tls, rustls::pki_types::ServerName},
    world::Dial,
};
use serde_json::Value;

use crate::{
    action::Kind,
    counters::Counters,
    group::{Group, Part},
    modem::{self, Identifiers},
    normal::{self, Raw},
    place::{Check, Place},
    provider::{Provider, recognise, why_absent},
    router::{Router, Speaks},
    rutos::Answers,
    sink::RouterSink,
    source::RouterSource,
    web::distrust,
};

/// Clocks that are further apart than this are told of.
const MOST_APART_SECONDS: u64 = 60;

/// Looks at what can go wrong between here and what the nodes want of a router.
pub async fn examine(router: &Router, certificates: &Tls, asked: &Examination<'_>) {
    let reached = match &router.place {
        Some(place) => reach(router, place, certificates, asked).await,
        None => true,
    };
    if !reached {
        return;
    }
    let mut provider = match router.find(&asked.site.world, certificates).await {
        Ok(provider) => provider,
        Err(error) => return asked.wrong("answer", format!("{error:#}"), ""),
    };
    match (&provider, &router.place) {
        (Provider::Linux(_), _) => {
            asked.fine("kernel", format!("it shows itself below {}", router.root.display()));
        }
        (Provider::Rutos(_), Some(_)) => asked.fine("answer", "RutOS answers at /api"),
        _ => asked.fine("answer", "ubus answers at /ubus"),
    }
    if !matches!(provider, Provider::Linux(_)) {
        if let Err(error) = provider.enter().await {
            let help = "too many wrong ones, and the router locks the account; this one counted";
            return asked.wrong("login", format!("{error:#}"), help);
        }
        asked.fine("login", format!("`{}` is let in", router.username));
    }
    look(router, &mut provider, asked).await;
    provider.leave().await;
}

/// To the web server of the router, and that it is the router.
async fn reach(
    router: &Router,
    place: &Place,
    certificates: &Tls,
    asked: &Examination<'_>,
) -> bool {
    const ANSWER: &str = "answer";
    let config = match (place.is_encrypted, place.check) {
        (false, _) => None,
        (true, Check::Fingerprint(pin)) => tls::trusting_only(pin).ok(),
        (true, Check::System | Check::Authority) => {
            match asked.read_certificates(certificates).await {
                Some(config) => Some(config),
                None => return false,
            }
        }
    };
    let dial = Dial::new(place.endpoint.clone());
    let Some(stream) = asked.reach(dial, router.timeout).await else { return false };
    if let Some(config) = config {
        let Ok(name) = ServerName::try_from(place.endpoint.host.clone()) else { return false };
        let words = |error: io::Error| distrust(place, error);
        let shaken = asked.shake_hands(stream, name, config, router.timeout, words).await;
        if shaken.is_none() {
            return false;
        }
    } else {
        // Some servers talk with one at a time.
        drop(stream);
    }
    let found = recognise(&mut router.web(&asked.site.world, place, certificates)).await;
    let (seen, help) = match found {
        Err(error) => (format!("{error:#}"), "is it the web server of a router?".to_owned()),
        Ok(None) => (
            format!("{place} answers, and neither as RutOS at /api nor as ubus at /ubus"),
            "look at the port in `url`, and whether the router's API is switched on".to_owned(),
        ),
        Ok(Some(found)) if router.speaks != Speaks::Auto && router.speaks != found => {
            let (found, wanted) = (found.name(), router.speaks.name());
            (
                format!("it answers as `{found}` and not as `{wanted}`"),
                format!("`provider: {found}`"),
            )
        }
        Ok(Some(_)) => return true,
    };
    asked.wrong(ANSWER, seen, help);
    false
}

/// What it tells of what the nodes want, and whether it has what they set.
async fn look(router: &Router, provider: &mut Provider, asked: &Examination<'_>) {
    let sources: Vec<&RouterSource> = users(asked);
    let sinks: Vec<&RouterSink> = users(asked);
    let wanted: BTreeSet<Group> =
        sources.iter().flat_map(|source| source.asked.iter().map(|it| it.group)).collect();
    let wanted = if wanted.is_empty() { BTreeSet::from(Group::ALL) } else { wanted };
    let own = [Group::Device, Group::Clock, Group::Io, Group::Signal];
    let parts: BTreeSet<Part> =
        wanted.iter().chain(&own).flat_map(|group| group.parts()).copied().collect();
    let answers = match provider.read(&parts.into_iter().collect::<Vec<_>>()).await {
        Ok(answers) => answers,
        Err(error) => return asked.wrong("groups", format!("{error:#}"), ""),
    };
    let found = answers.iter().filter_map(|(part, it)| Some((*part, it.as_ref().ok()?.clone())));
    let raw: Raw = found.collect();
    let now = Timestamp::now();
    if let Some(device) = normal::group(Group::Device, &raw, Identifiers::Hidden, now) {
        let of = |name: &str| device.get(name).and_then(Value::as_str);
        let words: Vec<&str> = ["model", "firmware"].into_iter().filter_map(of).collect();
        asked.fine("device", words.join(", "));
    }
    groups(router, &wanted, &answers, &raw, asked);
    for sink in sinks {
        try_sink(sink, &answers, &raw, asked);
    }
    if let Provider::Rutos(_) | Provider::Ubus(_) = provider {
        clock(&raw, asked);
    }
}

/// The nodes of a kind.
fn users<'a, T: 'static>(asked: &Examination<'a>) -> Vec<&'a T> {
    asked.users.iter().filter_map(|(_, user)| user.downcast_ref()).collect()
}

fn groups(
    router: &Router,
    wanted: &BTreeSet<Group>,
    answers: &Answers,
    raw: &Raw,
    asked: &Examination<'_>,
) {
    const WHAT: &str = "groups";
    let now = Timestamp::now();
    let is_told = |group: &Group| match group {
        Group::Data => {
            let modems = raw.get(&Part::Modems);
            modems.is_some_and(|modems| Counters::default().read(modems, None, now).is_some())
        }
        group => normal::group(*group, raw, Identifiers::Hidden, now).is_some(),
    };
    let (told, absent): (Vec<Group>, Vec<Group>) = wanted.iter().partition(|group| is_told(group));
    if !told.is_empty() {
        let names: Vec<&str> = told.iter().map(|group| group.name()).collect();
        asked.fine(WHAT, format!("it tells {}", names.join(", ")));
    }
    for group in absent {
        let seen = format!("nothing of `{}`: {}", group.name(), why_absent(group, answers));
        let help = match &router.place {
            Some(_) => format!(
                "the router may lack it, or `{}` may not see it: leave the group out, or give that user the right",
                router.username
            ),
            None => "leave the group out; a router that is asked by `url` may know it".to_owned(),
        };
        asked.doubt(WHAT, seen, help);
    }
}

/// Whether there is what a sink wants to set, or to send by.
fn try_sink(sink: &RouterSink, answers: &Answers, raw: &Raw, asked: &Examination<'_>) {
    const WHAT: &str = "actions";
    match sink.action {
        Kind::Output => {
            let io = normal::group(Group::Io, raw, Identifiers::Hidden, Timestamp::now());
            let Some(Value::Object(pins)) = io else {
                let why = why_absent(Group::Io, answers);
                let seen = format!("whether there are such outputs is not known: {why}");
                return asked.doubt(WHAT, seen, "let the user see the inputs and outputs, too");
            };
            for name in &sink.outputs {
                match pins.contains_key(name) {
                    true => asked.fine(WHAT, format!("there is an output `{name}`")),
                    false => {
                        let all: Vec<String> = pins.keys().map(|it| format!("`{it}`")).collect();
                        let seen = format!("there is no output `{name}`");
                        asked.wrong(WHAT, seen, format!("it has {}", all.join(", ")));
                    }
                }
            }
        }
        Kind::Sms | Kind::Sim => match raw.get(&Part::Modems).and_then(modem::chosen) {
            Some(found) => {
                asked.fine(
                    WHAT,
                    format!("`{}` has modem {}", sink.action.name(), modem::name(found)),
                );
            }
            None => {
                let seen = format!(
                    "`{}` needs a modem: {}",
                    sink.action.name(),
                    why_absent(Group::Signal, answers)
                );
                asked.wrong(WHAT, seen, "is there one, and may the user see it?");
            }
        },
        Kind::Reboot => (),
    }
}

fn clock(raw: &Raw, asked: &Examination<'_>) {
    const WHAT: &str = "clock";
    let now = Timestamp::now();
    let Some(said) = normal::group(Group::Clock, raw, Identifiers::Hidden, now) else { return };
    let time = said.get("time").and_then(Value::as_str).unwrap_or_default();
    match said.get("ahead").and_then(Value::as_i64) {
        Some(ahead) if ahead.unsigned_abs() > MOST_APART_SECONDS => {
            let seen = format!(
                "it says {time}, which is {} s {} ours",
                ahead.unsigned_abs(),
                if ahead > 0 { "ahead of" } else { "behind" }
            );
            asked.doubt(WHAT, seen, "set up NTP on the router, and where this program runs");
        }
        Some(_) => asked.fine(WHAT, format!("it says {time}, as ours does")),
        None => asked.doubt(
            WHAT,
            format!("it says {time}, and ours is not set"),
            "wait for NTP, or set it",
        ),
    }
}
