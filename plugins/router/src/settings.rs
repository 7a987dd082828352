//! What users write for a `router` connection, source and sink, and what is wrong with it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use forebay_sdk::{
    Configured, DeadbandSettings, Period, Problem, Rate, Secret, Settings, ShortOr,
    orders::{Bounds, too_old},
    rules::UNENCRYPTED,
    tls::Fingerprint,
    units::form,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::{
    action::{Kind, LONGEST_TEXT},
    group::Group,
    modem::Identifiers,
    place::{Check, Place},
    router::{Router, Speaks},
    rules::UNKNOWN_CERTIFICATE,
    sink::RouterSink,
    source::{Asked, RouterSource},
};

const LONGEST_TIMEOUT: Period = Period::seconds(60);
const SECOND: Period = Period::seconds(1);
const DAY: Period = Period::seconds(86_400);
const MONTH: Period = Period::seconds(31 * 86_400);

/// The router that this program runs on or beside, or any Linux machine.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterSettings {
    /// Where the router answers: `https://192.168.1.1`. Left out, the kernel of this machine is asked.
    #[schemars(extend("format" = form::URL))]
    url: Option<String>,
    /// How it is asked.
    #[serde(default)]
    provider: Speaks,
    /// Who we are to the router. Make one who may only read, unless something is in `allow`.
    #[schemars(length(min = 1))]
    username: Option<String>,
    /// The password, as `${file:secrets/router}`.
    password: Option<Secret>,
    /// SHA-256 of the router's certificate, such as `AB:CD:…`: that one is trusted and no other. Routers make
    /// their certificates themselves; what it is, the log says at the first try.
    #[schemars(length(min = 1))]
    fingerprint: Option<String>,
    /// The certificates to trust instead, and no others: a PEM file, its name relative to the configuration's
    /// folder, or the PEM text itself.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    ca: Option<String>,
    /// Where the root of the machine is mounted, whose kernel is asked: `/host`, say, in a container.
    #[serde(default = "default_root")]
    #[schemars(length(min = 1))]
    root: String,
    /// Time for an answer: 100ms to 1m.
    #[serde(default = "default_timeout")]
    timeout: Period,
    /// What the router may be told to do, by sinks on this connection. Nothing unless given.
    #[serde(default)]
    allow: BTreeSet<Kind>,
    /// The most messages that have it do something; a text to several numbers is one. Further ones wait.
    #[serde(default = "default_rate")]
    rate: Rate,
    /// How often the state of the link is read, when a sink has a condition on it: 1s to 1h.
    #[serde(default = "default_link_every")]
    link_every: Period,
}

fn default_root() -> String {
    "/".to_owned()
}

fn default_timeout() -> Period {
    Period::seconds(10)
}

fn default_rate() -> Rate {
    Rate(Duration::from_secs(10))
}

fn default_link_every() -> Period {
    Period::seconds(10)
}

impl Settings for RouterSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let shortest = Period(Duration::from_millis(100));
        problems.extend(Problem::unless_within(
            "timeout",
            &self.timeout,
            shortest..=LONGEST_TIMEOUT,
        ));
        let hour = Period::seconds(3600);
        problems.extend(Problem::unless_within("link_every", &self.link_every, SECOND..=hour));
        let place = self.place(problems);
        let place = if self.url.is_some() { Some(place?) } else { None };
        let is_asked = place.is_some() && self.provider != Speaks::Linux;
        if is_asked {
            self.check_login(problems);
        }
        if place.is_none() && matches!(self.provider, Speaks::Rutos | Speaks::Ubus) {
            let problem = Problem::new("provider", "there is no `url` to ask at", "needs a `url`");
            problems.push(problem);
        }
        if !self.allow.is_empty() && !matches!(self.provider, Speaks::Auto | Speaks::Rutos) {
            let message = "only a router with RutOS can be told to do something";
            problems.push(Problem::new("allow", message, "expected `provider: rutos`"));
        }
        Some(Router {
            place: place.filter(|_| self.provider != Speaks::Linux),
            speaks: self.provider,
            username: self.username.unwrap_or_default(),
            password: self.password.unwrap_or_default(),
            ca: self.ca,
            root: PathBuf::from(self.root),
            timeout: self.timeout,
            allow: self.allow,
            rate: self.rate,
            link_every: self.link_every,
        })
    }
}

