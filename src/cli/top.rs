//! `forebay top`: the same as `status`, in a terminal, as it changes.

use std::{
    cmp::Reverse,
    io::{IsTerminal, Write, stdout},
    time::Duration,
};

use anyhow::bail;
use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    execute, queue,
    style::{Attribute, Print, SetAttribute},
    terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen},
};
use tokio::time::Instant;

use super::{
    folder::DataFolder,
    output::{Ending, about},
    report::{Status, Wellness},
    runtime::block_on,
    status::{ask_status, headline, latency_of, table},
};
use crate::{
    engine::{PartReport, StateName},
    lint::report::printable,
};

/// Watch what runs in a table: what waits, errors and rates, sorted by what needs a look.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    data: DataFolder,
    /// Seconds from one look to the next, 0.2 to 3600.
    #[arg(long, default_value = "1", value_parser = seconds)]
    every: Duration,
    /// What comes first. Keys change it, too.
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|seconds| (0.2..=3600.0).contains(seconds));
    number.map(Duration::from_secs_f64).ok_or_else(|| "expected 0.2 to 3600".to_owned())
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
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

/// What is looked at, and how.
#[derive(Default)]
struct View {
    sort: Sort,
    /// Which line is chosen.
    chosen: usize,
    /// Which line is the first that is shown.
    first: usize,
}

pub(super) fn top(arguments: Arguments) -> anyhow::Result<Ending> {
    if !stdout().is_terminal() {
        bail!("`top` draws in a terminal; `forebay status` says the same once");
    }
    let data = arguments.data.path(None);
    // Who is not there is told where it stays to be read.
    let mut status = block_on(ask_status(&data))?;
    let _screen = Screen::open()?;
    let mut view = View { sort: arguments.sort, ..View::default() };
    let mut looked = Instant::now();
    loop {
        let (width, height) = size()?;
        draw(&view.lines(&status, width, height))?;
        if event::poll(arguments.every.saturating_sub(looked.elapsed()))? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release && !view.press(key) => {
                    return Ok(Ending::Fine);
                }
                _ => (),
            }
            continue;
        }
        looked = Instant::now();
        status = block_on(ask_status(&data))?;
    }
}

/// Columns and lines. A terminal at the end of a pipe or a serial line may not know.
fn size() -> anyhow::Result<(usize, usize)> {
    Ok(match terminal::size()? {
        (0, _) | (_, 0) => (80, 24),
        (width, height) => (width.into(), height.into()),
    })
}

/// The terminal, as long as it is ours. It is given back as it was, also when something goes wrong.
struct Screen;

