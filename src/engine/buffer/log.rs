//! The log: segments in order, of which the last is written.

use std::{collections::VecDeque, io, ops::Range};

use forebay_sdk::{
    Message, Timestamp,
    clock::{self, Clock, Moment, Origin},
};

use super::{
    cursor::{Acknowledged, CURSOR, Cursor},
    disk::{Disk, DiskFile, Folder, LOCK},
    doubt,
    ranges::Ranges,
    record::Batch,
    segment::{END, Header, MOST_PIECES, Name, Summary, Walk},
};

/// How much a log may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size in bytes that the whole should stay below. The log itself refuses nothing: whoever
    /// appends looks at [`Log::bytes`] first. A segment is an eighth of it, within 128 KiB to 1 MiB.
    pub max_bytes: u64,
}

impl Limits {
    fn segment_bytes(self) -> u64 {
        (self.max_bytes / 8).clamp(128 << 10, 1 << 20)
    }
}

/// What was wrong with the files, for one log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Messages that were held and cannot be read, by the gaps in their sequence numbers.
    pub lost_records: u64,
    /// Bytes between whole messages that belong to none.
    pub lost_bytes: u64,
    /// Whether the newest segment ended in the middle of a write, as a power cut leaves it.
    pub cut: bool,
    /// Messages of that write that were not whole and not acknowledged. They had been promised only if
    /// the disk had said that they were safe.
    pub cut_records: u64,
    /// Files that were in use are gone, and the folder was made anew. `lost_records` were in them.
    pub was_removed: bool,
    /// Messages that were in them too, and that memory still has. They are not among the lost.
    pub only_in_memory: u64,
}

impl Repairs {
    /// Whether there is anything to say.
    pub fn is_empty(&self) -> bool {
        *self == Repairs::default()
    }
}

/// A message in the log.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its sequence number.
    pub seq: u64,
    /// The message, as it was appended. One that was stamped before the clock was set has its real
    /// time when the clock is set now, within the same boot.
    pub message: Message,
    /// When it was appended, restamped in the same way.
    pub arrived: Timestamp,
    /// The bytes that it takes on the disk.
    pub bytes: u64,
}

/// Messages on the disk, in the order of their sequence numbers, until they are acknowledged.
pub struct Log<D: Disk = Folder> {
    disk: D,
    /// None when this is only a look.
    lock: Option<D::Lock>,
    clock: Clock,
    limits: Limits,
    segment_bytes: u64,
    /// Oldest first. One that is wholly acknowledged stays here until `settle`.
    segments: VecDeque<Segment>,
    /// The last of the segments, while it is written.
    tail: Option<Tail<D::File>>,
    /// Files whose content is no longer needed, to be written over: what a file that grows costs the
    /// file system's journal is more than the messages themselves.
    spare: Vec<Spare>,
    /// A sync failed: what this segment holds from this number on must be written elsewhere.
    unsafe_from: Option<u64>,
    /// Read from a file that was removed while it was open, and not written elsewhere yet.
    carried: Vec<Stored>,
    /// Not acknowledged, and not to be found when the folder was opened anew. A disk that comes back
    /// may have them after all.
    lost: Ranges,
    next_seq: u64,
    /// No number from this one on was ever given.
    fresh_from: u64,
    /// How often in a row the disk has failed.
    failures: u32,
    next_number: u32,
    /// The last segment that was finished.
    finished: Option<Summary>,
    /// That of the clock before it was set. What it stamped has segments of its own.
    origin: Option<Origin>,
    cursor: Cursor<D::File>,
    /// Whether the cursor file is behind.
    is_dirty: bool,
    readers: Vec<Reader<D::File>>,
    repairs: Repairs,
    /// A sink had let go of it, and did not tell what became of it.
    in_doubt: Option<Message>,
}

struct Segment {
    name: Name,
    /// Where its last batch ends.
    len: u64,
    /// The sequence numbers that it holds and that are not acknowledged.
    left: Ranges,
    /// When its newest record came, as the clock said then.
    newest: Option<Timestamp>,
    /// None when its header is damaged.
    origin: Option<Origin>,
}

/// What a segment was found to hold, and what it should hold and does not.
struct Survey {
    found: Summary,
    missing: Ranges,
    /// The end of the last write, which is missing too.
    cut: Ranges,
}

struct Tail<F> {
    file: F,
    /// Where the next batch goes.
    len: u64,
    /// The length of the file. Behind `len` stands nothing of use.
    file_bytes: u64,
    /// Not written yet: it goes out with the first batch.
    header: Vec<u8>,
    /// All that the segment holds.
    seqs: Ranges,
    /// As in the header.
    origin: Origin,
    /// The first number that is not safe yet.
    unsynced: Option<u64>,
}

struct Spare {
    name: Name,
    file_bytes: u64,
}

/// A place in a segment up to which it was read, so that the next read goes on from there.
struct Reader<F> {
    number: u32,
    walk: Walk<F>,
}

