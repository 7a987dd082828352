//! Compares what was seen with what a test expects.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Write as _,
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use forebay_sdk::{Expression, Gives, Message, Port, Role, Size, SyncPolicy, expression};
use serde_json::json;

use super::{
    super::differences::{Likeness, differences, one_line},
    case::{Expected, Test},
    seen::{Entered, Event, Record, key},
    settings::{ArrivesSettings, ExpectSettings, ExpectedSettings, StateWord},
};
use crate::config::Name;

/// Of several things of one kind, so many are shown.
const SHOWN: usize = 3;

/// Something that is otherwise than expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When it was looked at. None at the end.
    pub at: Option<Duration>,
    pub words: String,
}

impl Failure {
    /// In a line, and what belongs to it.
    pub fn said(&self) -> String {
        match self.at {
            Some(at) => format!("at {}: {}", clock(at), self.words),
            None => self.words.clone(),
        }
    }
}

/// A time since the beginning of a test, as a clock shows it: `2:10:05`, with what is left of a second behind it.
fn clock(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    let shown = format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match millis {
        0 => shown,
        millis => format!("{shown}.{millis:03}"),
    }
}

/// What is otherwise than expected. With `updates`, files of `golden:` are written.
pub fn judge(test: &Test, expected: &Expected, record: &Record, updates: bool) -> Vec<String> {
    let mut failures = Vec::new();
    for (written, settings) in &expected.outputs {
        let Some((node, port)) = test.scene.output(written) else { continue };
        let none = Vec::new();
        let events = record.came_out.get(&(Arc::clone(&node), port)).unwrap_or(&none);
        let entered = entered_events(record, &node);
        // Nothing comes out of most sinks: what is expected of one is what went in.
        let events = match test.scene.graph.nodes[&node].role {
            Role::Sink if port == Port::MAIN => &entered,
            _ => events,
        };
        messages(test, written, settings, events, updates, &mut failures);
        state(written, settings.state, record, &node, &mut failures);
        let fullest = record.fullest.get(&node).copied().unwrap_or(0);
        if let Some(most) = settings.buffer_at_most.filter(|most| fullest > most.0) {
            let fullest = Size(fullest);
            failures.push(format!("{written}: its buffer held {fullest}, expected at most {most}"));
        }
    }
    for (written, member, settings) in &expected.members {
        let none = Vec::new();
        let events = record.arrived.get(member).unwrap_or(&none);
        messages(test, written, &settings.messages(), events, updates, &mut failures);
        state(written, settings.state, record, member, &mut failures);
        let bytes = record.bytes.get(member).copied().unwrap_or(0);
        if let Some(most) = settings.bytes_at_most.filter(|most| bytes > most.0) {
            let bytes = Size(bytes);
            failures.push(format!("{written}: {bytes} went over the way, expected at most {most}"));
        }
        let asks = settings.lost.is_some()
            || settings.duplicates.is_some()
            || settings.in_order.is_some()
            || settings.within.is_some();
        if asks {
            let account = Account::of(test, member, record);
            account.judge(written, settings, &mut failures);
        }
    }
    failures
}

/// What went to a sink, as events.
fn entered_events(record: &Record, sink: &Name) -> Vec<Event> {
    let entered = record.entered.get(sink).into_iter().flatten();
    let event = |entered: &Entered| Event { at: entered.at, message: entered.message.clone() };
    entered.map(event).collect()
}

fn state(
    written: &str,
    wanted: Option<StateWord>,
    record: &Record,
    name: &Name,
    failures: &mut Vec<String>,
) {
    let Some(wanted) = wanted else { return };
    let wanted = match wanted {
        StateWord::Starting => "starting",
        StateWord::Running => "running",
        StateWord::Waiting => "waiting",
        StateWord::Broken => "broken",
    };
    match record.states.get(name) {
        Some((found, _)) if *found == wanted => (),
        Some((found, why)) => {
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            failures.push(format!("{written}: expected it {wanted}, found it {found}{why}"));
        }
        None => failures.push(format!("{written}: expected it {wanted}, and it does not run")),
    }
}

