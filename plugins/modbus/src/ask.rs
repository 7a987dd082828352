//! What a device can be asked, and how that is said (MODBUS Application Protocol V1.1b3, section 6).

use std::fmt;

use crate::block::{Block, Table};

/// The most registers that one request writes (section 6.12), and sixteen coils for each.
pub const MOST_WRITTEN: usize = 123;
/// The most registers that one request writes and then reads (section 6.17).
pub const MOST_EXCHANGED: usize = 121;

/// What a device is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Read(Block),
    Write(Write),
    /// Function 43: what it says of itself, from an object on.
    Identify {
        level: Level,
        from: u8,
    },
    /// Function 23: writes 1 to 121 registers from `at` on, and then reads 1 to 125.
    Exchange {
        read: Block,
        at: u16,
        values: Vec<u16>,
    },
}

/// How much a device is asked to say of itself (section 6.21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Who made it, what it is, its version.
    Basic = 1,
    /// Also its names.
    Regular = 2,
}

/// What is written where. Addresses are those of the protocol, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Function 5.
    Coil(u16, bool),
    /// Function 6.
    Register(u16, u16),
    /// Function 15: 1 to 1968 coils from an address on.
    Coils(u16, Vec<bool>),
    /// Function 16: 1 to 123 registers from an address on.
    Registers(u16, Vec<u16>),
    /// Function 22: the bits of `mask` become those of `bits`, the others stay.
    Bits { register: u16, mask: u16, bits: u16 },
}

/// What tells the answers to two requests apart on a wire without transaction ids: the function, and
/// how long the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub function: u8,
    /// In bytes behind the function; what is written is repeated, so that tells itself apart.
    length: u64,
}

impl Ask {
    /// The request, from its function code on.
    pub fn request(&self) -> Vec<u8> {
        match self {
            Ask::Read(Block { table, start, count }) => {
                request(table.read_function(), &[*start, *count], &[])
            }
            Ask::Write(Write::Coil(at, on)) => {
                request(5, &[*at, if *on { 0xFF00 } else { 0 }], &[])
            }
            Ask::Write(Write::Register(at, value)) => request(6, &[*at, *value], &[]),
            Ask::Write(Write::Coils(at, coils)) => {
                let pack = |coils: &[bool]| {
                    coils.iter().rev().fold(0, |byte, coil| byte << 1 | u8::from(*coil))
                };
                let bytes: Vec<u8> = coils.chunks(8).map(pack).collect();
                request(15, &[*at, coils.len() as u16], &bytes)
            }
            Ask::Write(Write::Registers(at, values)) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
                request(16, &[*at, values.len() as u16], &bytes)
            }
            Ask::Write(Write::Bits { register, mask, bits }) => {
                request(22, &[*register, !mask, bits & mask], &[])
            }
            Ask::Exchange { read, at, values } => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
                request(23, &[read.start, read.count, *at, values.len() as u16], &bytes)
            }
            // 14 is that of identification, of all that is encapsulated.
            Ask::Identify { level, from } => vec![43, 14, *level as u8, *from],
        }
    }

    /// What it reads.
    pub fn reads(&self) -> Option<Block> {
        match self {
            Ask::Read(block) | Ask::Exchange { read: block, .. } => Some(*block),
            Ask::Write(_) | Ask::Identify { .. } => None,
        }
    }

    /// What it writes.
    pub fn writes(&self) -> Option<Block> {
        match self {
            Ask::Read(_) | Ask::Identify { .. } => None,
            Ask::Write(write) => Some(write.block()),
            Ask::Exchange { at, values, .. } => Some(block(Table::Holding, *at, values.len())),
        }
    }

    /// Whether asking twice is as asking once.
    pub fn is_read(&self) -> bool {
        matches!(self, Ask::Read(_) | Ask::Identify { .. })
    }

    /// What its answer looks like.
    pub fn shape(&self) -> Shape {
        let request = self.request();
        let length = match self {
            Ask::Read(block) | Ask::Exchange { read: block, .. } => block.value_bytes(),
            Ask::Write(_) | Ask::Identify { .. } => 0,
        };
        Shape { function: request[0], length }
    }

    /// A read whose answer looks unlike any of these. A device answers in the order in which it was
    /// asked, so once this one is answered, none of the others' answers is still to come.
    pub fn unlike(&self, shapes: &[Shape]) -> Option<Ask> {
        let at = match self {
            Ask::Read(block) | Ask::Exchange { read: block, .. } => *block,
            Ask::Write(_) | Ask::Identify { .. } => {
                Block { table: Table::Holding, start: 0, count: 1 }
            }
        };
        let fewer = (1..at.count).rev().map(|count| Block { count, ..at });
        let more = (at.end() < 0x1_0000).then_some(Block { count: at.count + 1, ..at });
        let tables = [Table::Holding, Table::Input, Table::Coil, Table::Discrete];
        let others = tables.into_iter().map(|table| Block { table, count: 1, ..at });
        fewer
            .chain(more.filter(|_| at.count == 1))
            .chain(others)
            .map(Ask::Read)
            .find(|ask| !shapes.contains(&ask.shape()))
    }
}

