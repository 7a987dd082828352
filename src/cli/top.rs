//! `forebay top`: the same as `status`, in a terminal, as it changes.

mod screen;
mod seen;
mod view;

use std::{io::stdout, time::Duration};

use anyhow::bail;
use crossterm::event::{self, Event, KeyEventKind};
use tokio::time::Instant;

use self::{
    screen::Screen,
    seen::Seen,
    view::{Pressed, Sort, View, has_room_for_last},
};
use super::{
    folder::DataFolder,
    output::{Ending, knows_escapes},
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

pub(super) fn top(arguments: Arguments) -> anyhow::Result<Ending> {
    if !knows_escapes(&stdout()) {
        bail!("`top` draws in a terminal; `forebay status` says the same once");
    }
    let data = arguments.data.path(None);
    // Who is not there is told where it stays to be read.
    let mut seen = Seen::first(&data)?;
    let mut view = View::new(arguments.sort);
    let mut screen = Screen::open()?;
    let mut due = Instant::now();
    loop {
        let (width, height) = screen.size()?;
        if due <= Instant::now() {
            seen.look(&data, has_room_for_last(width));
            due = Instant::now() + arguments.every;
        }
        seen.look_at(&data, view.choose(&seen.status));
        screen.draw(view.lines(&seen, width, height))?;
        if !event::poll(due.saturating_duration_since(Instant::now()))? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match view.press(key) {
                Pressed::Quit => return Ok(Ending::Fine),
                Pressed::Suspend => screen.suspend()?,
                Pressed::Other => (),
            },
            Event::Resize(..) => screen.forget(),
            _ => (),
        }
    }
}
