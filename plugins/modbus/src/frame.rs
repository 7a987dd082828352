//! Which bytes of the wire are the answer that is waited for. Pure.
//!
//! What comes is looked through for the answer to the request at hand. What else there is (a late
//! answer, that of another unit, noise) is thrown away, and remembered for the error should nothing
//! better come.

use std::{
    fmt,
    ops::{Range, RangeInclusive},
};

/// How frames are told apart on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By a head with a transaction id and a length (MODBUS Messaging on TCP/IP Implementation Guide
    /// V1.0b, section 3.1.3).
    Tcp,
    /// The same, of a device whose answers have another transaction id than was asked with.
    Unnumbered,
    /// By a checksum at the end (MODBUS over Serial Line V1.02, section 2.5.1).
    Rtu,
}

/// Something on the wire that is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// The answer to an earlier request, or one that came twice.
    Late,
    /// It has a transaction id that nobody asked with.
    Transaction { asked: u16, came: u16 },
    /// The answer of another unit.
    Unit { asked: u8, came: u8 },
    /// The answer to another function.
    Function { asked: u8, came: u8 },
    /// Not as long as asked for, or not about the same registers.
    Extent,
    /// The request: some adapters for RS-485 hear what they send.
    Echo,
    /// Bytes that are no frame.
    Noise,
}

/// What came, looked through for what is wanted.
#[derive(Debug)]
pub struct Frames {
    framing: Framing,
    /// Of the last request.
    transaction: u16,
    /// Requests so far, while they are few.
    requests: u16,
    asked: Option<Asked>,
    came: Vec<u8>,
    stray: Option<Stray>,
    /// Whether the request comes back in front of its answer, as reads have shown. A write cannot: its answer
    /// looks the same.
    echoes: bool,
}

/// A request whose answer is waited for.
#[derive(Debug)]
struct Asked {
    /// None when the answer may have any.
    transaction: Option<u16>,
    /// How many transactions before it were asked for, as far as one looks back.
    before: u16,
    unit: u8,
    function: u8,
    expected: Expected,
    /// As it went out, until it came back. Empty where that cannot be.
    echo: Vec<u8>,
}

/// What the answer is, when it is no exception.
#[derive(Debug)]
enum Expected {
    /// As many bytes, function code included, of which the second counts those behind it.
    Values(usize),
    /// A repetition of what was to be written.
    Echo(Vec<u8>),
    /// What the device says of itself, as objects that each have their length (function 43).
    Objects,
}

/// What stands at the beginning of the bytes that came.
enum Found {
    /// The answer: its function code and what follows, without head and checksum.
    Answer(Range<usize>),
    /// So many bytes to throw away.
    Stray(usize, Stray),
    /// More must come before anybody can tell.
    Unfinished,
}

/// Transaction, protocol and length, each of two bytes.
const HEAD_BYTES: usize = 6;
/// From one transaction id to the next: odd, so that all come up before one comes again, and not 1. A device
/// whose late answer has the id of the next request is known for what it is.
const TRANSACTION_STEP: u16 = 0x0101;
/// How many of them back an answer is known for a late one.
const MOST_LATE: u16 = 64;
/// The address of the device, between the head and the function code.
const UNIT_BYTES: usize = 1;
/// Unit, function and one byte are the least; the standard's most is 254.
const BODY_BYTES: RangeInclusive<usize> = 3..=254;
/// Unit, function with its highest bit set, and the exception.
const EXCEPTION_BYTES: usize = 3;
const CHECKSUM_BYTES: usize = 2;
const EXCEPTION_BIT: u8 = 0x80;
/// Of all that function 43 encapsulates, what a device says of itself.
const IDENTIFICATION: u8 = 14;
/// CRC-16 of the standard (section 6.2.2).
const CHECKSUM: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS);

impl Frames {
    pub fn new(framing: Framing) -> Frames {
        let (came, stray) = (Vec::new(), None);
        Frames { framing, transaction: 0, requests: 0, asked: None, came, stray, echoes: false }
    }

