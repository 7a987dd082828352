//! By which requests the wanted registers are read, for the least time on the bus. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::block::{Block, Table};

/// How far reads may be merged.
#[derive(Clone, Copy, Debug)]
pub struct Merging {
    /// The most registers that nobody asked for, read to save a request. None for as many as pay.
    pub max_gap: Option<u16>,
    /// The most registers in one request.
    pub max_registers: u16,
    /// Each value in a request of its own.
    pub one_by_one: bool,
    /// Coils and discrete inputs in requests that begin at 0.
    pub bits_from_zero: bool,
}

/// How far the reads of a node may be merged, with what its device refuses.
#[derive(Clone, Debug)]
pub struct Limits {
    pub merging: Merging,
    pub refused: Vec<Refused>,
}

/// Registers that a device does not answer for: no request reads over them. An empty range is a place
/// that no request crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refused {
    pub table: Table,
    pub start: u32,
    /// One behind the last.
    pub end: u32,
}

/// A request, and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub block: Block,
    /// Different blocks, in order.
    pub wanted: Vec<Block>,
}

/// The requests that read all `wanted` blocks at the least cost, in the order of tables and addresses.
/// (Where blocks overlap, at the least of those in which each request goes on where the last one began.)
///
/// A wanted block is never split: half a float of one moment and half of the next is no float.
pub fn plan(wanted: &[Block], limits: &Limits, cost: impl Fn(Block) -> Duration) -> Vec<Request> {
    let Limits { merging, refused } = limits;
    let mut blocks = wanted.to_vec();
    blocks.sort_unstable();
    blocks.dedup();
    // For each number of blocks from the front on, what reading them costs at least, and where the last
    // of its requests begins.
    let mut best: Vec<(Duration, usize)> = vec![(Duration::ZERO, 0)];
    for last in 0..blocks.len() {
        let mut cheapest = (Duration::MAX, last);
        for first in (0..=last).rev() {
            let run = &blocks[first..=last];
            if run.len() > 1 && !is_allowed(run, *merging, refused) {
                // A longer one holds what this one must not; only its end may yet be another.
                if run[0].table != run[run.len() - 1].table || is_too_long(run, *merging) {
                    break;
                }
                continue;
            }
            let total = best[first].0.saturating_add(cost(merging.cover(run)));
            cheapest = cheapest.min((total, first));
        }
        best.push(cheapest);
    }
    let mut requests = Vec::new();
    let mut end = blocks.len();
    while end > 0 {
        let first = best[end].1;
        let wanted = &blocks[first..end];
        requests.push(Request { block: merging.cover(wanted), wanted: wanted.to_vec() });
        end = first;
    }
    requests.reverse();
    requests
}

/// Whether several blocks may be read by one request.
fn is_allowed(run: &[Block], merging: Merging, refused: &[Refused]) -> bool {
    let whole = merging.cover(run);
    let mut end = run[0].end();
    let gaps_are_small = run.iter().all(|block| {
        let gap = u32::from(block.start).saturating_sub(end);
        end = end.max(block.end());
        merging.max_gap.is_none_or(|most| gap <= most.into())
    });
    !merging.one_by_one
        && run.iter().all(|block| block.table == whole.table)
        && !is_too_long(run, merging)
        && gaps_are_small
        && !refused.iter().any(|refused| refused.is_in(whole))
}

fn is_too_long(run: &[Block], merging: Merging) -> bool {
    let whole = merging.cover(run);
    whole.end() - u32::from(whole.start) > whole.table.most_in_one_request(merging.max_registers)
}

/// The block from the first to the last of these, which are of one table and in order.
fn cover(blocks: &[Block]) -> Block {
    let first = blocks[0];
    let end = blocks.iter().map(|block| block.end()).max().unwrap_or_default();
    Block { count: u16::try_from(end - u32::from(first.start)).unwrap_or(u16::MAX), ..first }
}

/// This block, begun at another address in front of its own.
fn begun_at(start: u16, block: Block) -> Block {
    Block { start, count: block.count.saturating_add(block.start - start), ..block }
}

