//! What stands on the screen.

use std::cmp::Reverse;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::{
    screen::{Line, Look},
    seen::Seen,
};
use crate::{
    cli::{
        columns::{cut, flow, padded, width, wrapped},
        output::about,
        report::{Status, Wellness, with_rule},
        status::{headline, latency_of, short, table},
    },
    engine::{Last, PartReport, PastError, StateName},
    lint::report::printable,
};

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sort {
    /// What waits or is broken, then what has most waiting in front of it.
    #[default]
    State,
    /// By name.
    Name,
    /// What moves most messages.
    Rate,
    /// What has most waiting in front of it.
    Waiting,
    /// What had most errors.
    Errors,
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pressed {
    Other,
    Suspend,
    Quit,
}

/// What is looked at, and how.
pub(super) struct View {
    sort: Sort,
    /// Which line is chosen.
    at: usize,
    /// Whose line that is. None for the first, whoever that is.
    chosen: Option<String>,
    /// Which line is the first that is shown.
    first: usize,
    shows_help: bool,
}

/// The columns of [`table`] without those of a long name.
const COLUMNS_OF_TABLE: usize = 80;
/// Less does not show a value.
const COLUMNS_OF_LAST: usize = 20;

/// Whether there is room for what each node sent last.
pub(super) fn has_room_for_last(width: usize) -> bool {
    width >= COLUMNS_OF_TABLE + COLUMNS_OF_LAST
}

const KEYS: [&str; 2] = [
    "q quit  ? help  up/down choose  sort: s state n name r rate w waiting e errors",
    "q quit  ? help  sort: s n r w e",
];

const HELP: &str = "\
q, Esc        quit
up, down      choose a line (or j, k, page up, page down), and follow it
Home          choose the first line, whoever that is
s n r w e     sort by state (what needs a look), name, rate, what waits, errors
Ctrl-Z        stop, until the shell says `fg`

FOR           how long it has been in that state
IN/S, OUT/S   messages a second: read, and sent on or taken by the other side
WAITING       messages in front of it, and how much of their room that is
ERRORS        since it started

Below the table is the chosen one: why it waits, last values, last errors.
`forebay status NODE` says all of it, `forebay tap NODE` shows its messages,
`forebay buffer show NODE` what waits on disk.

Any key goes back.";

impl View {
    pub(super) fn new(sort: Sort) -> View {
        View { sort, at: 0, chosen: None, first: 0, shows_help: false }
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent) -> Pressed {
        match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
            (KeyCode::Char('c'), true) => return Pressed::Quit,
            (KeyCode::Char('z'), true) => return Pressed::Suspend,
            _ if std::mem::take(&mut self.shows_help) => return Pressed::Other,
            (KeyCode::Char('q') | KeyCode::Esc, _) => return Pressed::Quit,
            (KeyCode::Char('?' | 'h'), _) => self.shows_help = true,
            (KeyCode::Up | KeyCode::Char('k'), _) => self.go(self.at.saturating_sub(1)),
            (KeyCode::Down | KeyCode::Char('j'), _) => self.go(self.at + 1),
            (KeyCode::PageUp, _) => self.go(self.at.saturating_sub(10)),
            (KeyCode::PageDown, _) => self.go(self.at + 10),
            (KeyCode::End, _) => self.go(usize::MAX),
            (KeyCode::Home, _) => (self.at, self.chosen) = (0, None),
            (KeyCode::Char('s'), _) => self.sort = Sort::State,
            (KeyCode::Char('n'), _) => self.sort = Sort::Name,
            (KeyCode::Char('r'), _) => self.sort = Sort::Rate,
            (KeyCode::Char('w'), _) => self.sort = Sort::Waiting,
            (KeyCode::Char('e'), _) => self.sort = Sort::Errors,
            _ => (),
        }
        Pressed::Other
    }

    /// Chooses a line, and from then on whoever stands there.
    fn go(&mut self, at: usize) {
        self.at = at;
        self.chosen = Some(String::new());
    }

    /// Finds the chosen one among what there is now, or who has taken its line. Its name.
    pub(super) fn choose(&mut self, status: &Status) -> Option<String> {
        let parts = self.sort.sorted(status);
        if let Some(chosen) = &mut self.chosen {
            let moved = parts.iter().position(|part| part.name == *chosen);
            self.at = moved.unwrap_or(self.at).min(parts.len().saturating_sub(1));
            *chosen = parts.get(self.at).map(|part| part.name.clone())?;
        }
        parts.get(self.at).map(|part| part.name.clone())
    }

    /// All lines of a screen of that size.
    pub(super) fn lines(&mut self, seen: &Seen, width: usize, height: usize) -> Vec<Line> {
        let mut lines = match self.shows_help {
            true => HELP.lines().map(plain).collect(),
            false => self.table_and_chosen(seen, width, height),
        };
        lines.truncate(height);
        for (line, _) in &mut lines {
            *line = cut(line, width);
        }
        lines
    }

    fn table_and_chosen(&mut self, seen: &Seen, width: usize, height: usize) -> Vec<Line> {
        let parts = self.sort.sorted(&seen.status);
        let below = lines_about(height);
        let room = height.saturating_sub(4 + below).max(1);
        // As far as it has to move for the chosen line to be seen.
        self.first = self.first.clamp((self.at + 1).saturating_sub(room), self.at);
        let away = seen.away.as_ref().map(|why| format!("as it was: {}", printable(why)));
        let wellness = away.unwrap_or_else(|| wellness(&seen.status));
        let mut table = with_last(&parts, seen, width).into_iter();
        let head = table.next().unwrap_or_default();
        let mut lines = vec![plain(headline(&seen.status)), plain(wellness), plain(head)];
        for (at, (row, part)) in table.zip(&parts).enumerate().skip(self.first).take(room) {
            let look = match is_well(part) {
                _ if at == self.at => Look::Chosen,
                true => Look::Plain,
                false => Look::Strong,
            };
            lines.push((row, look));
        }
        let chosen = parts.get(self.at).map(|part| about_one(part, seen, width, below));
        let chosen = chosen.into_iter().flatten().chain(std::iter::repeat(String::new()));
        lines.extend(chosen.take(below).map(plain));
        let keys = KEYS.iter().find(|keys| keys.len() <= width).unwrap_or(&KEYS[1]);
        lines.push(plain(*keys));
        lines
    }
}