    /// Takes a request, from its function code on, and gives what goes on the wire. From now on its
    /// answer is what is waited for.
    pub fn ask(&mut self, unit: u8, request: &[u8]) -> Vec<u8> {
        self.transaction = self.transaction.wrapping_add(TRANSACTION_STEP);
        let expected = Expected::of(request);
        let wire = envelope(self.framing, self.transaction.to_be_bytes(), unit, request);
        let transaction = (self.framing == Framing::Tcp).then_some(self.transaction);
        let before = self.requests;
        self.requests = MOST_LATE.min(before + 1);
        let is_told = self.echoes || !matches!(expected, Expected::Echo(_));
        let may_echo = self.framing == Framing::Rtu && is_told;
        let echo = if may_echo { wire.clone() } else { Vec::new() };
        let function = request[0];
        self.asked = Some(Asked { transaction, before, unit, function, expected, echo });
        self.came.clear();
        self.stray = None;
        wire
    }

    /// Takes what came. Gives the answer, from its function code on, once it is whole.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let asked = self.asked.as_mut()?;
        self.came.extend_from_slice(bytes);
        loop {
            if !asked.echo.is_empty() && self.came.starts_with(&asked.echo) {
                self.came.drain(..std::mem::take(&mut asked.echo).len());
                (self.echoes, self.stray) = (true, Some(Stray::Echo));
            } else if !self.came.is_empty() && asked.echo.starts_with(&self.came) {
                return None;
            }
            let found = match self.framing {
                Framing::Tcp | Framing::Unnumbered => asked.look_at_tcp(&self.came),
                Framing::Rtu => asked.look_at_rtu(&self.came),
            };
            match found {
                Found::Unfinished => return None,
                Found::Stray(length, stray) => {
                    self.came.drain(..length);
                    // Noise around a frame says less than the frame.
                    if stray != Stray::Noise || self.stray.is_none() {
                        self.stray = Some(stray);
                    }
                }
                Found::Answer(answer) => {
                    if !asked.echo.is_empty() {
                        self.echoes = false;
                    }
                    self.asked = None;
                    return Some(self.came[answer].to_vec());
                }
            }
        }
    }

    /// What came since the request that was not its answer.
    pub fn stray(&self) -> Option<Stray> {
        let unfinished = (!self.came.is_empty()).then_some(Stray::Noise);
        self.stray.or(unfinished)
    }
}

impl Expected {
    /// The answer to a request, of which these are function code and what follows
    /// (MODBUS Application Protocol V1.1b3, section 6).
    fn of(request: &[u8]) -> Expected {
        let count = |at: usize| usize::from(u16::from_be_bytes([request[at], request[at + 1]]));
        match request[0] {
            1 | 2 => Expected::Values(2 + count(3).div_ceil(8)),
            3 | 4 | 23 => Expected::Values(2 + count(3) * 2),
            15 | 16 => Expected::Echo(request[..5].to_vec()),
            43 => Expected::Objects,
            _ => Expected::Echo(request.to_vec()),
        }
    }

    /// Of an answer that begins like this, in bytes, function code included. None: more must come before
    /// anybody can tell.
    fn length(&self, came: &[u8]) -> Option<usize> {
        match self {
            Expected::Values(length) => Some(*length),
            Expected::Echo(bytes) => Some(bytes.len()),
            Expected::Objects => objects_length(came),
        }
    }

    /// Whether this is it: function code and what follows.
    fn is(&self, answer: &[u8]) -> bool {
        match self {
            Expected::Values(length) => {
                answer.len() == *length && usize::from(answer[1]) == length - 2
            }
            Expected::Echo(bytes) => answer == bytes,
            Expected::Objects => {
                answer.get(1) == Some(&IDENTIFICATION)
                    && objects_length(answer) == Some(answer.len())
            }
        }
    }
}

/// Seven bytes, the last of which counts the objects, and each of those behind its number and length.
fn objects_length(answer: &[u8]) -> Option<usize> {
    const HEAD: usize = 7;
    let mut length = HEAD;
    for _ in 0..*answer.get(HEAD - 1)? {
        // Longer than any frame, so it is none.
        if length > *BODY_BYTES.end() {
            break;
        }
        length += 2 + usize::from(*answer.get(length + 1)?);
    }
    Some(length)
}

impl Asked {
    fn look_at_tcp(&self, came: &[u8]) -> Found {
        let Some(head) = came.first_chunk::<HEAD_BYTES>() else { return Found::Unfinished };
        let body_length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        if head[2..4] != [0, 0] || !BODY_BYTES.contains(&body_length) {
            return Found::Stray(1, Stray::Noise);
        }
        let length = HEAD_BYTES + body_length;
        let Some(body) = came.get(HEAD_BYTES..length) else { return Found::Unfinished };
        let stray = |stray| Found::Stray(length, stray);
        let (unit, function, is_exception) = parts(body);
        if let Some(found) = self.other_transaction(u16::from_be_bytes([head[0], head[1]])) {
            stray(found)
        } else if unit != self.unit {
            stray(Stray::Unit { asked: self.unit, came: unit })
        } else if function != self.function {
            stray(Stray::Function { asked: self.function, came: function })
        } else if is_exception && body_length == EXCEPTION_BYTES || self.expected.is(&body[1..]) {
            Found::Answer(HEAD_BYTES + UNIT_BYTES..length)
        } else {
            stray(Stray::Extent)
        }
    }