/// A backlog that drains, live messages that overtake it, and whoever looks at it read in turn.
const MOST_READERS: usize = 3;
/// A segment that is not whole yet.
const RESCUE: &str = "rescue";
/// Whether a file of this name belongs to a log.
pub fn is_file(name: &str) -> bool {
    [LOCK, CURSOR, doubt::DOUBT, RESCUE].contains(&name) || Name::parse(name).is_some()
}

/// More files are not kept to be written over: what passes by while the link is there goes round in
/// these. A backlog that has drained gives its room back, at the price of the journal's share when the
/// next one comes.
const MOST_SPARE: usize = 2;
/// A write that makes a file longer costs the journal of the file system some 16 KiB. A small one
/// takes zeros along, so that the next ones are written over them.
const SMALL_BYTES: usize = 16 << 10;
const AHEAD_BYTES: u64 = 64 << 10;
/// Into how many pieces acknowledgements may divide what is left of a segment. One that would make
/// more is forgotten, and its messages come again.
const MOST_LEFT_PIECES: usize = 256;
/// After so many failures in a row, all files are closed and the folder is looked at anew.
const MOST_FAILURES: u32 = 2;
/// A clock that is set moves by more than one that is corrected.
const JUMP_NANOS: u64 = 1_000_000_000;

impl<D: Disk> Log<D> {
    /// Opens the log of a folder, and makes the folder if need be. Repairs what it finds: a write
    /// that was cut off is left out, and damaged stretches are skipped and counted.
    ///
    /// Fails only when the folder itself cannot be made, read or locked.
    pub fn open(disk: D, limits: Limits) -> io::Result<(Log<D>, Repairs)> {
        Log::open_at(disk, limits, clock::current())
    }

    /// The same, by other clocks.
    pub fn open_at(disk: D, limits: Limits, clock: Clock) -> io::Result<(Log<D>, Repairs)> {
        disk.make()?;
        let lock = disk.lock()?;
        let mut log = Log::load(disk, limits, clock)?;
        log.lock = Some(lock);
        // What cannot be read there says nothing; the rest of the folder does not depend on it.
        log.in_doubt = match doubt::read(&log.disk).unwrap_or_default() {
            // It was not let go of yet.
            Some((seq, _)) if log.holds(seq) => None,
            noted => noted.map(|(_, message)| message),
        };
        log.make_safe();
        let repairs = log.take_repairs();
        Ok((log, repairs))
    }

    /// Reads what the folder holds, and changes nothing.
    pub(super) fn load(disk: D, limits: Limits, clock: Clock) -> io::Result<Log<D>> {
        let mut names: Vec<Name> =
            disk.list()?.iter().filter_map(|name| Name::parse(name)).collect();
        names.sort();
        let (cursor, acknowledged) = Cursor::load(&disk)?;
        let mut log = Log {
            disk,
            lock: None,
            clock,
            limits,
            segment_bytes: limits.segment_bytes(),
            segments: VecDeque::new(),
            tail: None,
            spare: Vec::new(),
            unsafe_from: None,
            carried: Vec::new(),
            lost: Ranges::default(),
            next_seq: acknowledged.end(),
            fresh_from: 0,
            failures: 0,
            next_number: names.last().map_or(1, |name| name.number.saturating_add(1)),
            finished: None,
            origin: None,
            cursor,
            is_dirty: !names.is_empty(),
            readers: Vec::new(),
            repairs: Repairs::default(),
            in_doubt: None,
        };
        log.load_segments(&names, &acknowledged)?;
        log.fresh_from = log.next_seq;
        log.observe();
        Ok(log)
    }

    /// What a process wrote that was killed is here, but a power cut could still take it away.
    fn make_safe(&mut self) {
        let Some(segment) = self.segments.back() else { return };
        let synced = self.disk.open(&segment.name.to_string()).and_then(|file| file.sync());
        self.unsafe_from = segment.left.first().filter(|_| synced.is_err());
    }

    fn load_segments(&mut self, names: &[Name], acknowledged: &Acknowledged) -> io::Result<()> {
        let (mut headers, mut cut) = (Vec::new(), Ranges::default());
        for name in names {
            headers.push(self.read_header(*name)?);
        }
        for (at, name) in names.iter().enumerate() {
            // A later segment says what the one before it holds.
            let next = names.get(at + 1);
            let summary = headers.get(at + 1).and_then(|header| header.as_ref()?.before.as_ref());
            let summary = summary.filter(|summary| summary.number == name.number);
            let Survey { found: summary, mut missing, cut: last } =
                self.survey(*name, next, summary)?;
            cut = last;
            let mut left = summary.seqs.clone();
            if let Some(next) = next {
                left.keep_below(next.first_seq);
            }
            acknowledged.remove_from(&mut left);
            acknowledged.remove_from(&mut missing);
            self.repairs.lost_records += missing.count();
            let end = summary.seqs.last().map_or(name.first_seq, |last| last + 1);
            self.next_seq = self.next_seq.max(end);
            self.segments.push_back(Segment {
                name: *name,
                len: summary.len,
                left,
                newest: summary.newest,
                origin: headers[at].as_ref().map(|header| header.origin),
            });
            self.finished = Some(summary);
        }
        self.count_cut_off(acknowledged, cut);
        Ok(())
    }

