//! One file of a buffer: its name, its header, and the walk through what it holds, around damage.

use std::{io, ops::Range};

use forebay_sdk::{Message, Timestamp, clock::Origin};

use super::{
    disk::DiskFile,
    ranges::Ranges,
    record::{
        BATCH_MARK, BATCH_PREFIX_BYTES, BatchHeader, COPY_MARK, MARKS, Prefix,
        RECORD_PREFIX_MOST_BYTES, put, put_signed, take, take_signed,
    },
};

/// What each segment begins with: the magic and the version of the format.
const MAGIC: [u8; 8] = *b"FOREBAY\x01";
/// What stands behind the last batch. A batch that follows is written over it.
pub const END: [u8; 4] = [0; 4];
/// In how many pieces the sequence numbers of a segment may be. Bounds memory and the header.
pub const MOST_PIECES: usize = 64;
/// How much is read from the disk at once.
const READ_BYTES: usize = 64 << 10;
/// How many bytes a walk checks in all in search of the next whole record. What an attacker makes
/// look like records must not keep us busy.
const MOST_SEARCH_BYTES: u64 = 64 << 20;

/// The name of a segment says all that is needed to read it when its header is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Segments are numbered in the order in which they are begun.
    pub number: u32,
    /// No record has a lower sequence number.
    pub first_seq: u64,
    /// Mixed into each checksum, so that what a file held before it was used anew is never valid,
    /// nor what somebody put into a payload to look like a record.
    pub salt: u32,
}

impl Name {
    pub fn parse(text: &str) -> Option<Name> {
        let mut parts = text.strip_suffix(".log")?.split('-');
        let number = parts.next()?.parse().ok()?;
        let first_seq = u64::from_str_radix(parts.next()?, 16).ok()?;
        let salt = u32::from_str_radix(parts.next()?, 16).ok()?;
        let name = Name { number, first_seq, salt };
        const MOST_SEQ: u64 = i64::MAX as u64;
        if first_seq > MOST_SEQ {
            return None;
        }
        // Only names that we write: `+1` is a number too.
        (parts.next().is_none() && name.to_string() == text).then_some(name)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08}-{:016x}-{:08x}.log", self.number, self.first_seq, self.salt)
    }
}

/// What a finished segment holds. It stands in the header of the next one, so that not every
/// segment must be read to open a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub number: u32,
    /// Where the last batch ends.
    pub len: u64,
    /// When the newest record came, as the clock said then.
    pub newest: Option<Timestamp>,
    pub seqs: Ranges,
}

/// The beginning of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub origin: Origin,
    pub before: Option<Summary>,
}

/// Magic, length and checksum in front of a header.
const HEADER_PREFIX_BYTES: usize = 8 + 2 + 4;
/// No header is longer: a summary is the most of it, with two numbers for each piece.
const HEADER_MOST_BYTES: usize = 4096;

impl Header {
    pub fn write(&self, salt: u32, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        body.extend_from_slice(&self.origin.boot.to_le_bytes());
        put_signed(&mut body, self.origin.boot_nanos);
        if let Some(before) = &self.before {
            put(&mut body, before.number.into());
            put(&mut body, before.len);
            put(&mut body, before.newest.is_some().into());
            if let Some(newest) = before.newest {
                put_signed(&mut body, newest.unix_millis());
            }
            put(&mut body, before.seqs.pieces() as u64);
            let mut at = 0;
            for range in before.seqs.iter() {
                put(&mut body, range.start - at);
                put(&mut body, range.end - range.start);
                at = range.end;
            }
        }
        out.extend_from_slice(&MAGIC);
        let len = u16::try_from(body.len()).expect("pieces are few");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(crc32fast::hash(&body) ^ salt).to_le_bytes());
        out.extend_from_slice(&body);
    }

    /// The header of a file. None when it is damaged.
    pub fn load<F: DiskFile>(file: &F, name: Name) -> Option<Header> {
        let mut bytes = [0; HEADER_MOST_BYTES];
        let count = file.read_at(&mut bytes, 0).ok()?;
        Header::read(&bytes[..count], name.salt).map(|(header, _)| header)
    }

    /// None when there is no header, or not one of this salt.
    fn read(bytes: &[u8], salt: u32) -> Option<(Header, usize)> {
        let (prefix, rest) = bytes.split_at_checked(HEADER_PREFIX_BYTES)?;
        let (magic, prefix) = prefix.split_first_chunk::<8>()?;
        let (len, crc) = prefix.split_first_chunk::<2>()?;
        let len = u16::from_le_bytes(*len);
        let body = rest.get(..len.into())?;
        let crc = u32::from_le_bytes(*crc.first_chunk()?);
        if *magic != MAGIC || crc32fast::hash(body) ^ salt != crc {
            return None;
        }
        let bytes = &mut &*body;
        let boot = u128::from_le_bytes(*bytes.first_chunk()?);
        *bytes = &bytes[16..];
        let origin = Origin { boot, boot_nanos: take_signed(bytes)? };
        let before = match bytes.is_empty() {
            true => None,
            false => Some(take_summary(bytes)?),
        };
        Some((Header { origin, before }, HEADER_PREFIX_BYTES + body.len()))
    }
}

