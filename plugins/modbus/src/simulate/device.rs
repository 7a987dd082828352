//! How a simulated device answers requests, both without head and checksum (MODBUS Application Protocol
//! V1.1b3, section 6). Pure: it is told the time.

use std::time::Duration;

use super::image::{Image, Refusal};
use crate::block::{Block, Table};

const MOST_READ_REGISTERS: u16 = 125;
const MOST_READ_BITS: u16 = 2000;
const MOST_WRITTEN_REGISTERS: u16 = 123;
const MOST_WRITTEN_BITS: u16 = 1968;
/// By function 23.
const MOST_EXCHANGED_REGISTERS: u16 = 121;
const EXCEPTION_BIT: u8 = 0x80;

/// The answer to a request. Never fails: what cannot be done is refused by an exception.
pub fn answer(image: &mut Image, request: &[u8], elapsed: Duration) -> Vec<u8> {
    let function = request.first().copied().unwrap_or(0);
    match carry_out(image, request, elapsed) {
        Ok(answer) => answer,
        Err(refusal) => exception(function, refusal as u8),
    }
}

/// The answer of a device that will not.
pub fn exception(function: u8, code: u8) -> Vec<u8> {
    vec![function | EXCEPTION_BIT, code]
}

/// Whether a request would change something.
pub fn is_write(request: &[u8]) -> bool {
    matches!(request.first(), Some(5 | 6 | 15 | 16 | 22 | 23))
}

fn carry_out(image: &mut Image, request: &[u8], elapsed: Duration) -> Result<Vec<u8>, Refusal> {
    let (function, rest) = request.split_first().ok_or(Refusal::Function)?;
    let word = |index: usize| {
        let pair = rest.get(index * 2..index * 2 + 2).ok_or(Refusal::Value)?;
        Ok(u16::from_be_bytes([pair[0], pair[1]]))
    };
    let is_as_long = |bytes: usize| if rest.len() == bytes { Ok(()) } else { Err(Refusal::Value) };
    match function {
        1..=4 => {
            is_as_long(4)?;
            let table = match function {
                1 => Table::Coil,
                2 => Table::Discrete,
                3 => Table::Holding,
                _ => Table::Input,
            };
            let most = if table.holds_bits() { MOST_READ_BITS } else { MOST_READ_REGISTERS };
            let block = Block { table, start: word(0)?, count: up_to(word(1)?, most)? };
            let values = image.read(block, elapsed)?;
            Ok(values_answer(*function, &bytes_of(table, &values)))
        }
        5 => {
            is_as_long(4)?;
            let on = match word(1)? {
                0xFF00 => 1,
                0 => 0,
                _ => return Err(Refusal::Value),
            };
            image.write(Table::Coil, word(0)?, &[on])?;
            Ok(request.to_vec())
        }
        6 => {
            is_as_long(4)?;
            image.write(Table::Holding, word(0)?, &[word(1)?])?;
            Ok(request.to_vec())
        }
        15 => {
            let count = up_to(word(1)?, MOST_WRITTEN_BITS)?;
            let bytes = written(rest, 4, usize::from(count).div_ceil(8))?;
            let bit = |index: u16| u16::from(bytes[usize::from(index / 8)] >> (index % 8) & 1);
            let bits: Vec<u16> = (0..count).map(bit).collect();
            image.write(Table::Coil, word(0)?, &bits)?;
            Ok(request[..5].to_vec())
        }
        16 => {
            let count = up_to(word(1)?, MOST_WRITTEN_REGISTERS)?;
            let bytes = written(rest, 4, usize::from(count) * 2)?;
            image.write(Table::Holding, word(0)?, &words(bytes))?;
            Ok(request[..5].to_vec())
        }
        22 => {
            is_as_long(6)?;
            let (address, and, or) = (word(0)?, word(1)?, word(2)?);
            let block = Block { table: Table::Holding, start: address, count: 1 };
            let old = image.read(block, elapsed)?[0];
            image.write(Table::Holding, address, &[old & and | or & !and])?;
            Ok(request.to_vec())
        }
        23 => {
            let read = up_to(word(1)?, MOST_READ_REGISTERS)?;
            let count = up_to(word(3)?, MOST_EXCHANGED_REGISTERS)?;
            let bytes = written(rest, 8, usize::from(count) * 2)?;
            let block = Block { table: Table::Holding, start: word(0)?, count: read };
            if !image.has(block) {
                return Err(Refusal::Address);
            }
            image.write(Table::Holding, word(2)?, &words(bytes))?;
            let values = image.read(block, elapsed)?;
            Ok(values_answer(23, &bytes_of(Table::Holding, &values)))
        }
        43 => identification(image, rest),
        _ => Err(Refusal::Function),
    }
}

