//! Tables of registers, and runs of them. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the four tables of a Modbus device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Table {
    Holding,
    Input,
    Coil,
    Discrete,
}

/// Registers (or coils) that stand one behind the other. `start + count` is at most 65536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    pub table: Table,
    pub start: u16,
    pub count: u16,
}

impl Table {
    /// One register, as users call it.
    pub fn noun(self) -> &'static str {
        match self {
            Table::Holding => "holding register",
            Table::Input => "input register",
            Table::Coil => "coil",
            Table::Discrete => "discrete input",
        }
    }

    /// Whether a device takes values for it.
    pub fn is_writable(self) -> bool {
        matches!(self, Table::Holding | Table::Coil)
    }

    /// The function that reads it (MODBUS Application Protocol V1.1b3, sections 6.1 to 6.4).
    pub fn read_function(self) -> u8 {
        match self {
            Table::Coil => 1,
            Table::Discrete => 2,
            Table::Holding => 3,
            Table::Input => 4,
        }
    }

    /// Whether an entry is a single bit and not a register of 16.
    pub fn holds_bits(self) -> bool {
        matches!(self, Table::Coil | Table::Discrete)
    }

    /// Sixteen bits fill a register, so the protocol's 125 registers and 2000 bits are one limit.
    pub fn most_in_one_request(self, max_registers: u16) -> u32 {
        u32::from(max_registers) * if self.holds_bits() { 16 } else { 1 }
    }
}

impl Block {
    /// One behind the last address.
    pub fn end(self) -> u32 {
        u32::from(self.start) + u32::from(self.count)
    }

    /// How many bytes its values take in an answer.
    pub fn value_bytes(self) -> u64 {
        let count = u64::from(self.count);
        if self.table.holds_bits() { count.div_ceil(8) } else { count * 2 }
    }

    /// Whether both hold some register.
    pub fn overlaps(self, other: Block) -> bool {
        self.table == other.table
            && u32::from(self.start) < other.end()
            && u32::from(other.start) < self.end()
    }

    /// Whether all of another one is in it.
    pub fn holds(self, part: Block) -> bool {
        self.table == part.table && self.start <= part.start && part.end() <= self.end()
    }

    /// Where `part` stands within this block.
    pub fn position_of(self, part: Block) -> std::ops::Range<usize> {
        let from = usize::from(part.start.saturating_sub(self.start));
        from..from + usize::from(part.count)
    }
}

impl fmt::Display for Block {
    /// As in `input registers 0 to 11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = self.table.noun();
        match self.count {
            0 | 1 => write!(f, "{noun} {}", self.start),
            _ => write!(f, "{noun}s {} to {}", self.start, self.end() - 1),
        }
    }
}

#[cfg(test)]
impl Block {
    /// For tests: `h10+2` is table, start and count.
    pub fn written(text: &str) -> Block {
        let table = match &text[..1] {
            "h" => Table::Holding,
            "i" => Table::Input,
            "c" => Table::Coil,
            _ => Table::Discrete,
        };
        let (start, count) = text[1..].split_once('+').unwrap();
        Block { table, start: start.parse().unwrap(), count: count.parse().unwrap() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_address_space_is_no_overflow() {
        assert_eq!(Block::written("h65534+2").to_string(), "holding registers 65534 to 65535");
        assert_eq!(Block::written("c65535+1").to_string(), "coil 65535");
    }

    #[test]
    fn a_part_is_found_in_its_request() {
        assert_eq!(Block::written("h10+6").position_of(Block::written("h12+2")), 2..4);
    }
}