fn take_summary(bytes: &mut &[u8]) -> Option<Summary> {
    let number = u32::try_from(take(bytes)?).ok()?;
    let len = take(bytes)?;
    let newest = match take(bytes)? {
        0 => None,
        _ => Some(Timestamp::from_unix_nanos(take_signed(bytes)?.checked_mul(1_000_000)?)),
    };
    let pieces = take(bytes).filter(|pieces| *pieces <= MOST_PIECES as u64 + 1)?;
    let mut seqs = Ranges::default();
    let mut at = 0_u64;
    for _ in 0..pieces {
        let start = at.checked_add(take(bytes)?)?;
        let end = start.checked_add(take(bytes)?)?;
        seqs.push(start..end);
        at = end;
    }
    Some(Summary { number, len, newest, seqs })
}

/// One record that a walk came by.
pub struct Record {
    pub seq: u64,
    pub message: Message,
    /// When it came, as the clock said then.
    pub arrived: Timestamp,
    /// The bytes that it takes, without its share of the batch's header.
    pub bytes: u64,
}

/// Goes through a segment record by record. Where it is damaged, it looks for the next record that
/// is whole.
pub struct Walk<F> {
    window: Window<F>,
    salt: u32,
    /// What comes next stands here.
    at: u64,
    batch: Option<OpenBatch>,
    /// The end of the last whole batch header or record.
    valid_end: u64,
    /// The sequence number that should come next.
    expected: u64,
    /// The number behind the last that a batch said to hold.
    announced: u64,
    missing: Ranges,
    damaged_bytes: u64,
    searched_bytes: u64,
}

struct OpenBatch {
    header: BatchHeader,
    /// Where its records end.
    end: u64,
}

impl<F: DiskFile> Walk<F> {
    /// Begins at the beginning. `end` is where the file ends, as far as is known.
    pub fn new(file: F, name: Name, end: u64) -> io::Result<Walk<F>> {
        let mut window = Window { file, start: 0, bytes: Vec::new() };
        let read = Header::read(window.get(0, HEADER_MOST_BYTES, end)?, name.salt);
        // Without a header, the first batch is searched for like behind any damage.
        let at = read.as_ref().map_or(0, |(_, len)| *len as u64);
        Ok(Walk {
            window,
            salt: name.salt,
            at,
            batch: None,
            valid_end: at,
            expected: name.first_seq,
            announced: name.first_seq,
            missing: Ranges::default(),
            damaged_bytes: 0,
            searched_bytes: 0,
        })
    }

    /// Where the last whole record ends.
    pub fn valid_end(&self) -> u64 {
        self.valid_end
    }

    /// All records with a lower number have come by, or were skipped, or are missing.
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// The records that are missing in front of those that came.
    pub fn missing(&self) -> &Ranges {
        &self.missing
    }

    /// How many bytes in front of what came belong to nothing that is whole.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    /// The records that the last batch said to hold and does not: its end is cut off.
    pub fn cut(&self) -> Range<u64> {
        self.expected..self.announced
    }

