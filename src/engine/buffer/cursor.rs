//! What was acknowledged, in a small file of two slots. One of them is always safe on the disk; the
//! other is written over lazily. A stale cursor makes messages come twice, and never loses one.

use std::{io, ops::Range};

use super::{
    disk::{Disk, DiskFile},
    ranges::Ranges,
    record::{put, take},
};

/// The file's name.
pub const CURSOR: &str = "cursor";
/// The magic and the version of the format.
const MAGIC: [u8; 8] = *b"FBCURSR\x01";
const SLOT_BYTES: usize = 4096;
const PREFIX_BYTES: usize = 8 + 2 + 4;
/// How many ranges surely fit into a slot.
const MOST_RANGES: usize = (SLOT_BYTES - PREFIX_BYTES - 4 * 10) / (2 * 10);

/// What was acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Everything below it.
    pub floor: u64,
    /// And these, above it.
    pub beyond: Ranges,
    /// All that was appended below this number is safe.
    pub safe_below: u64,
}

impl Acknowledged {
    /// Of sorted ranges, keeps the largest when they are too many to be written down.
    pub fn new(
        floor: u64,
        beyond: impl Iterator<Item = Range<u64>>,
        safe_below: u64,
    ) -> Acknowledged {
        let mut ranges: Vec<Range<u64>> = beyond.collect();
        if ranges.len() > MOST_RANGES {
            ranges.sort_by_key(|range| std::cmp::Reverse(range.end - range.start));
            ranges.truncate(MOST_RANGES);
            ranges.sort_by_key(|range| range.start);
        }
        let mut beyond = Ranges::default();
        ranges.into_iter().for_each(|range| beyond.push(range));
        Acknowledged { floor, beyond, safe_below }
    }

    /// The number behind all that are known here.
    pub fn end(&self) -> u64 {
        let end = self.beyond.last().map_or(self.floor, |last| last + 1);
        end.max(self.safe_below)
    }

    /// Takes out what was acknowledged.
    pub fn remove_from(&self, ranges: &mut Ranges) {
        ranges.remove(&(0..self.floor));
        self.beyond.iter().for_each(|range| ranges.remove(&range));
    }
}

/// The file.
pub struct Cursor<F> {
    /// None until something is written.
    file: Option<F>,
    generation: u64,
    /// The slot that may be written over.
    spare: usize,
    /// Whether the spare slot holds something newer than the safe one.
    is_ahead: bool,
}

impl<F: DiskFile> Cursor<F> {
    /// Reads the newer of the two slots.
    pub fn load<D: Disk<File = F>>(disk: &D) -> io::Result<(Cursor<F>, Acknowledged)> {
        let mut slots = [[0; SLOT_BYTES]; 2];
        match disk.open(CURSOR) {
            Ok(file) => {
                for (place, slot) in slots.iter_mut().enumerate() {
                    // A slot that cannot be read is a damaged one.
                    let _ = file.read_at(slot, (place * SLOT_BYTES) as u64);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
        let read = |place: usize| Some((read_slot(&slots[place])?, place));
        let newest =
            read(0).into_iter().chain(read(1)).max_by_key(|((generation, _), _)| *generation);
        let ((generation, acknowledged), place) = newest.unwrap_or_default();
        Ok((Cursor { file: None, generation, spare: 1 - place, is_ahead: false }, acknowledged))
    }

    /// Makes the file, so that a full disk is no obstacle later.
    pub fn prepare<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(open(disk)?);
        }
        Ok(())
    }

    /// Closes the file. It is opened again when it is needed.
    pub fn close(&mut self) {
        (self.file, self.is_ahead) = (None, false);
    }

    /// Writes down what was acknowledged. It is safe only after [`Cursor::make_safe`].
    pub fn write<D: Disk<File = F>>(&mut self, disk: &D, what: &Acknowledged) -> io::Result<()> {
        self.prepare(disk)?;
        let Some(file) = &self.file else { return Ok(()) };
        self.generation += 1;
        let offset = (self.spare * SLOT_BYTES) as u64;
        let outcome = file.write_at(&write_slot(self.generation, what), offset);
        self.is_ahead = outcome.is_ok();
        outcome
    }

    /// Returns once what was written would survive a power cut. After an error it must be written
    /// again: the system may have forgotten it.
    pub fn make_safe(&mut self) -> io::Result<()> {
        if let (Some(file), true) = (&self.file, self.is_ahead) {
            self.is_ahead = false;
            file.sync()?;
            self.spare = 1 - self.spare;
        }
        Ok(())
    }
}

/// Opens the file to write, or makes it.
fn open<D: Disk>(disk: &D) -> io::Result<D::File> {
    let file = match disk.open_to_write(CURSOR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(CURSOR)?,
        other => other?,
    };
    if file.size_bytes()? < 2 * SLOT_BYTES as u64 {
        file.write_at(&[0; 2 * SLOT_BYTES], 0)?;
        disk.sync()?;
    }
    // What a former process wrote last may not be safe yet, and the older slot is written over now.
    file.sync()?;
    Ok(file)
}

fn write_slot(generation: u64, what: &Acknowledged) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, generation);
    put(&mut body, what.floor);
    put(&mut body, what.beyond.pieces() as u64);
    let mut at = what.floor;
    for range in what.beyond.iter() {
        put(&mut body, range.start - at);
        put(&mut body, range.end - range.start);
        at = range.end;
    }
    put(&mut body, what.safe_below);
    let mut slot = MAGIC.to_vec();
    let len = u16::try_from(body.len()).expect("the ranges are bounded");
    slot.extend_from_slice(&len.to_le_bytes());
    slot.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    slot.extend_from_slice(&body);
    // Whole blocks: the system need not read before it writes.
    slot.resize(SLOT_BYTES, 0);
    slot
}

fn read_slot(slot: &[u8; SLOT_BYTES]) -> Option<(u64, Acknowledged)> {
    let rest = slot.strip_prefix(&MAGIC)?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let mut body = rest.get(..u16::from_le_bytes(*len).into())?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let body = &mut body;
    let generation = take(body)?;
    let floor = take(body)?;
    let pieces = take(body).filter(|pieces| *pieces <= MOST_RANGES as u64)?;
    let mut beyond = Ranges::default();
    let mut at = floor;
    for _ in 0..pieces {
        let start = at.checked_add(take(body)?)?;
        at = start.checked_add(take(body)?)?;
        beyond.push(start..at);
    }
    // One that was written before this was kept does not have it.
    let safe_below = take(body).unwrap_or(0);
    Some((generation, Acknowledged { floor, beyond, safe_below }))
}
