//! Takes a bridge apart: for each way a source, a node in the middle and a sink.

use forebay_sdk::{
    Expanded, Expansion, Filter, Finding, Problem, Role, ShortOr, Span, Value, schema_of,
    yaml::{Content, Entry, Scalar, Style, Yaml, decode},
};

use crate::{
    rule::{Place, Rule, read_line},
    settings::{BridgeSettings, Direction},
};

/// The section `bridges:`.
pub struct Bridges;

impl Expansion for Bridges {
    fn name(&self) -> &str {
        "bridges"
    }

    fn noun(&self) -> &str {
        "bridge"
    }

    fn role(&self) -> Option<Role> {
        None
    }

    fn summary(&self) -> &str {
        "Ties two brokers together: what is published at one goes to the other."
    }

    fn schema(&self) -> Value {
        schema_of::<BridgeSettings>()
    }

    fn expand(&self, name: &str, settings: &Yaml, findings: &mut Vec<Finding>) -> Vec<Expanded> {
        let Some(bridge) = decode::<BridgeSettings>(settings, "bridge", findings) else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        let rules = rules(&bridge, settings, &mut problems);
        findings.extend(problems.into_iter().map(|it| it.at(|place| settings.at(place).span)));
        let ends = ["local", "remote"].map(|name| (name, settings.at(name)));
        let own = ends.iter().filter(|(_, end)| end.entries().is_some());
        let mut parts: Vec<Expanded> =
            own.map(|(name, end)| part(Role::Connection, name, (*end).clone(), end.span)).collect();
        let notes = bridge.notifications.as_ref().map(|notes| match notes.topic {
            Some(_) => settings.at("notifications.topic").clone(),
            None => text(&format!("bridge/{name}/state"), settings.at("notifications").span),
        });
        parts.extend(half(&OUT, &bridge, settings, &rules, notes.as_ref()));
        parts.extend(half(&IN, &bridge, settings, &rules, None));
        parts.extend(notes.into_iter().flat_map(|topic| state(topic, settings)));
        parts
    }
}

/// A rule, and where it stands.
struct Placed {
    rule: Rule,
    span: Span,
}

/// All rules that can be followed.
fn rules(bridge: &BridgeSettings, settings: &Yaml, problems: &mut Vec<Problem>) -> Vec<Placed> {
    let mut rules: Vec<(Placed, Place)> = Vec::new();
    for (at, written) in bridge.topics.iter().enumerate() {
        let setting = format!("topics[{at}]");
        let (written, is_line) = match written {
            ShortOr::Long(written) => (Ok(written.clone()), false),
            ShortOr::Short(line) => (read_line(line), true),
        };
        let span = settings.at(&setting).span;
        let place = Place { setting: setting.clone(), is_line };
        match written {
            Ok(written) => {
                let rule = Rule::resolve(written, &place, problems);
                let Some(rule) = rule else { continue };
                let unreached = rules.iter().find(|(other, _)| other.rule.takes_all_of(&rule));
                problems.extend(unreached.map(|(_, other)| {
                    let message = format!("`{setting}` is never reached");
                    let label = "what it is about goes by the rule above";
                    let problem = Problem::new(place.of("pattern"), message, label);
                    problem
                        .warning()
                        .also(&*other.setting, "takes all of it")
                        .note("the first rule that fits counts")
                }));
                rules.push((Placed { rule, span }, place));
            }
            Err(label) => {
                problems.push(Problem::new(&*setting, format!("`{setting}` is no rule"), label));
            }
        }
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// One way over a bridge, and what its parts are called.
struct Way {
    from: &'static str,
    to: &'static str,
    source: &'static str,
    middle: &'static str,
    sink: &'static str,
    buffer: &'static str,
}

const OUT: Way = Way {
    from: "local",
    to: "remote",
    source: "from-local",
    middle: "out",
    sink: "to-remote",
    buffer: "buffer",
};
const IN: Way = Way {
    from: "remote",
    to: "local",
    source: "from-remote",
    middle: "in",
    sink: "to-local",
    buffer: "inbound_buffer",
};

impl Way {
    fn has(&self, rule: &Rule) -> bool {
        match rule.direction {
            Direction::Out => self.middle == OUT.middle,
            Direction::In => self.middle == IN.middle,
            Direction::Both => true,
        }
    }

    fn other(&self) -> &'static Way {
        if self.middle == OUT.middle { &IN } else { &OUT }
    }

    /// A rule that publishes, at the end where this way subscribes, what another rule of this way asks for.
    fn heard<'r>(&self, rules: &'r [Placed]) -> Option<&'r Placed> {
        let other = self.other();
        let publishes = |asked: &Rule| {
            let mut publishing = rules.iter().filter(|it| other.has(&it.rule));
            publishing.any(|it| it.rule.at(other.to).overlaps(asked.at(self.from)))
        };
        rules.iter().find(|it| self.has(&it.rule) && publishes(&it.rule))
    }
}