    /// Whether there is nothing but old content behind the last whole record.
    pub fn ends_cleanly(&mut self, end: u64) -> io::Result<bool> {
        let is_whole = self.cut().is_empty();
        let behind = self.window.get(self.valid_end, END.len(), end)?;
        Ok(is_whole && (behind.is_empty() || behind == END))
    }

    /// The next record. Batches that end before `from` are skipped unread. None at the end.
    pub fn next(&mut self, from: u64, end: u64) -> io::Result<Option<Record>> {
        loop {
            match &self.batch {
                Some(batch) => {
                    let batch_end = batch.end;
                    if let Some(record) = self.next_in_batch(batch_end.min(end))? {
                        return Ok(Some(record));
                    }
                    self.batch = None;
                    self.at = batch_end;
                }
                None => match self.next_batch(end)? {
                    Some(batch) if batch.header.end_seq() <= from => {
                        self.expected = batch.header.end_seq();
                        self.at = batch.end;
                        self.valid_end = batch.end;
                    }
                    Some(batch) => self.batch = Some(batch),
                    None => return Ok(None),
                },
            }
        }
    }

    fn next_in_batch(&mut self, batch_end: u64) -> io::Result<Option<Record>> {
        for at in self.at..batch_end {
            if let Some(record) = self.record_at(at, batch_end)? {
                self.found(at, record.bytes);
                self.missing.push(self.expected..record.seq);
                self.expected = record.seq + 1;
                return Ok(Some(record));
            }
            if self.searched_bytes > MOST_SEARCH_BYTES {
                break;
            }
        }
        Ok(None)
    }

    fn next_batch(&mut self, end: u64) -> io::Result<Option<OpenBatch>> {
        let mut at = self.at;
        while at < end {
            if let Some((header, len)) = self.header_at(BATCH_MARK, at, end)?
                && header.first_seq >= self.expected
            {
                self.found(at, len);
                return Ok(Some(self.open_batch(header)));
            }
            if let Some((header, len)) = self.header_at(COPY_MARK, at, end)? {
                let start = at.checked_sub(header.records_bytes);
                let start = start.filter(|start| *start > self.valid_end);
                // Its first header did not come by, so that one is damaged.
                if let (Some(start), true) = (start, header.first_seq >= self.expected) {
                    self.found(start, 0);
                    return Ok(Some(self.open_batch(header)));
                }
                self.found(at, len);
                at = self.at;
                continue;
            }
            match self.find_mark(at + 1, end)? {
                Some(marked) if self.searched_bytes <= MOST_SEARCH_BYTES => at = marked,
                _ => break,
            }
        }
        Ok(None)
    }

    /// A batch whose records begin here.
    fn open_batch(&mut self, header: BatchHeader) -> OpenBatch {
        // What was left out on purpose is not missing.
        self.missing.push(self.expected..header.first_seq - header.gap);
        self.expected = header.first_seq;
        self.announced = header.end_seq();
        let end = self.at.saturating_add(header.records_bytes);
        OpenBatch { header, end }
    }

    fn found(&mut self, at: u64, len: u64) {
        self.damaged_bytes += at - self.valid_end;
        self.valid_end = at + len;
        self.at = self.valid_end;
    }

    fn record_at(&mut self, at: u64, batch_end: u64) -> io::Result<Option<Record>> {
        let Some(batch) = &self.batch else { return Ok(None) };
        let prefix = Prefix::read(self.window.get(at, RECORD_PREFIX_MOST_BYTES, batch_end)?);
        let total = prefix.map(|prefix| prefix.total());
        let Some(total) = total.filter(|total| at + total <= batch_end) else { return Ok(None) };
        let bytes = self.window.get(at, total as usize, batch_end)?;
        let read = batch.header.read_record(bytes, self.salt);
        let Some((seq, message)) = read.filter(|(seq, _)| *seq >= self.expected) else {
            self.searched_bytes += total;
            return Ok(None);
        };
        Ok(Some(Record { seq, message, arrived: batch.header.arrived, bytes: total }))
    }