impl Screen {
    fn open() -> anyhow::Result<Screen> {
        terminal::enable_raw_mode()?;
        let screen = Screen;
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whoever has closed the terminal needs none of it.
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// A line of the screen, and whether it is marked.
type Line = (String, bool);

fn draw(lines: &[Line]) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    for (row, (line, is_marked)) in (0_u16..).zip(lines) {
        let style = if *is_marked { Attribute::Reverse } else { Attribute::Reset };
        queue!(out, MoveTo(0, row), SetAttribute(style), Print(line))?;
        queue!(out, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
    }
    queue!(out, Clear(ClearType::FromCursorDown))?;
    out.flush()?;
    Ok(())
}

const KEYS: &str = "q quit   up/down choose   s state   n name   r rate   w waiting   e errors";
/// Lines about the chosen one.
const ABOUT_LINES: usize = 3;

impl View {
    /// Does what a key says. False for the one that ends it.
    fn press(&mut self, key: KeyEvent) -> bool {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.chosen += 1,
            KeyCode::PageUp => self.chosen = self.chosen.saturating_sub(10),
            KeyCode::PageDown => self.chosen += 10,
            KeyCode::Home => self.chosen = 0,
            KeyCode::Char('s') => self.sort = Sort::State,
            KeyCode::Char('n') => self.sort = Sort::Name,
            KeyCode::Char('r') => self.sort = Sort::Rate,
            KeyCode::Char('w') => self.sort = Sort::Waiting,
            KeyCode::Char('e') => self.sort = Sort::Errors,
            _ => (),
        }
        true
    }

    /// All lines of a screen of that size.
    fn lines(&mut self, status: &Status, width: usize, height: usize) -> Vec<Line> {
        let mut parts: Vec<&PartReport> =
            status.report.connections.iter().chain(&status.report.nodes).collect();
        self.sort.sort(&mut parts);
        let table = table(&parts, Some(width));
        let mut table = table.lines();
        let head = table.next().unwrap_or_default();
        let rows: Vec<&str> = table.collect();
        let room = height.saturating_sub(4 + ABOUT_LINES).max(1);
        self.chosen = self.chosen.min(rows.len().saturating_sub(1));
        // As far as it has to move for the chosen line to be seen.
        self.first = self.first.clamp((self.chosen + 1).saturating_sub(room), self.chosen);
        let mut lines =
            vec![(headline(status), false), (wellness(status), false), (head.to_owned(), false)];
        for (at, row) in rows.iter().enumerate().skip(self.first).take(room) {
            lines.push(((*row).to_owned(), at == self.chosen));
        }
        let chosen = parts.get(self.chosen).map(|part| about_one(part)).unwrap_or_default();
        lines.extend(wrapped(&chosen, width, ABOUT_LINES).into_iter().map(|line| (line, false)));
        lines.push((KEYS.to_owned(), false));
        lines.truncate(height);
        for (line, _) in &mut lines {
            *line = line.chars().take(width).collect();
        }
        lines
    }
}

impl Sort {
    fn sort(self, parts: &mut [&PartReport]) {
        let is_well = |part: &PartReport| {
            !matches!(part.state, StateName::Waiting | StateName::Broken) && !part.disk_fails
        };
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
    }
}

fn wellness(status: &Status) -> String {
    match (status.health.state, status.health.why.as_slice()) {
        (Wellness::NotReady, []) => "nothing runs".to_owned(),
        (_, []) => "all is well".to_owned(),
        (_, [only]) => printable(only).into_owned(),
        (_, [first, others @ ..]) => format!("{} (and {} more)", printable(first), others.len()),
    }
}

/// What there is to say about one.
fn about_one(part: &PartReport) -> String {
    let what = format!("{} of type {}", part.role.noun(), part.type_name);
    let why = part.why.as_ref().map(|why| format!("; {why}"));
    let held_up =
        part.held_up_by.as_ref().map(|by| format!("; held up by {by}, which has no room"));
    let latency = part.latency.as_ref().map(|latency| format!("; {}", latency_of(latency)));
    let error = part.last_error.as_ref();
    let error = error.map(|error| format!("; {} ago: {}", about(error.ago_s), error.text));
    let said = [Some(format!("{}: {what}", part.name)), why, held_up, latency, error];
    printable(&said.into_iter().flatten().collect::<String>()).into_owned()
}

/// A text in so many lines, the last of them cut.
fn wrapped(text: &str, width: usize, lines: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let pieces = characters.chunks(width.max(1)).map(|piece| piece.iter().collect());
    pieces.chain(std::iter::repeat_with(String::new)).take(lines).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Status {
        let part = |name: &str, state: &str, errors: u64, waiting: u64, sent: f64| {
            json!({
                "name": name, "role": "sink", "type": "mqtt", "state": state, "for_s": 62, "why": (state == "waiting").then_some("nothing listens at broker.example:8883"),
                "counts": { "errors": errors }, "per_second": { "received": sent, "sent": sent },
                "queue": { "messages": waiting, "bytes": 100, "used": 0.5 },
            })
        };
        let nodes = [
            part("boiler-room-of-the-second-building/heating-circuit", "running", 0, 3, 0.5),
            part("a/cloud", "waiting", 7, 0, 0.0),
            part("a/meter", "running", 0, 12, 20.0),
        ];
        let status = json!({
            "version": "1.0.0", "pid": 7, "running_for_s": 3600, "health": { "state": "degraded", "why": ["sink a/cloud: waiting for a minute"] },
            "files": { "folder": "/etc/forebay", "data": "/var/lib/forebay", "pipelines": 1 }, "clock_is_set": true, "nodes": nodes, "connections": [], "reloads": [],
        });
        serde_json::from_value(status).unwrap()
    }

    fn names(view: &mut View) -> Vec<String> {
        let lines = view.lines(&status(), 80, 24);
        lines[3..6].iter().map(|(line, _)| line.split(' ').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_needs_a_look_comes_first() {
        let mut view = View::default();
        let long = "…e-second-building/heating-circuit";
        assert_eq!(names(&mut view), ["a/cloud", "a/meter", long]);
        for (key, first) in [('n', "a/cloud"), ('r', "a/meter"), ('w', "a/meter"), ('e', "a/cloud")]
        {
            assert!(view.press(KeyCode::Char(key).into()));
            assert_eq!(names(&mut view)[0], first, "{key}");
        }
        assert!(!view.press(KeyCode::Char('q').into()));
        assert!(!view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_nor_a_screen_higher() {
        for (width, height) in [(80, 24), (40, 10), (10, 4), (1, 1), (300, 100)] {
            let lines = View::default().lines(&status(), width, height);
            assert!(lines.len() <= height, "{height}");
            assert!(
                lines.iter().all(|(line, _)| line.chars().count() <= width),
                "{width}: {lines:?}"
            );
        }
    }

    #[test]
    fn the_chosen_line_is_seen_and_explained() {
        let mut view = View::default();
        for _ in 0..9 {
            view.press(KeyCode::Down.into());
        }
        let lines = view.lines(&status(), 80, 8);
        let marked: Vec<_> = lines.iter().filter(|(_, is_marked)| *is_marked).collect();
        assert_eq!(marked.len(), 1);
        assert!(marked[0].0.contains("heating-circuit"), "{marked:?}");
        view.press(KeyCode::Home.into());
        let text: String = view.lines(&status(), 80, 8).into_iter().map(|(line, _)| line).collect();
        assert!(text.contains("nothing listens at broker.example:8883"), "{text}");
    }
}
