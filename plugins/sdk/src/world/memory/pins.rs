//! GPIO chips in memory, as the kernel's are seen from outside.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::world::gpio::{Bias, Edge, Edges, GpioChip, GpioLine, GpioRequest, HeldLine, Usage};

/// How many edges of a line wait to be read. What comes then takes the place of the oldest.
const MOST_WAITING: usize = 16;
/// Error numbers of the system.
const ENXIO: i32 = 6;
const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// All chips of a world. Cloning shares them.
#[derive(Clone, Default)]
pub struct Pins(Arc<Mutex<BTreeMap<String, Chip>>>);

struct Chip {
    label: String,
    /// What it says to who wants edges. None when it tells them.
    no_edges: Option<i32>,
    pins: Vec<Pin>,
}

/// A line, as somebody with a wire and a meter sees it: `true` is high.
#[derive(Default)]
struct Pin {
    name: String,
    /// What comes in.
    wire: bool,
    /// What goes out, and went out before.
    driven: Vec<bool>,
    is_output: bool,
    holder: Option<String>,
    held: Option<Arc<Held>>,
}

struct Held {
    wanted: GpioRequest,
    pins: Pins,
    state: Mutex<Seen>,
    told: Notify,
}

#[derive(Default)]
struct Seen {
    is_gone: bool,
    /// The level as far as it has lasted.
    level: bool,
    changed: Option<Instant>,
    edges: VecDeque<Edge>,
    number: u32,
}

impl Pins {
    /// Plugs in a chip whose lines have these names; in the place of one of the same name.
    pub fn plug_in(&self, name: &str, label: &str, lines: &[&str]) {
        self.unplug(name);
        let pin = |name: &&str| Pin { name: (*name).to_owned(), ..Pin::default() };
        let pins = lines.iter().map(pin).collect();
        let chip = Chip { label: label.to_owned(), no_edges: None, pins };
        self.chips().insert(name.to_owned(), chip);
    }

    /// Takes a chip away. Who holds lines of it learns that.
    pub fn unplug(&self, name: &str) {
        let gone = self.chips().remove(name);
        for held in gone.into_iter().flat_map(|chip| chip.pins).filter_map(|pin| pin.held) {
            held.seen().is_gone = true;
            held.told.notify_one();
        }
    }

    /// From now on the chip raises no interrupts.
    pub fn without_interrupts(&self, name: &str) {
        self.chips().get_mut(name).expect("a chip that is there").no_edges = Some(ENXIO);
    }

    /// From now on other lines have all of its interrupts.
    pub fn with_interrupts_in_use(&self, name: &str) {
        self.chips().get_mut(name).expect("a chip that is there").no_edges = Some(EBUSY);
    }

    /// Somebody else holds a line; nobody does, when None.
    pub fn hold(&self, chip: &str, line: u32, holder: Option<&str>) {
        self.pin(chip, line, |pin| pin.holder = holder.map(str::to_owned));
    }

    /// Puts a level onto a line that is an input.
    pub fn wire(&self, chip: &str, line: u32, is_high: bool) {
        let held = self.pin(chip, line, |pin| {
            pin.wire = is_high;
            pin.held.clone()
        });
        if let Some(held) = held {
            held.wire_changed(is_high);
        }
    }

    /// The same, and its edge is lost: the second of two that came fast.
    pub fn wire_in_silence(&self, chip: &str, line: u32, is_high: bool) {
        self.pin(chip, line, |pin| {
            pin.wire = is_high;
            if let Some(held) = &pin.held {
                held.seen().level = is_high != held.wanted.active_low;
            }
        });
    }

    /// The levels that were driven onto a line, from the first on: one for each time that it was taken as an
    /// output, or changed.
    pub fn driven(&self, chip: &str, line: u32) -> Vec<bool> {
        self.pin(chip, line, |pin| pin.driven.clone())
    }

    /// How a line is held. None when it is not.
    pub fn held(&self, chip: &str, line: u32) -> Option<GpioRequest> {
        self.pin(chip, line, |pin| pin.held.as_ref().map(|held| held.wanted.clone()))
    }

    pub(super) fn all(&self) -> Vec<GpioChip> {
        self.chips().iter().map(|(name, chip)| chip.seen(name)).collect()
    }

    pub(super) fn at(&self, path: &Path) -> io::Result<GpioChip> {
        let name = path.strip_prefix("/dev").unwrap_or(path).to_string_lossy();
        let chips = self.chips();
        let chip = chips.get(&*name).ok_or(io::ErrorKind::NotFound)?;
        Ok(chip.seen(&name))
    }

