//! The terminal, as long as it is ours. It is given back as it was, however that ends.

use std::{
    io::{Write, stdout},
    panic, process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    execute, queue,
    style::{Attribute, Print, SetAttribute},
    terminal::{
        self, Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen,
        LeaveAlternateScreen,
    },
};
use rustix::{
    process::{Signal, kill_current_process_group},
    termios::tcgetattr,
};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    time::interval,
};

use crate::cli::runtime::block_on;

/// How a line looks. No colours: these are seen on any ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    /// It needs a look.
    Strong,
    Chosen,
}

pub(super) type Line = (String, Look);

/// Somebody stopped this process and has it go on: what the terminal shows is of others.
static WENT_ON: AtomicBool = AtomicBool::new(false);

pub(super) struct Screen {
    /// What stands there. Over a slow link only what changes is drawn.
    drawn: Vec<Line>,
}

impl Screen {
    pub(super) fn open() -> anyhow::Result<Screen> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        thread::Builder::new().name("signals".to_owned()).spawn(follow_signals)?;
        let screen = Screen { drawn: Vec::new() };
        take()?;
        Ok(screen)
    }

    /// Columns and lines. A terminal at the end of a pipe or a serial line may not know.
    pub(super) fn size(&self) -> anyhow::Result<(usize, usize)> {
        Ok(match terminal::size()? {
            (0, _) | (_, 0) => (80, 24),
            (width, height) => (width.into(), height.into()),
        })
    }

    /// What stands there is not known any more.
    pub(super) fn forget(&mut self) {
        self.drawn.clear();
    }

    /// Leaves the terminal to others until the shell says so.
    pub(super) fn suspend(&mut self) -> anyhow::Result<()> {
        give_back();
        // Where no shell waits for that, the system goes on at once.
        kill_current_process_group(Signal::TSTP)?;
        self.forget();
        take()
    }

    pub(super) fn draw(&mut self, lines: Vec<Line>) -> anyhow::Result<()> {
        if WENT_ON.swap(false, Ordering::Relaxed) {
            self.forget();
            take()?;
        }
        let mut out = stdout().lock();
        if self.drawn.is_empty() {
            queue!(out, Clear(ClearType::All))?;
        }
        for (row, line) in (0_u16..).zip(&lines) {
            if self.drawn.get(usize::from(row)) == Some(line) {
                continue;
            }
            let (text, look) = line;
            let style = match look {
                Look::Plain => Attribute::Reset,
                Look::Strong => Attribute::Bold,
                Look::Chosen => Attribute::Reverse,
            };
            queue!(out, MoveTo(0, row), SetAttribute(style), Print(text))?;
            queue!(out, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        }
        if lines.len() < self.drawn.len() {
            let end = u16::try_from(lines.len()).unwrap_or(u16::MAX);
            queue!(out, MoveTo(0, end), Clear(ClearType::FromCursorDown))?;
        }
        out.flush()?;
        self.drawn = lines;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> anyhow::Result<()> {
    terminal::enable_raw_mode()?;
    // Terminals do not agree on how wide an emoji is: what is too long does not go over the next line.
    execute!(stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
    Ok(())
}

fn give_back() {
    // Whoever has closed the terminal needs none of it.
    let _ = execute!(stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}

/// Whoever ends this process gets the terminal back, too.
fn follow_signals() {
    let ended = block_on(async {
        let on = |kind: SignalKind| signal(kind);
        let (mut hangup, mut interrupt) = (on(SignalKind::hangup())?, on(SignalKind::interrupt())?);
        let (mut quit, mut terminate) = (on(SignalKind::quit())?, on(SignalKind::terminate())?);
        let mut went_on = on(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        let mut looks = interval(Duration::from_secs(1));
        loop {
            select! {
                // Not everybody who loses a terminal is told by a signal. Whoever reads keys from what is gone goes round
                // in circles.
                _ = looks.tick() => if tcgetattr(stdout()).is_err() {
                    return Ok(Signal::HUP);
                },
                _ = hangup.recv() => return Ok(Signal::HUP),
                _ = interrupt.recv() => return Ok(Signal::INT),
                _ = quit.recv() => return Ok(Signal::QUIT),
                _ = terminate.recv() => return Ok(Signal::TERM),
                _ = went_on.recv() => WENT_ON.store(true, Ordering::Relaxed),
            }
        }
    });
    if let Ok(by) = ended {
        // Nobody draws any more.
        let _out = stdout().lock();
        give_back();
        process::exit(128 + by.as_raw());
    }
}