fn messages(
    test: &Test,
    written: &str,
    settings: &ExpectSettings,
    events: &[Event],
    updates: bool,
    failures: &mut Vec<String>,
) {
    let found = events.len() as u64;
    let is_wrong = |wanted: &Option<u64>, is_right: &dyn Fn(u64) -> bool| {
        wanted.filter(|wanted| !is_right(*wanted))
    };
    if let Some(count) = is_wrong(&settings.count, &|count| found == count) {
        failures.push(format!("{written}: expected {count} messages, found {found}"));
    }
    if let Some(least) = is_wrong(&settings.at_least, &|least| found >= least) {
        failures.push(format!("{written}: expected at least {least} messages, found {found}"));
    }
    if let Some(most) = is_wrong(&settings.at_most, &|most| found <= most) {
        let first = events.get(usize::try_from(most).unwrap_or(usize::MAX));
        let first = first.map(|event| format!("; the first too many: {}", said(event)));
        let first = first.unwrap_or_default();
        failures.push(format!("{written}: expected at most {most} messages, found {found}{first}"));
    }
    if let Some(each) = &settings.each {
        failures.extend(each_holds(written, each, events));
    }
    if let Some(wanted) = &settings.messages {
        for (index, event) in events.iter().enumerate() {
            let what = format!("{written}: message {}", index + 1);
            match wanted.get(index) {
                Some(wanted) => failures
                    .extend(differs(wanted, event).into_iter().map(|it| format!("{what}: {it}"))),
                None if index < wanted.len() + SHOWN => {
                    failures.push(format!("{what} was not expected: {}", said(event)));
                }
                None => {
                    let more = events.len() - index;
                    failures.push(format!("{written}: and {more} more were not expected"));
                    break;
                }
            }
        }
        for missing in events.len()..wanted.len() {
            failures.push(format!("{written}: message {} did not come", missing + 1));
        }
    }
    if let Some(wanted) = &settings.among {
        failures.extend(among(written, wanted, events));
    }
    if let Some(wanted) = &settings.last {
        match events.last() {
            Some(event) => {
                let differs = differs(wanted, event).into_iter();
                failures.extend(differs.map(|it| format!("{written}: the last message: {it}")));
            }
            None => failures.push(format!("{written}: expected a last message, found none")),
        }
    }
    if let Some(golden) = &settings.golden {
        failures.extend(agrees(written, &test.beside.join(golden), golden, events, updates));
    }
}

fn compiled(text: &str) -> Option<Arc<dyn Expression>> {
    // What is wrong with it was said before the test ran.
    expression::compile(text, "each", Gives::Truth, &mut Vec::new())
}

fn each_holds(written: &str, text: &str, events: &[Event]) -> Option<String> {
    let expression = compiled(text)?;
    let name: Arc<str> = written.into();
    let fails = |event: &&Event| !expression.holds(&event.message, &name).unwrap_or(false);
    let failing: Vec<&Event> = events.iter().filter(fails).collect();
    let first = failing.first()?;
    let (count, first) = (failing.len(), said(first));
    Some(format!("{written}: `{text}` does not hold for {count} messages; the first: {first}"))
}

/// Finds messages in their order among others.
fn among(written: &str, wanted: &[ExpectedSettings], events: &[Event]) -> Option<String> {
    let mut next = 0;
    for (index, wanted) in wanted.iter().enumerate() {
        let rest = &events[next..];
        match rest.iter().position(|event| differs(wanted, event).is_empty()) {
            Some(position) => next += position + 1,
            None => {
                let number = index + 1;
                let mut words = format!("{written}: message {number} of `among` did not come");
                let nearest = rest.iter().min_by_key(|event| differs(wanted, event).len());
                match nearest {
                    Some(nearest) => {
                        let _ = write!(words, "; the nearest: {}", said(nearest));
                        for difference in differs(wanted, nearest) {
                            let _ = write!(words, "\n    {difference}");
                        }
                    }
                    None => words += ", nor any other behind those before it",
                }
                return Some(words);
            }
        }
    }
    None
}

