//! Where log lines go: standard error, filtered, as text or JSON. The last of them are kept for who asks.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry, filter::Targets, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use super::output::use_color;
use crate::{
    config::runtime::{Log, LogFormat, LogLevel},
    warnings::PANIC,
};

/// What can be changed while the program runs.
struct Controls {
    lines: reload::Handle<Lines, Registry>,
    filter: reload::Handle<Targets, Registry>,
}

/// The last lines, without their ends.
static TAIL: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
/// So many are kept,
const MOST_LINES: usize = 200;
/// and so much of each.
const MOST_LINE_BYTES: usize = 1000;

/// How lines look.
type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging, or changes it. `FOREBAY_LOG` goes before the level of `forebay.yaml`.
pub(super) fn set(log: &Log) {
    static CONTROLS: OnceLock<Controls> = OnceLock::new();
    let filter = filter(forced_level().unwrap_or(log.level));
    match CONTROLS.get() {
        // Fails only when the log is gone, and then there is nobody to tell.
        Some(controls) => {
            let _ = controls.lines.reload(lines(log.format));
            let _ = controls.filter.reload(filter);
        }
        None => {
            let (lines, lines_handle) = reload::Layer::new(lines(log.format));
            let (filter, filter_handle) = reload::Layer::new(filter);
            // A second call, as tests make it, changes nothing.
            let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
            let _ = CONTROLS.set(Controls { lines: lines_handle, filter: filter_handle });
            report_panics();
        }
    }
}

/// The level that `FOREBAY_LOG` asks for.
pub(super) fn forced_level() -> Option<LogLevel> {
    match std::env::var("FOREBAY_LOG").as_deref() {
        Ok("error") => Some(LogLevel::Error),
        Ok("warn") => Some(LogLevel::Warn),
        Ok("info") => Some(LogLevel::Info),
        Ok("debug") => Some(LogLevel::Debug),
        _ => None,
    }
}

fn lines(format: LogFormat) -> Lines {
    let stderr = std::io::stderr;
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr).with_target(false);
    let kept = || Kept;
    let kept =
        tracing_subscriber::fmt::layer().with_writer(kept).with_target(false).with_ansi(false);
    match format {
        LogFormat::Json => layer.json().flatten_event(true).and_then(kept).boxed(),
        LogFormat::Text => layer.with_ansi(use_color(&stderr())).and_then(kept).boxed(),
    }
}

/// The end of the log, as text, whatever format it has.
pub(super) fn tail() -> String {
    let tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
    tail.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// Takes a line at a time.
struct Kept;

impl Write for Kept {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let shown = &line[..line.len().min(MOST_LINE_BYTES)];
        let shown = String::from_utf8_lossy(shown).trim_end().to_owned();
        let mut tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == MOST_LINES {
            tail.pop_front();
        }
        tail.push_back(shown);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Libraries say at INFO what is DEBUG to an operator.
fn filter(level: LogLevel) -> Targets {
    let (ours, others) = match level {
        LogLevel::Error => (Level::ERROR, LevelFilter::OFF),
        LogLevel::Warn => (Level::WARN, LevelFilter::OFF),
        LogLevel::Info => (Level::INFO, LevelFilter::OFF),
        LogLevel::Debug => (Level::DEBUG, LevelFilter::INFO),
    };
    Targets::new().with_default(others).with_target("forebay", ours)
}

/// A panic is logged like everything else, in one line and without what was being handled.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(rule = %PANIC, place, "a part of the program panicked, which is a bug");
    }));
}