impl Merging {
    /// The block that is read for these, which are of one table and in order.
    pub fn cover(&self, blocks: &[Block]) -> Block {
        let block = cover(blocks);
        if self.bits_from_zero && block.table.holds_bits() { begun_at(0, block) } else { block }
    }
}

impl Limits {
    /// Of a device that refuses nothing.
    pub fn of(merging: Merging) -> Limits {
        Limits { merging, refused: Vec::new() }
    }

    /// The request that reads both blocks, should it be allowed and cost less than two.
    pub fn join(&self, a: Block, b: Block, cost: impl Fn(Block) -> Duration) -> Option<Block> {
        let run = [a.min(b), a.max(b)];
        let is_allowed = is_allowed(&run, self.merging, &self.refused);
        let whole = is_allowed.then(|| cover(&run))?;
        (cost(whole) < cost(a) + cost(b)).then_some(whole)
    }
}

impl Request {
    /// Two requests for what a device refused to answer at once, and what it is that it may have
    /// refused: what stands between the two. None when one value is wanted, or several that overlap.
    pub fn halves(&self) -> Option<(Request, Request, Refused)> {
        let middle = self.wanted.len() / 2;
        let seams = self.seams().into_iter();
        let (at, between) = seams.min_by_key(|(at, _)| at.abs_diff(middle))?;
        let (front, back) = self.wanted.split_at(at);
        Some((self.part(front), self.part(back), between))
    }

    /// The requests for what a device does not answer at once, and what stands between them. They read over
    /// no hole, or one value each when there is none. None when one value is wanted, or several that overlap.
    pub fn parts(&self) -> Option<(Vec<Request>, Vec<Refused>)> {
        let seams = self.seams();
        let is_hole = |(_, between): &&(usize, Refused)| between.start < between.end;
        let holes: Vec<_> = seams.iter().filter(is_hole).copied().collect();
        let seams = if holes.is_empty() { seams } else { holes };
        let ends = seams.iter().map(|(at, _)| *at).chain([self.wanted.len()]);
        let mut parts = Vec::with_capacity(seams.len() + 1);
        let mut start = 0;
        for end in ends {
            parts.push(self.part(&self.wanted[start..end]));
            start = end;
        }
        let between = seams.into_iter().map(|(_, between)| between);
        (parts.len() > 1).then(|| (parts, between.collect()))
    }

    /// Where it can be parted without splitting a value: in front of which of the wanted, and what stands
    /// between.
    fn seams(&self) -> Vec<(usize, Refused)> {
        let table = self.block.table;
        let mut end = 0;
        let mut seams = Vec::new();
        for (at, block) in self.wanted.iter().enumerate() {
            let start = u32::from(block.start);
            if at > 0 && end <= start {
                seams.push((at, Refused { table, start: end, end: start }));
            }
            end = end.max(block.end());
        }
        seams
    }

    /// A request for some of what is wanted. It begins in front of that when this one does.
    fn part(&self, wanted: &[Block]) -> Request {
        let block = cover(wanted);
        let is_begun_before = self.block.start < self.wanted[0].start;
        let block = if is_begun_before { begun_at(self.block.start, block) } else { block };
        Request { block, wanted: wanted.to_vec() }
    }
}

impl Refused {
    /// Of a block that is refused for itself.
    pub fn of(block: Block) -> Refused {
        Refused { table: block.table, start: block.start.into(), end: block.end() }
    }