impl RouterSettings {
    fn place(&self, problems: &mut Vec<Problem>) -> Option<Place> {
        let check = match (&self.fingerprint, &self.ca) {
            (Some(text), _) => match text.parse::<Fingerprint>() {
                Ok(pin) => Check::Fingerprint(pin),
                Err(_) => {
                    let message = "`fingerprint` is no SHA-256 of a certificate";
                    let label = "expected 32 bytes such as `AB:CD:…`";
                    problems.push(Problem::new("fingerprint", message, label));
                    Check::System
                }
            },
            (None, Some(_)) => Check::Authority,
            (None, None) => Check::System,
        };
        if self.fingerprint.is_some() && self.ca.is_some() {
            let message = "`ca` has no effect beside `fingerprint`";
            problems.push(
                Problem::new("ca", message, "the certificate is known").also("fingerprint", ""),
            );
        }
        let place = match Place::parse(self.url.as_ref()?, check) {
            Ok(place) => place,
            Err(label) => {
                problems.push(Problem::new("url", "`url` does not lead to a router", label));
                return None;
            }
        };
        if !place.is_encrypted && !place.endpoint.is_local() {
            let host = &place.endpoint.host;
            let message = format!("`url` has no TLS, and {host} is no local host");
            let problem = Problem::new("url", message, format!("expected `https://{host}`"));
            let note = "who listens on the way reads the password, and can change what comes";
            problems.push(problem.rule(&UNENCRYPTED).warning().note(note));
        }
        if place.is_encrypted && self.fingerprint.is_none() && self.ca.is_none() {
            let message = "nothing shows that it is the router that answers at `url`";
            let problem = Problem::new("url", message, "needs a `fingerprint`, or a `ca`");
            let note = "routers make their certificates themselves; the log says the fingerprint at the first try";
            problems.push(problem.rule(&UNKNOWN_CERTIFICATE).warning().note(note));
        }
        Some(place)
    }

    fn check_login(&self, problems: &mut Vec<Problem>) {
        for (setting, is_there) in
            [("username", self.username.is_some()), ("password", self.password.is_some())]
        {
            if !is_there {
                let message = format!("the router wants to know `{setting}`");
                problems.push(Problem::new("url", message, format!("needs a `{setting}`")));
            }
        }
    }
}

/// Reads a router at a steady beat, and sends one message with the groups whose turn it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterSourceSettings {
    /// How often it is read: 1s to 1d.
    #[serde(default = "default_every")]
    every: Period,
    /// What is read: names of groups, or maps of a name and a period of its own, as in
    /// `[signal, { group: data, every: 5m }]`. `signal`, `data`, `system` and `wan` unless given.
    #[serde(default = "default_groups")]
    #[schemars(length(min = 1, max = 9))]
    groups: Vec<GroupEntry>,
    /// Whether what names a subscriber or a device is sent too: IMEI, IMSI, ICCID, serial number.
    #[serde(default)]
    identifiers: bool,
    /// How far values must move to be sent again, by their paths: `signal.rsrp: 3`, or `signal: 2` for all
    /// numbers of a group. A value that has not moved is left out; when nothing is left, no message is sent.
    #[serde(default)]
    deadband: BTreeMap<String, DeadbandSettings>,
    /// Topic of the messages. Empty: the name of the node, as `pipeline/node`.
    #[serde(default)]
    topic: String,
}

/// A group, as its name or with its period.
#[derive(Clone, Copy, Deserialize)]
struct GroupEntry(ShortOr<Group, Written>);

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RouterGroup")]
struct Written {
    /// Which.
    group: Group,
    /// How often it is read: 1s to 31d.
    every: Period,
}

impl JsonSchema for GroupEntry {
    fn schema_name() -> Cow<'static, str> {
        "GroupOrName".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<Group>();
        let written = generator.subschema_for::<Written>();
        json_schema!({ "anyOf": [name, written] })
    }
}

fn default_every() -> Period {
    Period::seconds(30)
}

fn default_groups() -> Vec<GroupEntry> {
    let groups = [Group::Signal, Group::Data, Group::System, Group::Wan];
    groups.map(|group| GroupEntry(ShortOr::Short(group))).into()
}