    /// What an answer is whose transaction is not the one that was asked for.
    fn other_transaction(&self, came: u16) -> Option<Stray> {
        let asked = self.transaction.filter(|asked| *asked != came)?;
        let mut earlier = (1..=self.before).map(|back| back.wrapping_mul(TRANSACTION_STEP));
        let is_late = earlier.any(|back| asked.wrapping_sub(back) == came);
        Some(if is_late { Stray::Late } else { Stray::Transaction { asked, came } })
    }

    /// There is no length on this wire: a frame is what ends with its own checksum. So a frame is
    /// looked for at every byte, first the one that is waited for.
    fn look_at_rtu(&self, came: &[u8]) -> Found {
        let Some(&[unit, code]) = came.first_chunk::<2>() else { return Found::Unfinished };
        let function = code & !EXCEPTION_BIT;
        if unit == self.unit && function == self.function {
            let values = || Some(UNIT_BYTES + self.expected.length(&came[UNIT_BYTES..])?);
            let body = if code == function { values() } else { Some(EXCEPTION_BYTES) };
            let Some(body) = body else { return Found::Unfinished };
            if BODY_BYTES.contains(&body) {
                let Some(frame) = came.get(..body + CHECKSUM_BYTES) else {
                    return Found::Unfinished;
                };
                let is_it = code != function || self.expected.is(&frame[1..body]);
                if is_whole(frame) && is_it {
                    return Found::Answer(UNIT_BYTES..body);
                }
            }
        }
        match foreign_frame(came) {
            Some(length) => Found::Stray(length, self.foreign(unit, function)),
            None => Found::Stray(1, Stray::Noise),
        }
    }

    fn foreign(&self, unit: u8, function: u8) -> Stray {
        if unit != self.unit {
            Stray::Unit { asked: self.unit, came: unit }
        } else if function != self.function {
            Stray::Function { asked: self.function, came: function }
        } else {
            Stray::Extent
        }
    }
}

/// Unit and function of a body, and whether it says that the device will not.
fn parts(body: &[u8]) -> (u8, u8, bool) {
    (body[0], body[1] & !EXCEPTION_BIT, body[1] & EXCEPTION_BIT != 0)
}

/// A request or an answer, from its function code on, as it goes on the wire.
pub fn envelope(framing: Framing, transaction: [u8; 2], unit: u8, pdu: &[u8]) -> Vec<u8> {
    let body = [&[unit], pdu].concat();
    match framing {
        Framing::Tcp | Framing::Unnumbered => {
            let length = (body.len() as u16).to_be_bytes();
            [&transaction, &[0, 0], &length, &body[..]].concat()
        }
        Framing::Rtu => [&body[..], &CHECKSUM.checksum(&body).to_le_bytes()].concat(),
    }
}

/// The length of a whole frame that begins here: of any answer to a read, to a write, or an
/// exception.
fn foreign_frame(came: &[u8]) -> Option<usize> {
    let values = came.get(2).map_or(0, |count| 3 + usize::from(*count) + CHECKSUM_BYTES);
    let lengths = [EXCEPTION_BYTES + CHECKSUM_BYTES, values, 6 + CHECKSUM_BYTES];
    lengths.into_iter().find(|length| came.get(..*length).is_some_and(is_whole))
}

/// Whether it ends with its checksum.
pub fn is_whole(frame: &[u8]) -> bool {
    let end = frame.len().checked_sub(CHECKSUM_BYTES).filter(|end| *end > 0);
    end.is_some_and(|end| CHECKSUM.checksum(&frame[..end]).to_le_bytes() == frame[end..])
}