    /// The header of a batch, or its copy, and its length.
    fn header_at(
        &mut self,
        mark: [u8; 4],
        at: u64,
        end: u64,
    ) -> io::Result<Option<(BatchHeader, u64)>> {
        let prefix = self.window.get(at, BATCH_PREFIX_BYTES, end)?;
        let prefix = prefix.strip_prefix(&mark).and_then(|rest| rest.first_chunk::<6>());
        let Some(&[len_low, len_high, crc @ ..]) = prefix else { return Ok(None) };
        let total = BATCH_PREFIX_BYTES + usize::from(u16::from_le_bytes([len_low, len_high]));
        let body = self.window.get(at, total, end)?.get(BATCH_PREFIX_BYTES..total);
        let is_whole = |body: &&[u8]| crc32fast::hash(body) ^ self.salt == u32::from_le_bytes(crc);
        let Some(header) = body.filter(is_whole).and_then(BatchHeader::read) else {
            self.searched_bytes += total as u64;
            return Ok(None);
        };
        Ok(Some((header, total as u64)))
    }

    /// The next place from `at` on where the header of a batch, or a copy, may begin.
    fn find_mark(&mut self, mut at: u64, end: u64) -> io::Result<Option<u64>> {
        loop {
            let bytes = self.window.get(at, READ_BYTES, end)?;
            if bytes.len() < MARKS.len() {
                return Ok(None);
            }
            let found = bytes.windows(MARKS.len()).position(|three| three == MARKS);
            if let Some(found) = found {
                return Ok(Some(at + found as u64));
            }
            at += (bytes.len() - MARKS.len() + 1) as u64;
        }
    }
}

/// The stretch of a file that was read last.
struct Window<F> {
    file: F,
    start: u64,
    bytes: Vec<u8>,
}

impl<F: DiskFile> Window<F> {
    /// What stands at a place: `len` bytes, or fewer at the end.
    fn get(&mut self, at: u64, len: usize, end: u64) -> io::Result<&[u8]> {
        let len = len.min(usize::try_from(end.saturating_sub(at)).unwrap_or(len));
        let window_end = self.start + self.bytes.len() as u64;
        if at < self.start || at + len as u64 > window_end {
            let left = usize::try_from(end.saturating_sub(at)).unwrap_or(READ_BYTES);
            self.load(at, len.max(READ_BYTES.min(left)))?;
        }
        let offset = usize::try_from(at - self.start).unwrap_or(usize::MAX).min(self.bytes.len());
        let rest = &self.bytes[offset..];
        Ok(&rest[..len.min(rest.len())])
    }

    fn load(&mut self, at: u64, len: usize) -> io::Result<()> {
        if self.bytes.capacity() > 4 * READ_BYTES && len <= READ_BYTES {
            self.bytes = Vec::new();
        }
        self.start = at;
        self.bytes.resize(len, 0);
        let read = self.file.read_at(&mut self.bytes, at);
        let read = read.or_else(|error| self.read_around(at, error));
        // Nothing half-read stays behind.
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }

    /// Reads block by block; what the disk cannot read becomes zeros, which are damage like any
    /// other. When nothing can be read it is the disk that is gone, not a block.
    fn read_around(&mut self, at: u64, error: io::Error) -> io::Result<usize> {
        const BLOCK_BYTES: usize = 4096;
        let mut probe = [0; HEADER_PREFIX_BYTES];
        let mut is_alive = at > 0 && self.file.read_at(&mut probe, 0).is_ok();
        let mut done = 0;
        while done < self.bytes.len() {
            // To the end of the block on the disk.
            let place = at + done as u64;
            let block = BLOCK_BYTES - place as usize % BLOCK_BYTES;
            let end = self.bytes.len().min(done + block);
            match self.file.read_at(&mut self.bytes[done..end], place) {
                Ok(count) => {
                    is_alive = true;
                    let is_end = done + count < end;
                    done += count;
                    if is_end {
                        break;
                    }
                }
                Err(_) => {
                    self.bytes[done..end].fill(0);
                    done = end;
                }
            }
        }
        match is_alive {
            true => Ok(done),
            false => Err(error),
        }
    }
}