/// What is otherwise about a message.
fn differs(wanted: &ExpectedSettings, event: &Event) -> Vec<String> {
    let Event { at, message } = event;
    let mut failures = Vec::new();
    let likeness = Likeness { tolerance: wanted.tolerance.unwrap_or(0.0), among_others: false };
    if let Some(topic) = wanted.topic.as_ref().filter(|topic| ***topic != *message.topic) {
        failures.push(format!("topic: expected \"{topic}\", found \"{}\"", message.topic));
    }
    let payload = message.payload.to_value_lossy();
    if let Some(wanted) = &wanted.payload {
        failures.extend(differences("payload", wanted, &payload, likeness));
    }
    if let Some(has) = &wanted.has {
        let likeness = Likeness { among_others: true, ..likeness };
        failures.extend(differences("payload", has, &payload, likeness));
    }
    for (name, value) in wanted.meta.iter().flatten() {
        let path = format!("meta.{name}");
        match message.meta.get(name) {
            Some(found) => failures.extend(differences(&path, value, found, likeness)),
            None => failures.push(format!("{path}: expected {}, found nothing", one_line(value))),
        }
    }
    if let Some(text) = &wanted.holds
        && let Some(expression) = compiled(text)
        && !expression.holds(message, &"test".into()).unwrap_or(false)
    {
        failures.push(format!("`{text}` does not hold"));
    }
    if let Some(after) = wanted.after.filter(|after| *at < **after) {
        failures.push(format!("it came at {}, expected after {after}", clock(*at)));
    }
    if let Some(before) = wanted.before.filter(|before| *at > **before) {
        failures.push(format!("it came at {}, expected before {before}", clock(*at)));
    }
    failures
}

fn said(event: &Event) -> String {
    let Event { at, message } = event;
    let payload = one_line(&message.payload.to_value_lossy());
    format!("\"{}\" {payload} at {}", message.topic, clock(*at))
}

/// Compares with a file of messages, a line for each.
fn agrees(
    written: &str,
    path: &Path,
    shown: &str,
    events: &[Event],
    updates: bool,
) -> Option<String> {
    let lines: String = events.iter().map(|event| line(event) + "\n").collect();
    let golden = fs::read_to_string(path);
    if golden.as_ref().is_ok_and(|golden| *golden == lines) {
        return None;
    }
    if updates {
        return fs::write(path, lines).err().map(|error| format!("writing {shown}: {error}"));
    }
    let golden = match golden {
        Ok(golden) => golden,
        Err(error) => {
            return Some(format!("{written}: {shown}: {error}; `forebay test --update` writes it"));
        }
    };
    let both = golden.lines().zip(lines.lines()).enumerate();
    let different = both.into_iter().find(|(_, (wanted, found))| wanted != found);
    let what = match different {
        Some((index, (wanted, found))) => {
            format!("line {} is another\n    - {wanted}\n    + {found}", index + 1)
        }
        None => {
            let (wanted, found) = (golden.lines().count(), lines.lines().count());
            format!("it has {wanted} messages, and there are {found}")
        }
    };
    Some(format!("{written}: {shown}: {what}"))
}

fn line(event: &Event) -> String {
    let Event { at, message: Message { topic, payload, .. } } = event;
    json!({ "at": clock(*at), "topic": &**topic, "payload": payload.to_value_lossy() }).to_string()
}

/// What went to the sinks of another side, and what of it arrived there.
pub struct Account {
    /// Went in, and neither arrived nor is excused.
    pub lost: Vec<(Duration, String)>,
    /// Arrived more often than it went in.
    pub again: u64,
    /// The most often that one did, for each time that it went in.
    pub most_again: u64,
    /// How many the limits of buffers dropped.
    pub dropped: u64,
    /// The first that arrived behind one that went in later.
    out_of_order: Option<String>,
    /// The longest that one took, and which.
    slowest: Option<(Duration, String)>,
    /// Why some may not have arrived.
    reasons: Vec<String>,
}

impl Account {
    /// Compares messages by their payloads; where a sink writes another form, by their number.
    pub fn of(test: &Test, member: &str, record: &Record) -> Account {
        Account::of_sinks(&test.scene.sinks_of(member), member, record)
    }

    /// The same for the sinks that promise that all arrives: not those that must do nothing twice, those whose other
    /// side confirms nothing, nor those whose disk may forget.
    pub fn of_promises(test: &Test, member: &str, record: &Record) -> Account {
        let mut sinks = test.scene.sinks_of(member);
        sinks.retain(|sink| {
            let spec = &test.scene.graph.nodes[sink];
            let can = spec.configured.capabilities();
            can.repeats && can.unconfirmed.is_none() && spec.common.buffer.sync != SyncPolicy::Never
        });
        Account::of_sinks(&sinks, member, record)
    }