/// The nodes of one way. None when nothing goes this way.
fn half(
    way: &Way,
    bridge: &BridgeSettings,
    settings: &Yaml,
    rules: &[Placed],
    except: Option<&Yaml>,
) -> Vec<Expanded> {
    let mine: Vec<&Placed> = rules.iter().filter(|it| way.has(&it.rule)).collect();
    let Some(first) = mine.first() else { return Vec::new() };
    let span = first.span;
    let qos = |rule: &Rule| rule.written.qos.min(bridge.max_qos.unwrap_or(2));
    let most = mine.iter().map(|it| qos(&it.rule)).max().unwrap_or_default();
    let heard = way.heard(rules);

    let mut source = vec![
        entry("type", text("mqtt", span)),
        entry("connection", connection(way.from, settings)),
        entry("topics", list(asked(way, &mine), span)),
        entry("qos", number(most, span)),
        entry("format", text("bytes", span)),
        match heard {
            Some(rule) => entry("bridged", text("both_ways", rule.span)),
            None => entry("bridged", text("one_way", span)),
        },
    ];
    if heard.is_some() && way.from == "remote" {
        // What is published by others on this connection is not for the other end, and would cost twice.
        source.push(entry("no_local", plain("true", span)));
    }

    let moved = mine.iter().map(|it| {
        let written = &it.rule.written;
        let prefixes = (&written.local_prefix, &written.remote_prefix);
        let (strip, add) = if way.from == "local" { prefixes } else { (prefixes.1, prefixes.0) };
        let retain = if written.retain { "true" } else { "false" };
        map(
            vec![
                entry("filter", text(it.rule.at(way.from).as_str(), it.span)),
                entry("strip", text(strip, it.span)),
                entry("add", text(add, it.span)),
                entry("qos", number(qos(&it.rule), it.span)),
                entry("retain", plain(retain, it.span)),
            ],
            it.span,
        )
    });
    let is_heard_there = way.other().heard(rules).is_some();
    let mut middle = vec![
        entry("type", text("bridge", span)),
        entry("from", text(&format!(":{}", way.source), span)),
        entry("towards", text(way.to, span)),
        entry("rules", list(moved.collect(), span)),
        entry("max_hops", number(bridge.max_hops, span)),
        entry("mark", plain(if is_heard_there { "true" } else { "false" }, span)),
    ];
    middle.extend(except.map(|topic| entry("except", topic.clone())));

    let mut sink = vec![
        entry("type", text("mqtt", span)),
        entry("connection", connection(way.to, settings)),
        entry("from", text(&format!(":{}", way.middle), span)),
        entry("qos", number(most, span)),
        entry("as_published", plain("true", span)),
        entry("format", text("bytes", span)),
    ];
    match settings.entry(way.buffer) {
        Some(written) => sink.push(Entry { key: "buffer".to_owned(), ..written.clone() }),
        // On disk, a message waits for an acknowledgement. At QoS 0 there is none.
        None if most == 0 => (),
        None => sink.push(entry("buffer", map(vec![entry("store", text("spill", span))], span))),
    }
    if way.to == "remote" {
        sink.extend(settings.entry("batch").cloned());
    }
    sink.extend(settings.entry("must_deliver").cloned());

    vec![
        part(Role::Source, way.source, map(source, span), span),
        part(Role::Transform, way.middle, map(middle, span), span),
        part(Role::Sink, way.sink, map(sink, span), span),
    ]
}