impl Write {
    /// What it is about.
    fn block(&self) -> Block {
        match self {
            Write::Coil(at, _) => block(Table::Coil, *at, 1),
            Write::Coils(at, coils) => block(Table::Coil, *at, coils.len()),
            Write::Register(at, _) | Write::Bits { register: at, .. } => {
                block(Table::Holding, *at, 1)
            }
            Write::Registers(at, values) => block(Table::Holding, *at, values.len()),
        }
    }
}

fn block(table: Table, start: u16, count: usize) -> Block {
    Block { table, start, count: count as u16 }
}

fn request(function: u8, words: &[u16], bytes: &[u8]) -> Vec<u8> {
    let mut request = vec![function];
    request.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    if !bytes.is_empty() {
        request.push(bytes.len() as u8);
        request.extend_from_slice(bytes);
    }
    request
}

impl fmt::Display for Ask {
    /// As in `reading input registers 0 to 11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Read(read) => write!(f, "reading {read}"),
            Ask::Write(write) => write!(f, "writing {}", write.block()),
            Ask::Exchange { read, at, values } => {
                let written = block(Table::Holding, *at, values.len());
                write!(f, "writing {written} and reading {read}")
            }
            Ask::Identify { .. } => f.write_str("reading the identification"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the standard, sections 6.1 to 6.17.
    #[test]
    fn requests_are_those_of_the_standard() {
        let read = |table, start, count| Ask::Read(Block { table, start, count });
        for (ask, request) in [
            (read(Table::Coil, 0x13, 0x13), vec![1, 0, 0x13, 0, 0x13]),
            (read(Table::Discrete, 0xC4, 0x16), vec![2, 0, 0xC4, 0, 0x16]),
            (read(Table::Holding, 0x6B, 3), vec![3, 0, 0x6B, 0, 3]),
            (read(Table::Input, 8, 1), vec![4, 0, 8, 0, 1]),
            (Ask::Write(Write::Coil(0xAC, true)), vec![5, 0, 0xAC, 0xFF, 0]),
            (Ask::Write(Write::Register(1, 3)), vec![6, 0, 1, 0, 3]),
            (
                Ask::Write(Write::Registers(1, vec![10, 0x102])),
                vec![16, 0, 1, 0, 2, 4, 0, 10, 1, 2],
            ),
        ] {
            assert_eq!(ask.request(), request, "{ask}");
        }
        // 1100 1101 and 01, the lowest coil in the lowest bit.
        let coils = [true, false, true, true, false, false, true, true, true, false];
        let request = Ask::Write(Write::Coils(0x13, coils.to_vec())).request();
        assert_eq!(request, [15, 0, 0x13, 0, 10, 2, 0xCD, 1]);
        // The standard's AND mask 0xF2 and OR mask 0x25, whose bit 0x20 the AND mask keeps.
        let ask = Ask::Write(Write::Bits { register: 4, mask: 0xFF0D, bits: 5 });
        assert_eq!(ask.request(), [22, 0, 4, 0, 0xF2, 0, 5]);
        let read = Block { table: Table::Holding, start: 3, count: 6 };
        let ask = Ask::Exchange { read, at: 14, values: vec![0xFF; 3] };
        let request = [23, 0, 3, 0, 6, 0, 14, 0, 3, 6, 0, 0xFF, 0, 0xFF, 0, 0xFF];
        assert_eq!(ask.request(), request);
        let ask = Ask::Identify { level: Level::Basic, from: 0 };
        assert_eq!(ask.request(), [0x2B, 0x0E, 1, 0]);
    }

    #[test]
    fn what_clears_the_line_looks_unlike_what_is_still_to_come() {
        let ask = Ask::Read(Block { table: Table::Input, start: 7, count: 2 });
        let mut shapes = vec![ask.shape()];
        for expected in ["input register 7", "holding register 7", "coil 7", "discrete input 7"] {
            let other = ask.unlike(&shapes).unwrap();
            assert_eq!(other.to_string(), format!("reading {expected}"));
            shapes.push(other.shape());
        }
        assert_eq!(ask.unlike(&shapes), None);
    }
}