    fn of_sinks(sinks: &[Name], member: &str, record: &Record) -> Account {
        let mut entered: Vec<&Entered> =
            sinks.iter().filter_map(|sink| record.entered.get(sink)).flatten().collect();
        entered.sort_by_key(|entered| entered.at);
        let none = Vec::new();
        let arrived = record.arrived.get(member).unwrap_or(&none);
        let (mut reasons, mut dropped) = (Vec::new(), 0);
        for sink in sinks {
            let waiting = record.waiting.get(sink).copied().unwrap_or(0);
            if waiting > 0 {
                reasons.push(format!("{waiting} wait in the buffer of {sink}"));
            }
            let of_sink = record.dropped.get(sink).copied().unwrap_or(0);
            if of_sink > 0 {
                reasons.push(format!("the limits of the buffer of {sink} dropped {of_sink}"));
            }
            dropped += of_sink;
        }
        let mut account = Account {
            lost: Vec::new(),
            again: 0,
            most_again: 0,
            dropped,
            out_of_order: None,
            slowest: None,
            reasons,
        };
        // By what they say: when they went in, those that must arrive first.
        let mut waiting: HashMap<&str, VecDeque<(usize, &Entered)>> = HashMap::new();
        for (place, one) in entered.iter().enumerate() {
            waiting.entry(&one.key).or_default().push_back((place, one));
        }
        let known: BTreeMap<&str, usize> =
            waiting.iter().map(|(key, all)| (*key, all.len())).collect();
        let mut again: HashMap<String, u64> = HashMap::new();
        let mut latest = 0;
        let mut strangers = 0_u64;
        for event in arrived {
            let key = key(&event.message);
            match waiting.get_mut(key.as_str()).and_then(VecDeque::pop_front) {
                Some((place, one)) => {
                    let took = event.at.saturating_sub(one.at);
                    if account.slowest.as_ref().is_none_or(|(slowest, _)| took > *slowest) {
                        account.slowest = Some((took, said(event)));
                    }
                    if place < latest && account.out_of_order.is_none() {
                        account.out_of_order = Some(said(event));
                    }
                    latest = latest.max(place);
                }
                None if known.contains_key(key.as_str()) => {
                    account.again += 1;
                    *again.entry(key).or_default() += 1;
                }
                None => strangers += 1,
            }
        }
        let each = again.iter().map(|(key, count)| count.div_ceil(known[key.as_str()] as u64));
        account.most_again = each.max().unwrap_or(0);
        let mut lost: Vec<&Entered> =
            waiting.into_values().flatten().map(|(_, entered)| entered).collect();
        lost.sort_by_key(|entered| entered.at);
        // As many as were excused may be missing of those that say the same.
        lost.retain(|entered| !entered.is_excused);
        // Those that nobody knows are in another form: each stands for one that seems to be missing.
        let strangers = usize::try_from(strangers).unwrap_or(usize::MAX);
        let lost = lost.into_iter().skip(strangers);
        account.lost = lost.map(|entered| (entered.at, entered.key.clone())).collect();
        account
    }

    /// What is lost, and why that may be.
    pub fn lost_in_words(&self, written: &str, most: u64) -> String {
        let lost = self.lost.len();
        let mut words =
            format!("{written}: {lost} messages did not arrive, expected at most {most}");
        if !self.reasons.is_empty() {
            let _ = write!(words, "; {}", self.reasons.join("; "));
        }
        for (at, key) in self.lost.iter().take(SHOWN) {
            let _ = write!(words, "\n    {key}, which went in at {}", clock(*at));
        }
        if lost > SHOWN {
            let _ = write!(words, "\n    and {} more", lost - SHOWN);
        }
        words
    }

    fn judge(&self, written: &str, settings: &ArrivesSettings, failures: &mut Vec<String>) {
        let lost = self.lost.len() as u64;
        if let Some(most) = settings.lost.filter(|most| lost > *most) {
            failures.push(self.lost_in_words(written, most));
        }
        let again = self.again;
        if let Some(most) = settings.duplicates.filter(|most| again > *most) {
            failures.push(format!("{written}: {again} arrived once more, expected at most {most}"));
        }
        if let (Some(true), Some(first)) = (settings.in_order, &self.out_of_order) {
            failures.push(format!("{written}: not in the order in which they were sent: {first}"));
        }
        if let (Some(within), Some((slowest, which))) = (settings.within, &self.slowest)
            && *slowest > *within
        {
            let slowest = clock(*slowest);
            failures.push(format!("{written}: expected within {within}, took {slowest}: {which}"));
        }
    }
}