fn plain(text: impl Into<String>) -> Line {
    (text.into(), Look::Plain)
}

/// So many lines are about the chosen one.
fn lines_about(height: usize) -> usize {
    match height {
        0..16 => 3,
        16..40 => 7,
        _ => 12,
    }
}

/// The lines of the table, with what each sent last where there is room.
fn with_last(parts: &[&PartReport], seen: &Seen, screen: usize) -> Vec<String> {
    if !has_room_for_last(screen) {
        return table(parts, Some(screen)).lines().map(str::to_owned).collect();
    }
    let text = table(parts, Some(COLUMNS_OF_TABLE.max(screen / 2)));
    let widest = text.lines().map(width).max().unwrap_or(0);
    let last = |part: &PartReport| {
        seen.last.get(&part.name).map_or_else(String::new, |last| {
            let values: Vec<String> = values(last).collect();
            format!("{:>4}  {}", short(last.ago_s), values.join("  "))
        })
    };
    let heads = "  AGO  LAST VALUES".to_owned();
    let cells = [heads].into_iter().chain(parts.iter().map(|part| last(part)));
    let lines = text.lines().zip(cells);
    lines.map(|(line, last)| format!("{}  {last}", padded(line, widest))).collect()
}

impl Sort {
    /// All there is, in that order.
    fn sorted(self, status: &Status) -> Vec<&PartReport> {
        let mut parts: Vec<&PartReport> = status.report.parts().collect();
        let waiting = |part: &PartReport| part.queue.as_ref().map_or(0, |queue| queue.messages);
        let errors = |part: &PartReport| part.counts.get("errors").copied().unwrap_or(0);
        let moves = |part: &PartReport| {
            part.per_second
                .as_ref()
                .map_or(0, |rates| (rates.received.max(rates.sent) * 1e3) as u64)
        };
        // Those that are alike stay in the order of their names.
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        match self {
            Sort::State => parts.sort_by_key(|part| (is_well(part), Reverse(waiting(part)))),
            Sort::Name => (),
            Sort::Rate => parts.sort_by_key(|part| Reverse(moves(part))),
            Sort::Waiting => parts.sort_by_key(|part| Reverse(waiting(part))),
            Sort::Errors => parts.sort_by_key(|part| Reverse(errors(part))),
        }
        parts
    }
}

fn is_well(part: &PartReport) -> bool {
    let is_stuck = matches!(part.state, StateName::Waiting | StateName::Broken);
    !is_stuck && !part.disk_fails && part.failing.is_none()
}