    /// Before the first file and behind the last whole message, only the cursor tells what there was.
    fn count_cut_off(&mut self, acknowledged: &Acknowledged, cut: Ranges) {
        let end = acknowledged.safe_below;
        let begun = self.segments.front().map_or(end, |segment| segment.name.first_seq.min(end));
        let finished = self.finished.as_ref().and_then(|finished| finished.seqs.last());
        let reached = match (finished, self.segments.back()) {
            (Some(last), _) => last + 1,
            (None, Some(segment)) => segment.name.first_seq,
            (None, None) => end,
        };
        let mut cut_off = Ranges::default();
        cut_off.push(reached..end);
        let mut cut = cut.without(&cut_off);
        acknowledged.remove_from(&mut cut);
        self.repairs.cut_records = cut.count();
        let mut missing = Ranges::default();
        missing.push(0..begun);
        cut_off.iter().for_each(|range| missing.push(range));
        acknowledged.remove_from(&mut missing);
        self.repairs.lost_records += missing.count();
    }

    fn read_header(&self, name: Name) -> io::Result<Option<Header>> {
        match self.disk.open(&name.to_string()) {
            Ok(file) => Ok(Header::load(&file, name)),
            // A writer that we look at used the file anew.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks at a segment. Reads all of it when the next one does not say what it holds.
    fn survey(
        &mut self,
        name: Name,
        next: Option<&Name>,
        summary: Option<&Summary>,
    ) -> io::Result<Survey> {
        let found = Summary { number: name.number, len: 0, newest: None, seqs: Ranges::default() };
        let mut survey = Survey { found, missing: Ranges::default(), cut: Ranges::default() };
        let file = match self.disk.open(&name.to_string()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(survey);
            }
            Err(error) => return Err(error),
        };
        let file_bytes = file.size_bytes()?;
        if let Some(summary) = summary.filter(|summary| summary.len <= file_bytes) {
            return Ok(Survey { found: summary.clone(), ..survey });
        }
        let Survey { found, missing, cut } = &mut survey;
        let mut walk = Walk::new(file, name, file_bytes)?;
        while let Some(record) = walk.next(0, file_bytes)? {
            found.seqs.push(record.seq..record.seq + 1);
            found.newest = found.newest.max(Some(record.arrived));
        }
        found.len = walk.valid_end();
        self.repairs.lost_bytes += walk.damaged_bytes();
        *missing = walk.missing().clone();
        match (next, summary) {
            (_, Some(summary)) => {
                *missing = summary.seqs.clone();
                found.seqs.iter().for_each(|range| missing.remove(&range));
            }
            (Some(next), None) => missing.push(walk.expected()..next.first_seq),
            (None, None) => {
                self.repairs.cut |= !walk.ends_cleanly(file_bytes)?;
                cut.push(walk.cut());
            }
        }
        found.seqs.merge_behind(MOST_PIECES);
        Ok(survey)
    }

    /// Sets how much the log may hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.segment_bytes = limits.segment_bytes();
    }

    /// Tests have small segments.
    #[cfg(test)]
    pub(super) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// Where the next batch begins, unless it leaves a gap.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The oldest message that is not acknowledged.
    pub fn first(&self) -> Option<u64> {
        let first = self.segments.iter().find_map(|segment| segment.left.first());
        first.or_else(|| Some(self.carried.first()?.seq))
    }

    /// The newest message that is not acknowledged.
    pub fn last(&self) -> Option<u64> {
        self.segments.iter().rev().find_map(|segment| segment.left.last())
    }

    /// How many messages are not acknowledged. Damage that no read has come by counts as messages.
    pub fn messages(&self) -> u64 {
        let left: u64 = self.segments.iter().map(|segment| segment.left.count()).sum();
        left + self.carried.len() as u64
    }

    /// The bytes of all segments that hold a message that is not acknowledged.
    pub fn bytes(&self) -> u64 {
        let held = self.segments.iter().filter(|segment| !segment.left.is_empty());
        let carried = self.carried.iter().map(|stored| stored.bytes);
        held.map(|segment| segment.len).chain(carried).sum()
    }

    /// What reading found damaged since this was asked last.
    pub fn take_repairs(&mut self) -> Repairs {
        std::mem::take(&mut self.repairs)
    }

    /// Writes a batch behind all others, with one write. It is safe only after [`Log::sync`].
    ///
    /// After an error the log is as it was.
    pub fn append(&mut self, batch: &Batch) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.first_seq() < self.next_seq {
            let why = format!("sequence number {} was given before", batch.first_seq());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.rescue()?;
        let now = self.observe();
        let origin = self.origin_of(batch);
        if !self.takes(batch, origin) {
            self.roll(origin)?;
        }
        self.write(batch, now.stamp())
    }