impl Settings for RouterSourceSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        problems.extend(Problem::unless_within("every", &self.every, SECOND..=DAY));
        let mut asked: Vec<Asked> = Vec::new();
        for (at, GroupEntry(entry)) in self.groups.iter().enumerate() {
            let setting = format!("groups[{at}]");
            let (group, every) = match entry {
                ShortOr::Short(group) => (*group, self.every),
                ShortOr::Long(Written { group, every }) => {
                    let setting = format!("{setting}.every");
                    problems.extend(Problem::unless_within(setting, every, SECOND..=MONTH));
                    (*group, *every)
                }
            };
            if asked.iter().any(|it| it.group == group) {
                let message = format!("group `{}` stands here twice", group.name());
                problems.push(Problem::new(setting, message, "expected it once"));
                continue;
            }
            asked.push(Asked { group, every });
        }
        let mut deadbands = BTreeMap::new();
        for (path, settings) in &self.deadband {
            let setting = format!("deadband.{path}");
            let group = path.split('.').next().unwrap_or_default();
            if !asked.iter().any(|it| it.group.name() == group) {
                let message = format!("`{group}` is none of the groups that are read");
                let names: Vec<_> = asked.iter().map(|it| it.group.name()).collect();
                let label = format!("expected one of {}, and a path in it", names.join(", "));
                problems.push(Problem::new(setting, message, label));
                continue;
            }
            match settings.resolve() {
                Ok(sending) => drop(deadbands.insert(path.clone(), sending)),
                Err(of) => {
                    let message = format!("`{of}` of a deadband is no distance");
                    problems.push(Problem::new(setting, message, "expected 0 or more"));
                }
            }
        }
        Some(RouterSource {
            asked,
            identifiers: match self.identifiers {
                true => Identifiers::Shown,
                false => Identifiers::Hidden,
            },
            deadbands,
            topic: Some(self.topic.as_str()).filter(|topic| !topic.is_empty()).map(Arc::from),
        })
    }
}

/// Has the router do something when a message says so, and answers what it did.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterSinkSettings {
    /// What is done. `allow` of the connection has to name it.
    action: Kind,
    /// The outputs that messages may set, such as `dout1` or `relay0`. With `action: output`.
    #[serde(default)]
    #[schemars(
        length(min = 1),
        inner(length(min = 1, max = 32), regex(pattern = r"^[A-Za-z0-9_]+$"))
    )]
    outputs: Vec<String>,
    /// The numbers that text messages go to, such as `+491701234567`, and no others. With `action: sms`.
    #[serde(default)]
    #[schemars(length(min = 1, max = 10), inner(regex(pattern = r"^\+?[0-9]{3,15}$")))]
    to: Vec<String>,
    /// What text messages say. What the message says, as text or as its `text`, when left out.
    #[schemars(length(min = 1, max = 1000))]
    text: Option<String>,
    /// Refuses a message that is older: 1s to 31d. A command that waited through an outage.
    expires_after: Option<Period>,
    /// Checks, logs and answers everything, and does nothing.
    #[serde(default)]
    dry_run: bool,
}

impl Settings for RouterSinkSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let bounds = Bounds { expires_after: self.expires_after, rate: None };
        problems.extend(too_old(bounds.expires_after));
        let name = self.action.name();
        for (setting, is_there, of) in [
            ("outputs", !self.outputs.is_empty(), Kind::Output),
            ("to", !self.to.is_empty(), Kind::Sms),
        ] {
            if of == self.action && !is_there {
                let message = format!("`action: {name}` does not say `{setting}`");
                problems.push(Problem::new("action", message, format!("needs `{setting}`")));
            }
            if of != self.action && is_there {
                let message = format!("`action: {name}` has no `{setting}`");
                problems.push(Problem::new(setting, message, "has no effect here"));
            }
        }
        if self.text.is_some() && self.action != Kind::Sms {
            let message = format!("`action: {name}` has no `text`");
            problems.push(Problem::new("text", message, "has no effect here"));
        }
        debug_assert!(self.text.as_ref().is_none_or(|text| text.chars().count() <= LONGEST_TEXT));
        Some(RouterSink {
            action: self.action,
            outputs: self.outputs,
            to: self.to,
            text: self.text,
            bounds,
            dry_run: self.dry_run,
        })
    }
}