    /// Whether a request would read it, or cross it.
    pub fn is_in(self, request: Block) -> bool {
        let (start, end) = (u32::from(request.start), request.end());
        let Refused { table, start: first, end: last } = self;
        let overlaps =
            if first == last { start < first && first < end } else { start < last && first < end };
        table == request.table && overlaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Vec<Block> {
        text.split_whitespace().map(Block::written).collect()
    }

    /// A request costs as much as ten registers.
    fn cost(block: Block) -> Duration {
        Duration::from_millis(10 + u64::from(block.count))
    }

    const FREE: Merging =
        Merging { max_gap: None, max_registers: 125, one_by_one: false, bits_from_zero: false };

    fn merging(max_gap: u16, max_registers: u16) -> Merging {
        Merging { max_gap: Some(max_gap), max_registers, ..FREE }
    }

    fn request(text: &str) -> Request {
        let wanted = blocks(text);
        Request { block: cover(&wanted), wanted }
    }

    #[track_caller]
    fn check(wanted: &str, merging: Merging, refused: &[Refused], requests: &str) {
        let planned = plan(&blocks(wanted), &Limits { merging, refused: refused.to_vec() }, cost);
        let planned: Vec<Block> = planned.iter().map(|request| request.block).collect();
        assert_eq!(planned, blocks(requests), "{wanted}");
    }

    #[test]
    fn neighbours_are_read_in_one_request() {
        check("h0+1", FREE, &[], "h0+1");
        check("h4+1 h0+2 h2+2", merging(0, 125), &[], "h0+5");
        check("c0+1 c1+1 d1+1", merging(0, 125), &[], "c0+2 d1+1");
        check("i0+1 h1+1 c2+1 d3+1", FREE, &[], "h1+1 i0+1 c2+1 d3+1");
    }

    #[test]
    fn a_hole_is_read_over_where_that_is_cheaper_and_allowed() {
        check("h0+2 h12+1", FREE, &[], "h0+13");
        check("h0+2 h13+1", FREE, &[], "h0+2 h13+1");
        check("h0+2 h3+1", merging(0, 125), &[], "h0+2 h3+1");
        check("h0+2 h3+1", merging(1, 125), &[], "h0+4");
        check("h0+1 h3+1 h7+1", merging(2, 125), &[], "h0+4 h7+1");
        let one_by_one = Merging { one_by_one: true, ..FREE };
        check("h0+1 h1+1 h1+1", one_by_one, &[], "h0+1 h1+1");
    }

    #[test]
    fn what_overlaps_is_read_once() {
        check("h0+4 h1+1 h2+4 h0+4", merging(0, 125), &[], "h0+6");
        check("h10+4 h10+1", merging(0, 125), &[], "h10+4");
    }

    #[test]
    fn a_request_never_asks_for_more_than_allowed() {
        check("h0+2 h2+2 h4+2", merging(0, 4), &[], "h0+2 h2+4");
        check("h0+100 h100+25 h125+1", merging(0, 125), &[], "h0+100 h100+26");
        check("h0+3 h2+3", merging(0, 4), &[], "h0+3 h2+3");
        check("c0+1 c1999+1 c2000+1", FREE, &[], "c0+1 c1999+2");
        check("h0+1 h1+4", merging(0, 2), &[], "h0+1 h1+4");
        check("h65534+2 h65535+1", FREE, &[], "h65534+2");
    }

    #[test]
    fn what_a_device_refuses_is_not_read_over() {
        let hole = Refused { table: Table::Holding, start: 2, end: 4 };
        check("h0+2 h4+1", FREE, &[hole], "h0+2 h4+1");
        check("i0+2 i4+1", FREE, &[hole], "i0+5");
        let itself = Refused::of(Block::written("h1+1"));
        check("h0+1 h1+1 h2+1", FREE, &[itself], "h0+1 h1+1 h2+1");
        let border = Refused { table: Table::Holding, start: 2, end: 2 };
        check("h0+2 h2+2", FREE, &[border], "h0+2 h2+2");
    }

    #[test]
    fn a_refused_request_is_asked_in_halves_until_one_value_is_left() {
        let (front, back, between) = request("h0+2 h2+2 h7+1").halves().unwrap();
        assert_eq!((front, back), (request("h0+2"), request("h2+2 h7+1")));
        assert_eq!((between.start, between.end), (2, 2));
        let (_, _, between) = request("h2+2 h7+1").halves().unwrap();
        assert_eq!((between.start, between.end), (4, 7));
        assert_eq!(request("h2+2").halves(), None);
        assert_eq!(request("h0+4 h1+1").halves(), None);
    }

    /// Some devices answer other requests for bits with those of the byte in which the first stands.
    #[test]
    fn bits_that_a_device_only_answers_right_from_zero_on_were_those_of_others() {
        let from_zero = Merging { bits_from_zero: true, ..FREE };
        check("c4+1 c7+1 d1000+1 h4+1", from_zero, &[], "h4+1 c0+8 d0+1001");
        check("c1990+1 c2010+1 c9+1", from_zero, &[], "c0+1991 c0+2011");
        let one_by_one = Merging { one_by_one: true, ..from_zero };
        check("c4+1 c7+1", one_by_one, &[], "c0+5 c0+8");
        let limits = Limits::of(from_zero);
        let planned = plan(&blocks("c4+1 c7+1 c9+1"), &limits, cost);
        let (front, back, _) = planned[0].halves().unwrap();
        assert_eq!([front.block, back.block], *blocks("c0+5 c0+10"));
    }

    #[test]
    fn a_request_without_an_answer_is_parted_at_its_holes_and_else_between_its_values() {
        let parts = |text: &str| {
            let (parts, between) = request(text).parts()?;
            let parts: Vec<Block> = parts.iter().map(|part| part.block).collect();
            Some((parts, between.iter().map(|hole| (hole.start, hole.end)).collect::<Vec<_>>()))
        };
        let expected = (blocks("h0+4 h7+1 h9+1"), vec![(4, 7), (8, 9)]);
        assert_eq!(parts("h0+2 h2+2 h7+1 h9+1"), Some(expected));
        assert_eq!(parts("h0+2 h2+2 h4+1"), Some((blocks("h0+2 h2+2 h4+1"), vec![(2, 2), (4, 4)])));
        assert_eq!(parts("h0+4 h1+1 h4+1"), Some((blocks("h0+4 h4+1"), vec![(4, 4)])));
        assert_eq!(parts("h0+4 h1+1"), None);
        assert_eq!(parts("h0+4"), None);
    }

    /// Every way to put blocks into groups.
    fn partitions(blocks: &[Block]) -> Vec<Vec<Vec<Block>>> {
        let Some((first, rest)) = blocks.split_first() else { return vec![vec![]] };
        let mut all = Vec::new();
        for groups in partitions(rest) {
            for index in 0..groups.len() {
                let mut with = groups.clone();
                with[index].insert(0, *first);
                all.push(with);
            }
            let mut alone = groups.clone();
            alone.insert(0, vec![*first]);
            all.push(alone);
        }
        all
    }

    #[test]
    fn no_other_way_to_ask_is_cheaper() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..3000 {
            let count = random.usize(1..7);
            let mut end = 0;
            let mut wanted: Vec<Block> = (0..count)
                .map(|_| {
                    let table = if random.u8(0..4) == 0 { Table::Input } else { Table::Holding };
                    let (start, count) = (end + random.u16(0..12), random.u16(1..5));
                    end = start + count;
                    Block { table, start, count }
                })
                .collect();
            random.shuffle(&mut wanted);
            let merging = Merging {
                max_gap: random.bool().then(|| random.u16(0..20)),
                max_registers: random.u16(4..30),
                ..FREE
            };
            let refused: Vec<Refused> = (0..random.usize(0..3))
                .map(|_| {
                    let start = random.u32(0..40);
                    Refused { table: Table::Holding, start, end: start + random.u32(0..3) }
                })
                .collect();
            let planned = plan(&wanted, &Limits { merging, refused: refused.clone() }, cost);
            for request in &planned {
                let fine =
                    request.wanted.len() == 1 || is_allowed(&request.wanted, merging, &refused);
                assert!(fine, "round {round}: {request:?}");
            }
            for block in &wanted {
                let is_read = planned.iter().any(|request| request.wanted.contains(block));
                assert!(is_read, "round {round}: {block}");
            }
            let price = |groups: &[Vec<Block>]| -> Duration {
                groups.iter().map(|group| cost(cover(group))).sum()
            };
            wanted.sort_unstable();
            wanted.dedup();
            let allowed = |groups: &Vec<Vec<Block>>| {
                let fine =
                    |group: &Vec<Block>| group.len() == 1 || is_allowed(group, merging, &refused);
                groups.iter().all(fine)
            };
            let cheapest = partitions(&wanted)
                .iter()
                .filter(|groups| allowed(groups))
                .map(|groups| price(groups))
                .min();
            let ours: Duration = planned.iter().map(|request| cost(request.block)).sum();
            assert_eq!(Some(ours), cheapest, "round {round}: {wanted:?} {merging:?} {refused:?}");
        }
    }
}