    /// Since when the clock counts that stamped these messages.
    fn origin_of(&self, batch: &Batch) -> Origin {
        let origin = self.origin.filter(|_| batch.has_unset());
        origin.unwrap_or(Origin::OF_A_SET_CLOCK)
    }

    /// Whether the batch goes into the segment that is being written.
    fn takes(&self, batch: &Batch, origin: Origin) -> bool {
        let Some(tail) = &self.tail else { return false };
        let is_room = tail.len + batch.bytes() as u64 <= self.segment_bytes;
        let fits = is_room || tail.seqs.is_empty();
        let is_same_time = origin.boot == tail.origin.boot
            && origin.boot_nanos.abs_diff(tail.origin.boot_nanos) <= JUMP_NANOS;
        fits && is_same_time && tail.seqs.pieces() < MOST_PIECES
    }

    fn write(&mut self, batch: &Batch, arrived: Timestamp) -> io::Result<()> {
        let (Some(tail), Some(segment)) = (&mut self.tail, self.segments.back_mut()) else {
            return Err(io::Error::other("there is no segment to write to"));
        };
        let mut bytes = tail.header.clone();
        let expected = tail.seqs.last().map_or(segment.name.first_seq, |last| last + 1);
        batch.write(batch.first_seq() - expected, arrived, segment.name.salt, &mut bytes);
        let end = tail.len + bytes.len() as u64;
        bytes.extend_from_slice(&END);
        if bytes.len() < SMALL_BYTES && tail.len + bytes.len() as u64 > tail.file_bytes {
            let ahead = (tail.len + AHEAD_BYTES).min(self.segment_bytes).saturating_sub(tail.len);
            bytes.resize(bytes.len().max(ahead as usize), 0);
        }
        if let Err(error) = tail.file.write_at(&bytes, tail.len) {
            self.abandon();
            return Err(error);
        }
        let seqs = batch.first_seq()..batch.end_seq();
        tail.header.clear();
        tail.file_bytes = tail.file_bytes.max(tail.len + bytes.len() as u64);
        tail.len = end;
        tail.unsynced.get_or_insert(seqs.start);
        tail.seqs.push(seqs.clone());
        segment.len = end;
        segment.newest = segment.newest.max(Some(arrived));
        self.next_seq = seqs.end;
        self.fresh_from = self.fresh_from.max(seqs.end);
        segment.left.push(seqs);
        Ok(())
    }

    /// Returns once everything that was appended would survive a power cut.
    ///
    /// After an error nothing that was appended since the last success can be called safe. It is
    /// written anew, to another file, by the next call of this or of [`Log::append`]: the system
    /// may have forgotten what it could not write, and would now say that all is well.
    pub fn sync(&mut self) -> io::Result<()> {
        self.rescue()?;
        self.sync_tail()
    }

    fn sync_tail(&mut self) -> io::Result<()> {
        let Some(tail) = &mut self.tail else { return Ok(()) };
        let Some(unsynced) = tail.unsynced else { return Ok(()) };
        match tail.file.sync() {
            Ok(()) => {
                tail.unsynced = None;
                // So that the cursor tells up to where nothing may be missing.
                self.is_dirty = true;
                Ok(())
            }
            Err(error) => {
                self.unsafe_from = Some(unsynced);
                self.finish();
                Err(error)
            }
        }
    }

    /// Writes anew what a failed sync left in doubt, and what was in a file that was removed.
    fn rescue(&mut self) -> io::Result<()> {
        if let Some(first) = self.carried.first() {
            let (name, carried) = (self.new_name(first.seq), std::mem::take(&mut self.carried));
            let outcome = self.replace(name, &carried);
            self.carried = carried;
            outcome?;
            self.carried.clear();
        }
        let Some(from) = self.unsafe_from else { return Ok(()) };
        // At most a segment: a new one begins only when the one before it is safe.
        let doubtful = self.read(from, usize::MAX, usize::MAX)?;
        let due = self.segments.iter().map(|segment| segment.left.count_in(&(from..u64::MAX)));
        if due.sum::<u64>() != doubtful.len() as u64 {
            return Err(io::Error::other("not everything that is to be written anew can be read"));
        }
        if !doubtful.is_empty() {
            let next_seq = self.next_seq;
            let name = self.new_name(from);
            let outcome = self.replace(name, &doubtful);
            self.next_seq = next_seq;
            if let Err(error) = outcome {
                self.unsafe_from = Some(from);
                return Err(error);
            }
            let replaced = self.segments.iter_mut().filter(|segment| segment.name != name);
            replaced.for_each(|segment| segment.left.keep_below(from));
        }
        self.unsafe_from = None;
        Ok(())
    }

