//! GPIO lines of the system: the character device of the kernel, in its second version (Linux 5.10).

use std::{fs, io, path::Path, time::Duration};

use futures_util::future::{BoxFuture, FutureExt};
use gpiocdev::{
    Chip, Request,
    line::{EdgeDetection, EdgeKind, EventClock, Offset, Value},
    request::Config,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};

use super::gpio::{Bias, Drive, Edge, Edges, GpioChip, GpioLine, GpioRequest, HeldLine, Usage};

/// How many edges the kernel keeps of a line until they are read: as many as it lets us ask for.
const MOST_WAITING: u32 = 1024;
/// What the kernel keeps of the name of a holder.
const LONGEST_HOLDER: usize = 31;

/// All chips that this program may open. Fails when there are some, and none that it may.
pub(super) fn chips() -> io::Result<Vec<GpioChip>> {
    let mut found = Vec::new();
    let mut refused = None;
    let mut names: Vec<String> = fs::read_dir("/dev")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| number(name).is_some())
        .collect();
    names.sort_by_key(|name| number(name));
    for name in names {
        match chip(&Path::new("/dev").join(name)) {
            Ok(chip) => found.push(chip),
            Err(error) => refused = Some(error),
        }
    }
    match refused.filter(|_| found.is_empty()) {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

fn number(name: &str) -> Option<u32> {
    name.strip_prefix("gpiochip")?.parse().ok()
}

/// The chip behind a path, which may be a link.
pub(super) fn chip(path: &Path) -> io::Result<GpioChip> {
    let chip = Chip::from_path(path).map_err(by_system)?;
    let info = chip.info().map_err(by_system)?;
    let lines = chip.line_info_iter().map_err(by_system)?.map(|line| {
        let line = line.map_err(by_system)?;
        Ok(GpioLine {
            name: line.name,
            is_output: line.direction == gpiocdev::line::Direction::Output,
            holder: line.used.then_some(line.consumer),
        })
    });
    Ok(GpioChip { name: info.name, label: info.label, lines: lines.collect::<io::Result<_>>()? })
}

/// Holds a line.
pub(super) fn hold(wanted: &GpioRequest) -> io::Result<Box<dyn HeldLine>> {
    let mut config = Config::default();
    config.with_line(wanted.line);
    match wanted.usage {
        Usage::Input { .. } => config.as_input(),
        Usage::Output { level: Some(level), .. } => config.as_output(value(level)),
        Usage::Output { level: None, .. } => config.as_is(),
    };
    if let Usage::Output { level: Some(_), .. } | Usage::Input { .. } = wanted.usage {
        configure(&mut config, wanted);
    } else if wanted.active_low {
        config.as_active_low();
    }
    let mut holder = wanted.holder.clone();
    while holder.len() > LONGEST_HOLDER {
        holder.pop();
    }
    let request = Request::from_config(config)
        .on_chip(Path::new("/dev").join(&wanted.chip))
        .with_consumer(holder)
        .with_kernel_event_buffer_size(MOST_WAITING)
        .request()
        .map_err(by_system)?;
    if let Usage::Output { level: None, .. } = wanted.usage {
        let found = request.value(wanted.line).map_err(by_system)?;
        let mut config = Config::default();
        config.with_line(wanted.line).as_output(found);
        configure(&mut config, wanted);
        request.reconfigure(&config).map_err(by_system)?;
    }
    #[allow(
        deprecated,
        reason = "sound with a descriptor that is owned, and this crate has no unsafe"
    )]
    let request = AsyncFd::with_interest(request, Interest::READABLE)?;
    Ok(Box::new(Held { request, line: wanted.line }))
}

fn configure(config: &mut Config, wanted: &GpioRequest) {
    if wanted.active_low {
        config.as_active_low();
    }
    config.with_bias(wanted.bias.map(|bias| match bias {
        Bias::PullUp => gpiocdev::line::Bias::PullUp,
        Bias::PullDown => gpiocdev::line::Bias::PullDown,
        Bias::Disabled => gpiocdev::line::Bias::Disabled,
    }));
    match wanted.usage {
        Usage::Input { edges, debounce } => {
            if let Some(edges) = edges {
                config.with_edge_detection(match edges {
                    Edges::Rising => EdgeDetection::RisingEdge,
                    Edges::Falling => EdgeDetection::FallingEdge,
                    Edges::Both => EdgeDetection::BothEdges,
                });
                config.with_event_clock(EventClock::Monotonic);
            }
            if !debounce.is_zero() {
                config.with_debounce_period(debounce);
            }
        }
        Usage::Output { drive, .. } => {
            config.with_drive(match drive {
                Drive::PushPull => gpiocdev::line::Drive::PushPull,
                Drive::OpenDrain => gpiocdev::line::Drive::OpenDrain,
                Drive::OpenSource => gpiocdev::line::Drive::OpenSource,
            });
        }
    }
}

struct Held {
    request: AsyncFd<Request>,
    line: Offset,
}

impl HeldLine for Held {
    fn level(&self) -> io::Result<bool> {
        let value = self.request.get_ref().value(self.line).map_err(by_system)?;
        Ok(value == Value::Active)
    }

    fn set(&self, level: bool) -> io::Result<()> {
        self.request.get_ref().set_value(self.line, value(level)).map(drop).map_err(by_system)
    }

    fn edge(&self) -> BoxFuture<'_, io::Result<Edge>> {
        async {
            loop {
                let mut ready = self.request.readable().await?;
                let request = self.request.get_ref();
                if !request.has_edge_event().map_err(by_system)? {
                    ready.clear_ready();
                    continue;
                }
                let event = request.read_edge_event().map_err(by_system)?;
                return Ok(Edge {
                    at: instant(event.timestamp_ns),
                    level: event.kind == EdgeKind::Rising,
                    number: event.line_seqno,
                });
            }
        }
        .boxed()
    }
}

/// A moment of the kernel's clock on ours, which is the same one.
fn instant(monotonic_nanos: u64) -> Instant {
    let (now, time) = (Instant::now(), clock_gettime(ClockId::Monotonic));
    let now_nanos = time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
    now.checked_sub(Duration::from_nanos(now_nanos.saturating_sub(monotonic_nanos))).unwrap_or(now)
}

fn value(level: bool) -> Value {
    if level { Value::Active } else { Value::Inactive }
}

/// What the system said, in the words of the system.
fn by_system(error: gpiocdev::Error) -> io::Error {
    match error {
        gpiocdev::Error::Os(errno) | gpiocdev::Error::Uapi(_, gpiocdev_uapi::Error::Os(errno)) => {
            io::Error::from_raw_os_error(errno.0)
        }
        other => io::Error::other(other),
    }
}