fn wellness(status: &Status) -> String {
    match (status.health.state, status.health.why.as_slice()) {
        (Wellness::NotReady, []) => "nothing runs".to_owned(),
        (_, []) => match status.report.parts().filter(|part| !is_well(part)).count() {
            0 => "all is well".to_owned(),
            1 => "nothing that lasts: 1 has waited for a moment".to_owned(),
            several => format!("nothing that lasts: {several} have waited for a moment"),
        },
        (_, [only]) => printable(only).into_owned(),
        (_, [first, others @ ..]) => format!("{} (and {} more)", printable(first), others.len()),
    }
}

/// What there is to say about one, in so many lines: how it is, what it sent last, what went wrong.
fn about_one(part: &PartReport, seen: &Seen, width: usize, most: usize) -> Vec<String> {
    let what = format!("{}: {} of type {}", part.name, part.role.noun(), part.type_name);
    let why = part.why.as_ref();
    let why =
        why.map(|why| format!("; {}: {}", part.state.word(), with_rule(why, part.rule.as_deref())));
    let fails = part.failing.as_ref().map(|failing| {
        format!("; fails for {}, {} errors in a row", about(failing.for_s), failing.errors)
    });
    let held_up =
        part.held_up_by.as_ref().map(|by| format!("; held up by {by}, which has no room"));
    let latency = part.latency.as_ref().map(|latency| format!("; {}", latency_of(latency)));
    let is: String = [Some(what), why, fails, held_up, latency].into_iter().flatten().collect();
    let known = seen.values.as_ref().filter(|(name, _)| *name == part.name);
    let last = known.and_then(|(_, values)| values.last.as_ref());
    let last = last.map(|last| last_lines(last, width)).unwrap_or_default();
    let errors = known.map_or(&[][..], |(_, values)| &values.errors);
    let errors = errors.iter().flat_map(|error| wrapped(&error_line(error), width)).collect();
    share([wrapped(&printable(&is), width), last, errors], most)
}

fn last_lines(last: &Last, width: usize) -> Vec<String> {
    let head = format!("{} ago, {}:", about(last.ago_s), printable(&last.topic));
    let pieces: Vec<String> = [head].into_iter().chain(values(last)).collect();
    flow(pieces.iter().map(String::as_str), "  ", width)
}

fn error_line(error: &PastError) -> String {
    let times = match error.times {
        1 => String::new(),
        times => format!(", {times} times"),
    };
    let text = with_rule(&error.text, error.rule.as_deref());
    printable(&format!("error {} ago{times}: {text}", about(error.ago_s))).into_owned()
}

/// `flow_temp 45.2 degC`, of each value.
fn values(last: &Last) -> impl Iterator<Item = String> {
    last.values.iter().map(|(name, value)| {
        let value = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Number(number) => short_number(number),
            other => other.to_string(),
        };
        let text = |of: &serde_json::Map<String, Value>| {
            of.get(name).and_then(Value::as_str).map(str::to_owned)
        };
        let unit = text(&last.units).map(|unit| format!(" {unit}"));
        let why = text(&last.quality).map(|why| format!(" ({why})"));
        let (unit, why) = (unit.unwrap_or_default(), why.unwrap_or_default());
        printable(&format!("{name} {value}{unit}{why}")).into_owned()
    })
}

/// What was measured has no more digits than that.
fn short_number(number: &serde_json::Number) -> String {
    const DIGITS: i32 = 6;
    match number.as_f64() {
        Some(float) if number.is_f64() && (1e-4..1e6).contains(&float.abs()) => {
            let before = float.abs().log10().floor() as i32 + 1;
            let after = (DIGITS - before).clamp(0, 9) as usize;
            let text = format!("{float:.after$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
        _ => number.to_string(),
    }
}

/// Lines of several texts, so many together: each has some before one has more. What is left out ends with `…`.
fn share(texts: [Vec<String>; 3], most: usize) -> Vec<String> {
    let mut shown = [0; 3];
    for _ in 0..most {
        let least = (0..3).filter(|at| shown[*at] < texts[*at].len()).min_by_key(|at| shown[*at]);
        let Some(least) = least else { break };
        shown[least] += 1;
    }
    let mut lines = Vec::new();
    for (text, shown) in texts.iter().zip(shown) {
        lines.extend_from_slice(&text[..shown]);
        if let Some(last) = lines.last_mut().filter(|_| (1..text.len()).contains(&shown)) {
            last.push_str(" …");
        }
    }
    lines
}

#[cfg(test)]
mod tests;