    /// Writes a segment of this name anew. After an error there is none of it.
    fn replace(&mut self, name: Name, stored: &[Stored]) -> io::Result<()> {
        let (finished, next_seq) = (self.finished.clone(), self.next_seq);
        self.write_anew(name, stored).inspect_err(|_| {
            for unfinished in [RESCUE, &name.to_string()] {
                let _ = self.disk.remove(unfinished);
            }
            self.segments.retain(|segment| segment.name != name);
            (self.tail, self.finished, self.next_seq) = (None, finished, next_seq);
        })
    }

    /// Whether it is time to [`Log::reopen`]: its files were removed, or the disk did nothing of what
    /// it was asked to, again and again; or the last time did not succeed.
    pub fn is_broken(&self) -> bool {
        self.lock.is_none() || self.failures >= MOST_FAILURES || self.was_removed()
    }

    /// The file goes on to take what is written, and would give it back to nobody.
    fn was_removed(&self) -> bool {
        self.tail.as_ref().is_some_and(|tail| !tail.file.has_name())
    }

    /// Takes note of what went wrong when the log was used once.
    pub fn failed<'a>(&mut self, errors: impl Iterator<Item = &'a io::Error>) {
        let worst = errors.map(|error| match error.kind() {
            // The files are all right.
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem => 0,
            io::ErrorKind::NotFound => MOST_FAILURES,
            _ => self.failures.saturating_add(1),
        });
        self.failures = worst.max().unwrap_or(0);
    }

    /// Begins anew with what the folder holds now, after its disk failed, or somebody removed it.
    /// Makes what is missing; what was acknowledged stays so. Messages from the number `in_memory` on
    /// are still with whoever appends, and are expected again; those `in_lanes` too, and are about to
    /// be delivered. Gives those of the latter that are nowhere else any more.
    ///
    /// After an error the files are closed, so that the disk can be unmounted and mended.
    pub fn reopen(&mut self, in_memory: u64, in_lanes: &Ranges) -> io::Result<Ranges> {
        self.carry(in_memory);
        self.tail = None;
        self.readers.clear();
        self.cursor.close();
        self.lock = None;
        self.disk.make()?;
        let lock = self.disk.lock()?;
        let mut fresh = Log::load(self.disk.clone(), self.limits, Clock::clone(&self.clock))?;
        if fresh.next_seq > self.fresh_from {
            let why =
                "the folder holds messages of another run; they are sent after the next start";
            return Err(io::Error::other(why));
        }
        let left = self.segments.iter().map(|segment| &segment.left);
        let mut known = Ranges::union(left.chain([&self.lost]));
        known.keep_below(in_memory);
        let mut found = Ranges::default();
        self.carried.iter().for_each(|stored| found.push(stored.seq..stored.seq + 1));
        let mut acknowledged = Ranges::default();
        acknowledged.push(0..u64::MAX);
        let acknowledged = acknowledged.without(&known);
        for segment in &mut fresh.segments {
            segment.left = segment.left.without(&acknowledged).without(&found);
        }
        let held = fresh.segments.iter().map(|segment| &segment.left);
        let found = Ranges::union(held.chain([&found]));
        fresh.lost = known.without(&found);
        let newly_lost = fresh.lost.without(&self.lost);
        let lost = newly_lost.without(in_lanes);
        let in_lanes_only = newly_lost.without(&lost);
        let (lost_records, only_in_memory) = (lost.count(), in_lanes_only.count());
        let was_removed = !newly_lost.is_empty() || !self.carried.is_empty();
        fresh.repairs = Repairs { lost_records, only_in_memory, was_removed, ..self.repairs };
        fresh.carried = std::mem::take(&mut self.carried);
        fresh.fresh_from = self.fresh_from;
        fresh.next_seq = fresh.next_seq.min(in_memory);
        fresh.segment_bytes = self.segment_bytes;
        fresh.lock = Some(lock);
        fresh.make_safe();
        let unsafe_from = fresh.unsafe_from.into_iter().chain(self.unsafe_from);
        fresh.unsafe_from = unsafe_from.min().filter(|from| *from < in_memory);
        fresh.is_dirty = true;
        *self = fresh;
        if !self.carried.is_empty() {
            // What cannot be written now is with the next write.
            let _ = self.rescue();
        }
        Ok(in_lanes_only)
    }

    /// Takes along what is in the file that is being written, when that is the only way to it.
    fn carry(&mut self, in_memory: u64) {
        if !self.was_removed() {
            return;
        }
        let (Some(at), true) = (self.segments.len().checked_sub(1), self.carried.is_empty()) else {
            return;
        };
        let mut wanted = Wanted { from: 0, most: usize::MAX, max_bytes: usize::MAX, found: vec![] };
        // What cannot be read is among what is missing afterwards.
        let _ = self.read_segment(at, &mut wanted);
        wanted.found.retain(|stored| stored.seq < in_memory);
        self.carried = wanted.found;
    }

    /// Begins a segment with these messages. It gets its name, and so replaces what was written
    /// before, only when it is safe.
    fn write_anew(&mut self, name: Name, stored: &[Stored]) -> io::Result<()> {
        match self.disk.remove(RESCUE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let file = self.disk.create(RESCUE)?;
        self.observe();
        let batch = |run: &[Stored]| {
            let mut batch = Batch::new(run[0].seq);
            run.iter().for_each(|stored| batch.push(&stored.message));
            batch
        };
        self.begin(name, file, self.origin_of(&batch(stored)));
        for run in stored.chunk_by(|one, next| one.seq + 1 == next.seq) {
            self.write(&batch(run), run[0].arrived)?;
        }
        if let Some(tail) = &mut self.tail {
            tail.file.sync()?;
            tail.unsynced = None;
        }
        self.disk.rename(RESCUE, &name.to_string())?;
        self.disk.sync()
    }

    /// Ends the segment that is being written and begins a new one.
    fn roll(&mut self, origin: Origin) -> io::Result<()> {
        self.sync_tail()?;
        self.finish();
        self.put_aside();
        let name = self.new_name(self.next_seq);
        let file = self.new_file(name)?;
        self.begin(name, file, origin);
        Ok(())
    }

    fn new_name(&mut self, first_seq: u64) -> Name {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        Name { number, first_seq, salt: fastrand::u32(..) }
    }

    fn begin(&mut self, name: Name, file: D::File, origin: Origin) {
        let mut header = Vec::new();
        Header { origin, before: self.finished.clone() }.write(name.salt, &mut header);
        let file_bytes = file.size_bytes().unwrap_or_default();
        let seqs = Ranges::default();
        let tail = Tail { file, len: 0, file_bytes, header, seqs, origin, unsynced: None };
        self.tail = Some(tail);
        let (left, origin) = (Ranges::default(), Some(origin));
        self.segments.push_back(Segment { name, len: 0, left, newest: None, origin });
    }

    /// Nothing is written under a name that a power cut could take away.
    fn new_file(&mut self, name: Name) -> io::Result<D::File> {
        // A file may be written over only when it is safe that nothing in it is needed.
        if !self.spare.is_empty() && self.save().is_ok() {
            let spare = &mut self.spare[0];
            self.disk.rename(&spare.name.to_string(), &name.to_string())?;
            spare.name = name;
            self.disk.sync()?;
            let file = self.disk.open_to_write(&name.to_string())?;
            self.spare.remove(0);
            return Ok(file);
        }
        self.cursor.prepare(&self.disk)?;
        let file = self.disk.create(&name.to_string())?;
        if let Err(error) = self.disk.sync() {
            let _ = self.disk.remove(&name.to_string());
            return Err(error);
        }
        Ok(file)
    }

    /// Ends the segment that is being written.
    fn finish(&mut self) {
        let (Some(tail), Some(segment)) = (self.tail.take(), self.segments.back()) else { return };
        self.finished = Some(Summary {
            number: segment.name.number,
            len: tail.len,
            newest: segment.newest,
            seqs: tail.seqs,
        });
    }

    /// Ends the segment that is being written, because a write into it failed. What it had before
    /// stays.
    fn abandon(&mut self) {
        let Some(tail) = &self.tail else { return };
        // Gives the space of half a batch back. What cannot be cut is never read.
        let _ = tail.file.truncate(tail.len);
        if tail.seqs.is_empty() {
            self.tail = None;
            if let Some(segment) = self.segments.pop_back() {
                let _ = self.disk.remove(&segment.name.to_string());
            }
            return;
        }
        // When this fails too, the records are in doubt, and `sync_tail` has noted it.
        let _ = self.sync_tail();
        self.finish();
    }

    /// Up to `most` messages that are not acknowledged, from the sequence number `from` on, in
    /// order; about `max_bytes`, but at least one if there is any. What is damaged is skipped and
    /// counted, see [`Log::take_repairs`].
    pub fn read(&mut self, from: u64, most: usize, max_bytes: usize) -> io::Result<Vec<Stored>> {
        let mut wanted = Wanted { from, most, max_bytes, found: Vec::new() };
        let after = self.segments.partition_point(|segment| segment.name.first_seq <= from);
        for at in after.saturating_sub(1)..self.segments.len() {
            if wanted.is_full() {
                break;
            }
            match self.read_segment(at, &mut wanted) {
                // What was read is of use; the error comes again.
                Err(error) if wanted.found.is_empty() => return Err(error),
                Err(_) => return Ok(wanted.found),
                Ok(()) => (),
            }
        }
        for stored in self.carried.iter().filter(|stored| stored.seq >= from) {
            if wanted.is_full() {
                break;
            }
            wanted.max_bytes = wanted.max_bytes.saturating_sub(stored.bytes as usize);
            wanted.found.push(stored.clone());
        }
        Ok(wanted.found)
    }

    fn read_segment(&mut self, at: usize, wanted: &mut Wanted) -> io::Result<()> {
        let segment = &self.segments[at];
        let Some(from) = segment.left.next(wanted.from) else { return Ok(()) };
        let (len, origin) = (segment.len, segment.origin);
        let Some(mut reader) = self.reader(at, from)? else {
            self.lose(at, from..u64::MAX);
            return Ok(());
        };
        let now = (self.clock)();
        while !wanted.is_full() && self.segments[at].left.next(wanted.from).is_some() {
            let due = reader.walk.expected().max(from);
            let damaged = reader.walk.damaged_bytes();
            let Some(record) = reader.walk.next(from, len)? else {
                if self.lose(at, due..u64::MAX) {
                    let skipped = reader.walk.damaged_bytes() - damaged;
                    self.repairs.lost_bytes +=
                        skipped + len.saturating_sub(reader.walk.valid_end());
                }
                return Ok(());
            };
            if self.lose(at, due..record.seq) {
                self.repairs.lost_bytes += reader.walk.damaged_bytes() - damaged;
            }
            // What stands in a later segment anew is not to be passed over there.
            if self.segments[at].left.next(record.seq).is_none() {
                break;
            }
            wanted.from = record.seq + 1;
            if record.seq < from || !self.segments[at].left.contains(record.seq) {
                continue;
            }
            let read = |stamp: Timestamp| match origin {
                Some(origin) => origin.read(stamp.unix_nanos(), &now),
                None => stamp,
            };
            let mut message = record.message;
            message.restamp_by(read);
            let arrived = read(record.arrived);
            wanted.found.push(Stored { seq: record.seq, message, arrived, bytes: record.bytes });
            wanted.max_bytes = wanted.max_bytes.saturating_sub(record.bytes as usize);
        }
        self.readers.push(reader);
        if self.readers.len() > MOST_READERS {
            self.readers.remove(0);
        }
        Ok(())
    }

    /// A reader that stands before a sequence number: one that got close, or one that begins at the
    /// beginning of the segment. None when the file is gone.
    fn reader(&mut self, at: usize, from: u64) -> io::Result<Option<Reader<D::File>>> {
        let Segment { name, len, .. } = self.segments[at];
        let fits =
            |reader: &Reader<_>| reader.number == name.number && reader.walk.expected() <= from;
        let near = self.readers.iter().enumerate().filter(|(_, reader)| fits(reader));
        if let Some((place, _)) = near.max_by_key(|(_, reader)| reader.walk.expected()) {
            return Ok(Some(self.readers.remove(place)));
        }
        let opened = match self.tail.as_ref().filter(|_| at + 1 == self.segments.len()) {
            // Also when somebody has removed it.
            Some(tail) => tail.file.again(),
            None => self.disk.open(&name.to_string()),
        };
        match opened {
            Ok(file) => Ok(Some(Reader { number: name.number, walk: Walk::new(file, name, len)? })),
            // The file is gone, and not the whole disk.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.disk.list().is_ok() => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes that messages cannot be read. False when there are none.
    fn lose(&mut self, at: usize, seqs: Range<u64>) -> bool {
        let left = &mut self.segments[at].left;
        let lost = left.count_in(&seqs);
        left.remove(&seqs);
        self.repairs.lost_records += lost;
        self.is_dirty |= lost > 0;
        lost > 0
    }

    /// Messages need not be kept any longer. They may be acknowledged in any order; after a restart,
    /// some may come again.
    pub fn ack(&mut self, seqs: Range<u64>) {
        let after = self.segments.partition_point(|segment| segment.name.first_seq <= seqs.start);
        for segment in self.segments.iter_mut().skip(after.saturating_sub(1)) {
            if segment.name.first_seq >= seqs.end {
                break;
            }
            if segment.left.pieces() < MOST_LEFT_PIECES || !segment.left.would_split(&seqs) {
                segment.left.remove(&seqs);
            }
        }
        self.carried.retain(|stored| !seqs.contains(&stored.seq));
        self.is_dirty = true;
    }

    /// A sink is about to write this message and must not do so twice: the message is in doubt, and
    /// acknowledged. Both are safe once this returns.
    pub fn let_go(&mut self, seq: u64, message: &Message) -> io::Result<()> {
        // In this order: a crash in between leaves the message in the log, and the note is void.
        doubt::note(&self.disk, seq, message)?;
        for segment in self.segments.iter_mut().filter(|segment| segment.left.contains(seq)) {
            segment.left.remove(&(seq..seq + 1));
        }
        self.carried.retain(|stored| stored.seq != seq);
        self.is_dirty = true;
        self.save()
    }

    /// It is known what became of the message that was let go.
    pub fn doubt_is_over(&self) -> io::Result<()> {
        doubt::clear(&self.disk)
    }

    /// The message that was in doubt when the log was opened.
    pub fn take_doubt(&mut self) -> Option<Message> {
        self.in_doubt.take()
    }

    /// What the clock of this log says.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_nanos((self.clock)().wall_nanos)
    }

    fn holds(&self, seq: u64) -> bool {
        self.segments.iter().any(|segment| segment.left.contains(seq))
    }

    /// Writes down what was acknowledged, lazily, and puts aside the files that are done with.
    pub fn settle(&mut self) -> io::Result<()> {
        self.put_aside();
        self.write_cursor()?;
        self.trim_spare()
    }

    fn put_aside(&mut self) {
        let tail = self.tail.as_ref().and(self.segments.back()).map(|segment| segment.name.number);
        let is_done =
            |segment: &Segment| segment.left.is_empty() && Some(segment.name.number) != tail;
        if !self.segments.iter().any(is_done) {
            return;
        }
        let (done, kept): (VecDeque<_>, _) =
            std::mem::take(&mut self.segments).into_iter().partition(is_done);
        self.segments = kept;
        for Segment { name, len, .. } in done {
            self.readers.retain(|reader| reader.number != name.number);
            self.spare.push(Spare { name, file_bytes: len });
        }
    }

    fn write_cursor(&mut self) -> io::Result<()> {
        // What is carried is in no segment, and would seem to be acknowledged.
        if self.is_dirty && self.carried.is_empty() {
            let mut at = self.first().unwrap_or(self.next_seq);
            let floor = at;
            let mut done = Ranges::default();
            for left in self.segments.iter().flat_map(|segment| segment.left.iter()) {
                done.push(at..left.start);
                at = left.end;
            }
            done.push(at..self.next_seq);
            let unsynced = self.tail.as_ref().and_then(|tail| tail.unsynced);
            let unsafe_from = unsynced.into_iter().chain(self.unsafe_from).min();
            let safe_below = unsafe_from.unwrap_or(self.next_seq);
            self.cursor.write(&self.disk, &Acknowledged::new(floor, done.iter(), safe_below))?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// Makes what was acknowledged safe.
    fn save(&mut self) -> io::Result<()> {
        self.write_cursor()?;
        self.cursor.make_safe().inspect_err(|_| self.is_dirty = true)
    }

    /// Removes spare files that are too many, or that the limit has no room for.
    fn trim_spare(&mut self) -> io::Result<()> {
        while self.has_too_much_spare() {
            self.save()?;
            let Some(spare) = self.spare.pop() else { break };
            self.disk.remove(&spare.name.to_string())?;
        }
        Ok(())
    }

    fn has_too_much_spare(&self) -> bool {
        let spare_bytes: u64 = self.spare.iter().map(|spare| spare.file_bytes).sum();
        let is_over = self.bytes() + spare_bytes > self.limits.max_bytes;
        self.spare.len() > MOST_SPARE || (self.spare.len() > 1 && is_over)
    }

    /// Drops the oldest segment that holds messages, whole. Returns the sequence numbers from its
    /// first message to its last; None when there is nothing to drop.
    pub fn drop_oldest(&mut self) -> io::Result<Option<Range<u64>>> {
        let oldest = self.segments.iter().position(|segment| !segment.left.is_empty());
        Ok(oldest.and_then(|at| self.drop_segment(at)))
    }

    /// Drops the segments whose newest message was appended before a time. Returns the sequence
    /// numbers from the first message to the last; None when all are younger, or when it cannot be
    /// known because they came in an earlier boot, before the clock was set.
    pub fn drop_before(&mut self, arrived: Timestamp) -> io::Result<Option<Range<u64>>> {
        let now = (self.clock)();
        let mut dropped: Option<Range<u64>> = None;
        for at in 0..self.segments.len() {
            let segment = &self.segments[at];
            if segment.left.is_empty() {
                continue;
            }
            let newest = segment.newest.zip(segment.origin);
            let newest = newest.map(|(newest, origin)| origin.read(newest.unix_nanos(), &now));
            let is_old = newest.is_some_and(|newest| newest.is_comparable() && newest < arrived);
            if !is_old {
                break;
            }
            let gone = self.drop_segment(at);
            dropped = dropped.into_iter().chain(gone).reduce(|all, one| all.start..one.end);
        }
        Ok(dropped)
    }

    fn drop_segment(&mut self, at: usize) -> Option<Range<u64>> {
        if at + 1 == self.segments.len() {
            self.finish();
        }
        let left = std::mem::take(&mut self.segments[at].left);
        self.is_dirty = true;
        Some(left.first()?..left.last()? + 1)
    }

    /// Looks at the clock. Keeps what it said before it was set, for messages of that time.
    fn observe(&mut self) -> Moment {
        let now = (self.clock)();
        if !now.is_set {
            self.origin = Some(now.origin());
        }
        now
    }
}

/// What a read is to find.
struct Wanted {
    from: u64,
    most: usize,
    max_bytes: usize,
    found: Vec<Stored>,
}

impl Wanted {
    fn is_full(&self) -> bool {
        self.found.len() >= self.most || (self.max_bytes == 0 && !self.found.is_empty())
    }
}
