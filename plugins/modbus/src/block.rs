//! Runs of registers, and how the registers of a source are merged into few requests. Pure.

use std::fmt;

/// One of the four tables of a Modbus device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// How far reads may be merged.
#[derive(Clone, Copy, Debug)]
pub struct Merging {
    /// Registers that nobody asked for, read to save a request.
    pub max_gap: u16,
    /// The most registers in one request.
    pub max_registers: u16,
}

/// Which requests to make, and in which of their answers each wanted block stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    pub requests: Vec<Block>,
    /// The index of the request, for each wanted block.
    pub request_of: Vec<usize>,
}

/// Plans the requests for the `wanted` blocks, in the order of tables and addresses.
///
/// A wanted block is never split: half a float of one moment and half of the next is no float.
pub fn plan(wanted: &[Block], merging: Merging) -> Plan {
    let mut by_address: Vec<usize> = (0..wanted.len()).collect();
    by_address.sort_by_key(|&index| wanted[index]);

    let mut requests: Vec<Block> = Vec::new();
    let mut request_of = vec![0; wanted.len()];
    for index in by_address {
        let block = wanted[index];
        match requests.last().and_then(|last| merge(*last, block, merging)) {
            Some(merged) => *requests.last_mut().expect("it was just looked at") = merged,
            None => requests.push(block),
        }
        request_of[index] = requests.len() - 1;
    }
    Plan { requests, request_of }
}

/// One block that covers both, when that is allowed. `next` starts where `last` does or later.
fn merge(last: Block, next: Block, merging: Merging) -> Option<Block> {
    let end = last.end().max(next.end());
    let count = end - u32::from(last.start);
    let near = u32::from(next.start) <= last.end() + u32::from(merging.max_gap);
    let fits = count <= last.table.most_in_one_request(merging.max_registers);
    if last.table != next.table || !near || !fits {
        return None;
    }
    u16::try_from(count).ok().map(|count| Block { count, ..last })
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
    fn most_in_one_request(self, max_registers: u16) -> u32 {
        u32::from(max_registers) * if self.holds_bits() { 16 } else { 1 }
    }
}

impl Block {
    /// One behind the last address.
    pub fn end(self) -> u32 {
        u32::from(self.start) + u32::from(self.count)
    }

    /// Whether both hold some register.
    pub fn overlaps(self, other: Block) -> bool {
        self.table == other.table
            && u32::from(self.start) < other.end()
            && u32::from(other.start) < self.end()
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
mod tests {
    use super::*;

    /// Blocks are written `h10+2`: table, start and count.
    fn block(text: &str) -> Block {
        let table = match &text[..1] {
            "h" => Table::Holding,
            "i" => Table::Input,
            "c" => Table::Coil,
            _ => Table::Discrete,
        };
        let (start, count) = text[1..].split_once('+').unwrap();
        Block { table, start: start.parse().unwrap(), count: count.parse().unwrap() }
    }

    #[track_caller]
    fn check(wanted: &str, max_gap: u16, max_registers: u16, requests: &str, request_of: &[usize]) {
        let wanted: Vec<Block> = wanted.split_whitespace().map(block).collect();
        let requests: Vec<Block> = requests.split_whitespace().map(block).collect();
        let merging = Merging { max_gap, max_registers };
        assert_eq!(plan(&wanted, merging), Plan { requests, request_of: request_of.to_vec() });
    }

    #[test]
    fn neighbours_are_read_in_one_request() {
        check("h0+1", 0, 125, "h0+1", &[0]);
        check("h0+2 h2+2 h4+1", 0, 125, "h0+5", &[0, 0, 0]);
        check("h4+1 h0+2 h2+2", 0, 125, "h0+5", &[0, 0, 0]);
        check("c0+1 c1+1 d1+1", 0, 125, "c0+2 d1+1", &[0, 0, 1]);
    }

    #[test]
    fn a_hole_is_read_over_only_when_allowed() {
        check("h0+2 h3+1", 0, 125, "h0+2 h3+1", &[0, 1]);
        check("h0+2 h3+1", 1, 125, "h0+4", &[0, 0]);
        check("h0+1 h3+1 h6+1", 2, 125, "h0+7", &[0, 0, 0]);
        check("h0+1 h3+1 h7+1", 2, 125, "h0+4 h7+1", &[0, 0, 1]);
    }

    #[test]
    fn what_overlaps_is_read_once() {
        check("h0+4 h1+1 h2+4 h0+4", 0, 125, "h0+6", &[0, 0, 0, 0]);
        check("h10+4 h10+1", 0, 125, "h10+4", &[0, 0]);
    }

    #[test]
    fn tables_are_never_mixed() {
        check("i0+1 h1+1 c2+1 d3+1", 100, 125, "h1+1 i0+1 c2+1 d3+1", &[1, 0, 2, 3]);
    }

    #[test]
    fn a_request_never_asks_for_more_than_allowed() {
        check("h0+2 h2+2 h4+2", 0, 4, "h0+4 h4+2", &[0, 0, 1]);
        check("h0+100 h100+25 h125+1", 0, 125, "h0+125 h125+1", &[0, 0, 1]);
        check("h0+3 h2+3", 0, 4, "h0+3 h2+3", &[0, 1]);
        check("c0+1 c1999+1 c2000+1", 1998, 125, "c0+2000 c2000+1", &[0, 0, 1]);
        check("c0+1 c16+1", 15, 1, "c0+1 c16+1", &[0, 1]);
    }

    #[test]
    fn a_wanted_block_is_never_split() {
        check("h0+1 h1+4", 0, 2, "h0+1 h1+4", &[0, 1]);
    }

    #[test]
    fn the_end_of_the_address_space_is_no_overflow() {
        check("h65534+2 h65535+1", 125, 125, "h65534+2", &[0, 0]);
        assert_eq!(block("h65534+2").to_string(), "holding registers 65534 to 65535");
        assert_eq!(block("c65535+1").to_string(), "coil 65535");
    }

    #[test]
    fn a_part_is_found_in_its_request() {
        assert_eq!(block("h10+6").position_of(block("h12+2")), 2..4);
    }
}
