//! Where log lines go: standard error, filtered, as text or JSON.

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use super::output::use_color;
use crate::config::runtime::{Log, LogFormat, LogLevel};

/// Starts logging. `FOREBAY_LOG` goes before the level of `forebay.yaml`.
pub(super) fn init(log: &Log) {
    let level = match std::env::var("FOREBAY_LOG").as_deref() {
        Ok("error") => LogLevel::Error,
        Ok("warn") => LogLevel::Warn,
        Ok("info") => LogLevel::Info,
        Ok("debug") => LogLevel::Debug,
        _ => log.level,
    };
    let stderr = std::io::stderr;
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr).with_target(false);
    let layer = match log.format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.with_ansi(use_color(&stderr())).boxed(),
    };
    // A second call, as tests make it, changes nothing.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter(level))).try_init();
    report_panics();
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
        tracing::error!(place, "a part of the program panicked, which is a bug");
    }));
}