fn up_to(count: u16, most: u16) -> Result<u16, Refusal> {
    if (1..=most).contains(&count) { Ok(count) } else { Err(Refusal::Value) }
}

/// What is to be written: `length` bytes behind their number, which stands at `at`.
fn written(rest: &[u8], at: usize, length: usize) -> Result<&[u8], Refusal> {
    let said = rest.get(at).ok_or(Refusal::Value)?;
    let bytes = &rest[at + 1..];
    let fits = bytes.len() == length && usize::from(*said) == length;
    if fits { Ok(bytes) } else { Err(Refusal::Value) }
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

fn bytes_of(table: Table, values: &[u16]) -> Vec<u8> {
    let pack = |bits: &[u16]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | (*bit & 1) as u8);
    if table.holds_bits() {
        values.chunks(8).map(pack).collect()
    } else {
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    }
}

/// At most 250 bytes of values.
fn values_answer(function: u8, bytes: &[u8]) -> Vec<u8> {
    [&[function, bytes.len() as u8], bytes].concat()
}

/// The basic objects 0 to 2 (section 6.21): all of them, or the one that is asked for.
fn identification(image: &Image, rest: &[u8]) -> Result<Vec<u8>, Refusal> {
    const STREAM: u8 = 1;
    const ONE: u8 = 4;
    const READ_DEVICE_ID: u8 = 0x0E;
    /// Basic, all at once or one by one.
    const CONFORMITY: u8 = 0x81;
    let objects = image.identity.as_ref().ok_or(Refusal::Function)?;
    let &[READ_DEVICE_ID, code, object] = rest else { return Err(Refusal::Value) };
    let from = usize::from(object);
    let range = match code {
        // What is not there is all of them.
        STREAM..=3 => (if from < objects.len() { from } else { 0 })..objects.len(),
        ONE if from < objects.len() => from..from + 1,
        ONE => return Err(Refusal::Address),
        _ => return Err(Refusal::Value),
    };
    let mut answer = vec![43, READ_DEVICE_ID, code, CONFORMITY, 0, 0, range.len() as u8];
    for id in range {
        // Three of 60 fit in any frame.
        let text: Vec<u8> = objects[id].bytes().take(60).collect();
        answer.extend([id as u8, text.len() as u8]);
        answer.extend(text);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let mut image = Image::default();
        image.put(Table::Holding, 0, &[1, 2, 3]);
        image.put(Table::Input, 7, &[0xABCD]);
        image.put(Table::Coil, 0, &[1, 0, 1, 1, 0, 0, 1, 1, 1]);
        image.put(Table::Discrete, 0xFFFF, &[1]);
        image.identity = Some(["Forebay".into(), "simulated".into(), "1".into()]);
        image
    }

    #[test]
    fn requests_are_answered_as_the_standard_says() {
        let mut image = image();
        for (request, expected) in [
            (vec![3, 0, 0, 0, 3], vec![3, 6, 0, 1, 0, 2, 0, 3]),
            (vec![4, 0, 7, 0, 1], vec![4, 2, 0xAB, 0xCD]),
            (vec![1, 0, 0, 0, 9], vec![1, 2, 0xCD, 1]),
            (vec![2, 0xFF, 0xFF, 0, 1], vec![2, 1, 1]),
            (vec![5, 0, 1, 0xFF, 0], vec![5, 0, 1, 0xFF, 0]),
            (vec![1, 0, 0, 0, 2], vec![1, 1, 3]),
            (vec![6, 0, 2, 0x12, 0x34], vec![6, 0, 2, 0x12, 0x34]),
            (vec![15, 0, 0, 0, 2, 1, 0], vec![15, 0, 0, 0, 2]),
            (vec![1, 0, 0, 0, 3], vec![1, 1, 4]),
            (vec![16, 0, 0, 0, 2, 4, 0, 9, 0, 8], vec![16, 0, 0, 0, 2]),
            (vec![3, 0, 0, 0, 3], vec![3, 6, 0, 9, 0, 8, 0x12, 0x34]),
            // The example of section 6.16: 0x12 and 0xF2 or 0x25 is 0x17.
            (vec![6, 0, 0, 0, 0x12], vec![6, 0, 0, 0, 0x12]),
            (vec![22, 0, 0, 0, 0xF2, 0, 0x25], vec![22, 0, 0, 0, 0xF2, 0, 0x25]),
            (vec![3, 0, 0, 0, 1], vec![3, 2, 0, 0x17]),
            (vec![23, 0, 1, 0, 1, 0, 1, 0, 1, 2, 0, 5], vec![23, 2, 0, 5]),
        ] {
            assert_eq!(answer(&mut image, &request, Duration::ZERO), expected, "{request:?}");
        }
        let all = answer(&mut image, &[43, 14, 1, 0], Duration::ZERO);
        assert_eq!(all[..9], [43, 14, 1, 0x81, 0, 0, 3, 0, 7]);
        assert_eq!(&all[9..16], b"Forebay");
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_the_right_exception() {
        let mut image = image();
        for (request, code) in [
            (vec![], 1),
            (vec![7], 1),
            (vec![3, 0, 0, 0, 4], 2),
            (vec![4, 0, 8, 0, 1], 2),
            (vec![2, 0xFF, 0xFF, 0, 2], 2),
            (vec![3, 0, 0, 0, 0], 3),
            (vec![3, 0, 0, 0, 126], 3),
            (vec![1, 0, 0, 7, 209], 3),
            (vec![3, 0, 0], 3),
            (vec![5, 0, 0, 0, 1], 3),
            (vec![6, 0, 3, 0, 1], 2),
            (vec![16, 0, 0, 0, 2, 3, 0, 0, 0], 3),
            (vec![16, 0, 2, 0, 2, 4, 0, 0, 0, 0], 2),
            (vec![15, 0, 0, 0, 9, 1, 0], 3),
            (vec![23, 0, 9, 0, 1, 0, 1, 0, 1, 2, 0, 5], 2),
            (vec![43, 14, 4, 9], 2),
            (vec![43, 13], 3),
        ] {
            let function = request.first().copied().unwrap_or(0);
            let found = answer(&mut image, &request, Duration::ZERO);
            assert_eq!(found, [function | 0x80, code], "{request:?}");
        }
        let all = answer(&mut image, &[3, 0, 0, 0, 3], Duration::ZERO);
        assert_eq!(all[2..], [0, 1, 0, 2, 0, 3], "what was refused was not half done");
    }

    #[test]
    fn no_request_whatsoever_causes_a_panic() {
        let (mut image, mut random) = (image(), fastrand::Rng::with_seed(1));
        for _ in 0..20_000 {
            let mut request: Vec<u8> = (0..random.usize(0..20)).map(|_| random.u8(..)).collect();
            if let Some(function) = request.first_mut().filter(|_| random.bool()) {
                *function = [1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43][random.usize(0..11)];
            }
            let answer = answer(&mut image, &request, Duration::ZERO);
            assert!((2..=253).contains(&answer.len()));
        }
    }
}