impl fmt::Display for Stray {
    /// As in `what came was …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stray::Late => f.write_str("the answer to an earlier request"),
            Stray::Transaction { asked, came } => write!(
                f,
                "an answer with transaction {came}, and {asked} was asked; for a device that never repeats it \
                 there is `ignore_transaction: true` of the connection"
            ),
            Stray::Unit { asked, came } => {
                write!(f, "an answer of unit {came}, and unit {asked} was asked")
            }
            Stray::Function { asked, came } => {
                write!(f, "an answer to function {came}, and function {asked} was asked for")
            }
            Stray::Extent => f.write_str("more or less than was asked for"),
            Stray::Echo => f.write_str("the request itself, which the adapter hears"),
            Stray::Noise => f.write_str("nothing that is Modbus"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an input register at 7.
    const REQUEST: [u8; 5] = [4, 0, 7, 0, 1];
    const ANSWER: [u8; 4] = [4, 2, 0xAB, 0xCD];

    fn tcp(transaction: u8, unit: u8, answer: &[u8]) -> Vec<u8> {
        [&[transaction, transaction, 0, 0, 0, answer.len() as u8 + 1, unit], answer].concat()
    }

    fn rtu(unit: u8, answer: &[u8]) -> Vec<u8> {
        let body = [&[unit], answer].concat();
        [&body[..], &CHECKSUM.checksum(&body).to_le_bytes()].concat()
    }

    /// On both wires: the second transaction, and what an answer looks like.
    fn both(request: &[u8], check: impl Fn(Frames, &dyn Fn(u8, &[u8]) -> Vec<u8>)) {
        for framing in [Framing::Tcp, Framing::Rtu] {
            let mut frames = Frames::new(framing);
            frames.ask(9, request);
            frames.ask(9, request);
            match framing {
                Framing::Tcp => check(frames, &|unit, answer| tcp(2, unit, answer)),
                Framing::Rtu | Framing::Unnumbered => check(frames, &rtu),
            }
        }
    }

    #[test]
    fn a_transaction_that_nobody_asked_with_is_told_from_a_late_one() {
        let mut frames = Frames::new(Framing::Tcp);
        for _ in 0..3 {
            frames.ask(9, &REQUEST);
        }
        for (came, expected) in [
            (2, Stray::Late),
            (1, Stray::Late),
            (0, Stray::Transaction { asked: 0x0303, came: 0 }),
            (4, Stray::Transaction { asked: 0x0303, came: 0x0404 }),
        ] {
            assert_eq!(frames.take(&tcp(came, 9, &ANSWER)), None);
            assert_eq!(frames.stray(), Some(expected));
        }
        // All else is checked also where it is not.
        let mut frames = Frames::new(Framing::Unnumbered);
        frames.ask(9, &REQUEST);
        let strays = [tcp(0, 8, &ANSWER), tcp(0, 9, &[3, 2, 1, 1]), tcp(0, 9, &[4, 4, 1, 1, 1, 1])];
        assert_eq!(frames.take(&strays.concat()), None);
        assert_eq!(frames.take(&tcp(0, 9, &ANSWER)), Some(ANSWER.to_vec()));
    }

    #[test]
    fn a_request_goes_out_as_the_wire_has_it() {
        assert_eq!(Frames::new(Framing::Tcp).ask(9, &REQUEST), tcp(1, 9, &REQUEST));
        assert_eq!(Frames::new(Framing::Rtu).ask(9, &REQUEST), rtu(9, &REQUEST));
        // The example of the standard, section 6.2.2.
        assert!(is_whole(&[0x02, 0x07, 0x41, 0x12]));
    }

    #[test]
    fn an_answer_behind_something_else_was_never_seen() {
        let strays: [&[u8]; 6] = [
            &[],
            &[0xFF],
            &[0, 0, 0],
            &tcp(1, 9, &ANSWER),
            &rtu(8, &[4, 2, 1, 1]),
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ];
        for stray in strays {
            both(&REQUEST, |mut frames, wire| {
                let wire = [stray, &wire(9, &ANSWER)].concat();
                let (last, front) = wire.split_last().unwrap();
                for byte in front {
                    assert_eq!(frames.take(&[*byte]), None, "{stray:?}");
                }
                assert_eq!(frames.take(&[*last]), Some(ANSWER.to_vec()), "{stray:?}");
            });
        }
    }

    #[test]
    fn an_exception_is_an_answer() {
        both(&REQUEST, |mut frames, wire| {
            assert_eq!(frames.take(&wire(9, &[0x84, 2])), Some(vec![0x84, 2]));
        });
    }

    #[test]
    fn the_answer_to_another_question_was_taken_for_this_one() {
        let others: [(u8, &[u8], Stray); 4] = [
            (8, &[4, 2, 0, 0], Stray::Unit { asked: 9, came: 8 }),
            (9, &[3, 2, 0, 0], Stray::Function { asked: 4, came: 3 }),
            (9, &[4, 4, 0, 0, 0, 0], Stray::Extent),
            (9, &[0x83, 2], Stray::Function { asked: 4, came: 3 }),
        ];
        for (unit, answer, stray) in others {
            both(&REQUEST, |mut frames, wire| {
                assert_eq!(frames.take(&wire(unit, answer)), None);
                assert_eq!(frames.stray(), Some(stray));
            });
        }
    }

    #[test]
    fn a_flipped_bit_on_a_serial_line_made_another_value() {
        let whole = rtu(9, &ANSWER);
        for bit in 0..whole.len() * 8 {
            let mut wire = whole.clone();
            wire[bit / 8] ^= 1 << (bit % 8);
            let mut frames = Frames::new(Framing::Rtu);
            frames.ask(9, &REQUEST);
            assert_eq!(frames.take(&wire), None, "bit {bit}");
        }
    }

    #[test]
    fn a_write_is_confirmed_by_its_own_repetition_alone() {
        let single = [6, 0, 7, 0x12, 0x34];
        both(&single, |mut frames, wire| {
            assert_eq!(frames.take(&wire(9, &[6, 0, 7, 0x12, 0x35])), None);
            assert_eq!(frames.stray(), Some(Stray::Extent));
            assert_eq!(frames.take(&wire(9, &single)), Some(single.to_vec()));
        });
        let several = [16, 0, 7, 0, 2, 4, 1, 2, 3, 4];
        both(&several, |mut frames, wire| {
            assert_eq!(frames.take(&wire(9, &[16, 0, 7, 0, 1])), None);
            assert_eq!(frames.take(&wire(9, &several[..5])), Some(several[..5].to_vec()));
        });
    }

    #[test]
    fn an_adapter_that_hears_itself_confirmed_writes_and_gave_bits() {
        let mut frames = Frames::new(Framing::Rtu);
        // Twenty bits from 0x305 on: what is asked looks like an answer of three bytes.
        let bits = [1, 3, 5, 0, 20];
        let wire = frames.ask(9, &bits);
        assert_eq!(frames.take(&wire[..5]), None);
        assert_eq!(frames.take(&wire[5..]), None);
        assert_eq!(frames.stray(), Some(Stray::Echo));
        let answer = vec![1, 3, 0xAA, 0xBB, 0xC];
        assert_eq!(frames.take(&rtu(9, &answer)), Some(answer));
        // Now it is known, so a write is confirmed by the second.
        let write = [6, 0, 7, 0x12, 0x34];
        let wire = frames.ask(9, &write);
        assert_eq!(frames.take(&wire), None);
        assert_eq!(frames.take(&wire), Some(write.to_vec()));
        // Behind another adapter, by the first.
        frames.ask(9, &REQUEST);
        assert_eq!(frames.take(&rtu(9, &ANSWER)), Some(ANSWER.to_vec()));
        let wire = frames.ask(9, &write);
        assert_eq!(frames.take(&wire), Some(write.to_vec()));
    }

    #[test]
    fn what_a_device_says_of_itself_ends_where_its_objects_do() {
        let request = [43, 14, 1, 0];
        let answer = [&[43, 14, 1, 0x81, 0, 0, 2, 0, 3], &b"Acm"[..], &[1, 0]].concat();
        both(&request, |mut frames, wire| {
            let whole = wire(9, &answer);
            for byte in &whole[..whole.len() - 1] {
                assert_eq!(frames.take(&[*byte]), None);
            }
            assert_eq!(frames.take(&whole[whole.len() - 1..]), Some(answer.clone()));
        });
        // Objects that no frame has room for.
        both(&request, |mut frames, wire| {
            frames.take(&wire(9, &[43, 14, 1, 0x81, 0, 0, 255, 0, 255]));
            assert_eq!(frames.take(&wire(9, &[0xAB, 1])), Some(vec![0xAB, 1]));
        });
    }

    #[test]
    fn nothing_that_comes_unasked_is_kept() {
        let mut frames = Frames::new(Framing::Tcp);
        assert_eq!(frames.take(&tcp(1, 9, &ANSWER)), None);
        frames.ask(9, &REQUEST);
        assert_eq!(frames.take(&[]), None);
        assert_eq!(frames.stray(), None);
    }
}
