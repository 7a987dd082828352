//! The message that a sink was about to write and must not write twice, in a small file: whoever finds
//! it after a crash knows that it may have happened, or not.
//!
//! The file `doubt`: length (u32), checksum (u32), and JSON with the message's number in the log,
//! topic, time and payload. A length of zero says that nothing is in doubt. One that is torn was
//! being written, so the sink had not begun.

use std::io;

use forebay_sdk::{Message, Payload, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::disk::{Disk, DiskFile};

/// The file's name.
pub(super) const DOUBT: &str = "doubt";
const PREFIX_BYTES: usize = 8;
/// No message in a buffer is larger.
const MOST_BYTES: u64 = 512 << 20;

#[derive(Serialize, Deserialize)]
struct Note {
    seq: u64,
    topic: String,
    unix_nanos: i64,
    payload: Value,
}

/// Writes down that a message is in doubt. Safe from a power cut once it returns.
pub(super) fn note<D: Disk>(disk: &D, seq: u64, message: &Message) -> io::Result<()> {
    let payload = message.payload.to_value_lossy();
    let (topic, unix_nanos) = (message.topic.to_string(), message.time.unix_nanos());
    let json = serde_json::to_vec(&Note { seq, topic, unix_nanos, payload })?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(crc32fast::hash(&json).to_le_bytes());
    bytes.extend(json);
    let file = match disk.open_to_write(DOUBT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = disk.create(DOUBT)?;
            disk.sync()?;
            file
        }
        file => file?,
    };
    file.write_at(&bytes, 0)?;
    file.sync()
}

/// Nothing is in doubt any more. After a power cut it may seem so once more.
pub(super) fn clear<D: Disk>(disk: &D) -> io::Result<()> {
    match disk.open_to_write(DOUBT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        file => file?.write_at(&[0; PREFIX_BYTES], 0),
    }
}

/// The message in doubt and its number.
pub(super) fn read<D: Disk>(disk: &D) -> io::Result<Option<(u64, Message)>> {
    let file = match disk.open(DOUBT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; usize::try_from(file.size_bytes()?.min(MOST_BYTES)).unwrap_or(0)];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(parse(&bytes[..length]))
}

fn parse(bytes: &[u8]) -> Option<(u64, Message)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let json = rest.get(..u32::from_le_bytes(*length) as usize)?;
    if json.is_empty() || crc32fast::hash(json) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let Note { seq, topic, unix_nanos, payload } = serde_json::from_slice(json).ok()?;
    let mut message = Message::new(topic, Payload::from(payload));
    message.time = Timestamp::from_unix_nanos(unix_nanos);
    Some((seq, message))
}