/// What says whether the remote broker is there. It is marked as what the bridge brings, and left out
/// on the way out, so that it does not go over the bridge itself.
fn state(topic: Yaml, settings: &Yaml) -> Vec<Expanded> {
    let span = settings.at("notifications").span;
    let rule = map(vec![entry("filter", topic.clone())], span);
    let source = vec![
        entry("type", text("mqtt-state", span)),
        entry("connection", connection("remote", settings)),
        entry("topic", topic),
    ];
    let middle = vec![
        entry("type", text("bridge", span)),
        entry("from", text(":state", span)),
        entry("towards", text("local", span)),
        entry("rules", list(vec![rule], span)),
        entry("mark", plain("true", span)),
    ];
    let sink = vec![
        entry("type", text("mqtt", span)),
        entry("connection", connection("local", settings)),
        entry("from", text(":state-in", span)),
        entry("as_published", plain("true", span)),
        entry("format", text("bytes", span)),
    ];
    vec![
        part(Role::Source, "state", map(source, span), span),
        part(Role::Transform, "state-in", map(middle, span), span),
        part(Role::Sink, "state-to-local", map(sink, span), span),
    ]
}

/// The connection of an end: by its name, or that which the bridge has for itself.
fn connection(end: &str, settings: &Yaml) -> Yaml {
    match settings.at(end).entries() {
        Some(_) => text(&format!(":{end}"), settings.at(end).span),
        None => settings.at(end).clone(),
    }
}

/// What is subscribed to, without what another rule asks for too: some brokers would send it twice.
fn asked(way: &Way, mine: &[&Placed]) -> Vec<Yaml> {
    let filters: Vec<(&Filter, Span)> =
        mine.iter().map(|it| (it.rule.at(way.from), it.span)).collect();
    let is_needed = |(at, (filter, _)): &(usize, &(&Filter, Span))| {
        let mut others = filters.iter().enumerate().filter(|(other, _)| other != at);
        !others.any(|(other, (wider, _))| {
            wider.covers(filter) && (other < *at || wider.as_str() != filter.as_str())
        })
    };
    let needed = filters.iter().enumerate().filter(is_needed);
    needed.map(|(_, (filter, span))| text(filter.as_str(), *span)).collect()
}

fn part(role: Role, name: &str, settings: Yaml, origin: Span) -> Expanded {
    Expanded { role, part: name.to_owned(), settings, origin }
}

fn entry(key: &str, value: Yaml) -> Entry {
    Entry { key: key.to_owned(), key_span: value.span, value }
}

fn map(entries: Vec<Entry>, span: Span) -> Yaml {
    Yaml { span, content: Content::Map(entries) }
}

fn list(items: Vec<Yaml>, span: Span) -> Yaml {
    Yaml { span, content: Content::List(items) }
}

fn text(text: &str, span: Span) -> Yaml {
    scalar(text, Style::Quoted, span)
}

fn plain(text: &str, span: Span) -> Yaml {
    scalar(text, Style::Plain, span)
}

fn number(number: u8, span: Span) -> Yaml {
    plain(&number.to_string(), span)
}

fn scalar(text: &str, style: Style, span: Span) -> Yaml {
    let scalar = Scalar::new(text, style);
    Yaml { span, content: Content::Scalar(scalar) }
}