    pub(super) fn take(&self, wanted: GpioRequest) -> io::Result<Box<dyn HeldLine>> {
        let mut chips = self.chips();
        let chip = chips.get_mut(&wanted.chip).ok_or(io::ErrorKind::NotFound)?;
        let no_edges = chip.no_edges;
        let pin = chip.pins.get_mut(wanted.line as usize).ok_or_else(|| system(EINVAL))?;
        if pin.holder.is_some() || pin.held.is_some() {
            return Err(system(EBUSY));
        }
        match (wanted.usage, no_edges) {
            (Usage::Input { edges: Some(_), .. }, Some(why)) => return Err(system(why)),
            (Usage::Input { .. }, _) => {
                pin.is_output = false;
                // A wire that nobody drives.
                match wanted.bias {
                    Some(Bias::PullUp) => pin.wire = true,
                    Some(Bias::PullDown) => pin.wire = false,
                    Some(Bias::Disabled) | None => (),
                }
            }
            (Usage::Output { level, .. }, _) => {
                pin.is_output = true;
                let kept = pin.driven.last().copied().unwrap_or(false);
                let driven = level.map_or(kept, |level| level != wanted.active_low);
                pin.driven.push(driven);
            }
        }
        let level = pin.wire != wanted.active_low;
        let state = Mutex::new(Seen { level, ..Seen::default() });
        let held = Held { wanted, pins: self.clone(), state, told: Notify::new() };
        let held = Arc::new(held);
        pin.held = Some(Arc::clone(&held));
        Ok(Box::new(Hold(held)))
    }

    fn pin<T>(&self, chip: &str, line: u32, look: impl FnOnce(&mut Pin) -> T) -> T {
        let mut chips = self.chips();
        let chip = chips.get_mut(chip).expect("a chip that is there");
        look(&mut chip.pins[line as usize])
    }

    fn chips(&self) -> MutexGuard<'_, BTreeMap<String, Chip>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chip {
    fn seen(&self, name: &str) -> GpioChip {
        let line = |pin: &Pin| GpioLine {
            name: pin.name.clone(),
            is_output: pin.is_output,
            holder: pin.held.as_ref().map(|held| held.wanted.holder.clone()).or(pin.holder.clone()),
        };
        let lines = self.pins.iter().map(line).collect();
        GpioChip { name: name.to_owned(), label: self.label.clone(), lines }
    }
}

impl Held {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> io::Result<()> {
        if self.seen().is_gone { Err(system(ENODEV)) } else { Ok(()) }
    }

    fn wire_changed(self: Arc<Held>, is_high: bool) {
        let Usage::Input { edges, debounce } = self.wanted.usage else { return };
        let (level, now) = (is_high != self.wanted.active_low, Instant::now());
        self.seen().changed = Some(now);
        if debounce.is_zero() {
            return self.lasted(level, now, edges);
        }
        tokio::spawn(async move {
            sleep(debounce).await;
            let has_lasted = self.seen().changed == Some(now);
            if has_lasted {
                self.lasted(level, now + debounce, edges);
            }
        });
    }

    fn lasted(&self, level: bool, at: Instant, edges: Option<Edges>) {
        let mut seen = self.seen();
        let was = std::mem::replace(&mut seen.level, level);
        let is_told = match edges {
            None => false,
            Some(Edges::Both) => true,
            Some(Edges::Rising) => level,
            Some(Edges::Falling) => !level,
        };
        if was == level || !is_told {
            return;
        }
        seen.number = seen.number.wrapping_add(1);
        let edge = Edge { at, level, number: seen.number };
        if seen.edges.len() == MOST_WAITING {
            seen.edges.pop_front();
        }
        seen.edges.push_back(edge);
        drop(seen);
        self.told.notify_one();
    }
}

struct Hold(Arc<Held>);

impl HeldLine for Hold {
    fn level(&self) -> io::Result<bool> {
        let Hold(held) = self;
        held.check()?;
        let GpioRequest { chip, line, active_low, usage, .. } = &held.wanted;
        Ok(match usage {
            Usage::Input { debounce: Duration::ZERO, edges: None } => {
                held.pins.pin(chip, *line, |pin| pin.wire) != *active_low
            }
            Usage::Input { .. } => held.seen().level,
            Usage::Output { .. } => {
                let driven = held.pins.driven(chip, *line);
                driven.last().copied().unwrap_or(false) != *active_low
            }
        })
    }

    fn set(&self, level: bool) -> io::Result<()> {
        let Hold(held) = self;
        held.check()?;
        let GpioRequest { chip, line, active_low, .. } = &held.wanted;
        let driven = level != *active_low;
        held.pins.pin(chip, *line, |pin| {
            if pin.driven.last() != Some(&driven) {
                pin.driven.push(driven);
            }
        });
        Ok(())
    }

    fn edge(&self) -> BoxFuture<'_, io::Result<Edge>> {
        async {
            loop {
                self.0.check()?;
                let next = self.0.seen().edges.pop_front();
                match next {
                    Some(edge) => return Ok(edge),
                    None => self.0.told.notified().await,
                }
            }
        }
        .boxed()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let GpioRequest { chip, line, .. } = &self.0.wanted;
        let mut chips = self.0.pins.chips();
        let pin = chips.get_mut(chip).and_then(|chip| chip.pins.get_mut(*line as usize));
        // The chip may have been taken away, and another be there.
        if let Some(pin) = pin
            && pin.held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &self.0))
        {
            pin.held = None;
        }
    }
}

fn system(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
