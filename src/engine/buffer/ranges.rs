//! A sorted set of sequence numbers, kept as ranges.

use std::ops::Range;

/// Ranges that do not touch each other, in order. None is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// How many ranges there are.
    pub fn pieces(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|range| range.start)
    }

    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|range| range.end - 1)
    }

    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|range| range.end <= number);
        self.0.get(at).is_some_and(|range| range.start <= number)
    }

    /// The first number that is not below another.
    pub fn next(&self, from: u64) -> Option<u64> {
        let at = self.0.partition_point(|range| range.end <= from);
        self.0.get(at).map(|range| range.start.max(from))
    }

    /// Whether taking a range out would leave more pieces.
    pub fn would_split(&self, gone: &Range<u64>) -> bool {
        self.0.iter().any(|range| range.start < gone.start && gone.end < range.end)
    }

    /// How many numbers of a range are in the set.
    pub fn count_in(&self, wanted: &Range<u64>) -> u64 {
        let shared = self.0.iter().map(|range| intersection(range, wanted));
        shared.map(|range| range.end.saturating_sub(range.start)).sum()
    }

    /// Adds a range behind all others.
    pub fn push(&mut self, range: Range<u64>) {
        match self.0.last_mut() {
            _ if range.is_empty() => (),
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => self.0.push(range),
        }
    }

    /// Takes a range out.
    pub fn remove(&mut self, gone: &Range<u64>) {
        let begin = self.0.partition_point(|range| range.end <= gone.start);
        let end = self.0.partition_point(|range| range.start < gone.end);
        if begin >= end || gone.is_empty() {
            return;
        }
        let before = self.0[begin].start..gone.start;
        let after = gone.end..self.0[end - 1].end;
        self.0.splice(begin..end, [before, after].into_iter().filter(|range| !range.is_empty()));
    }

    /// The numbers that are in one of these sets, or in several.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a Ranges>) -> Ranges {
        let mut all: Vec<Range<u64>> = sets.into_iter().flat_map(Ranges::iter).collect();
        all.sort_by_key(|range| range.start);
        let mut union = Ranges::default();
        all.into_iter().for_each(|range| union.push(range));
        union
    }

    /// The numbers that are not in another set.
    pub fn without(&self, other: &Ranges) -> Ranges {
        let mut rest = self.clone();
        other.iter().for_each(|range| rest.remove(&range));
        rest
    }

    /// Makes one of all ranges but the first ones, so that there are at most so many.
    pub fn merge_behind(&mut self, most: usize) {
        if let (Some(last), true) = (self.last(), self.0.len() > most) {
            self.0.truncate(most);
            self.0[most - 1].end = last + 1;
        }
    }

    /// Keeps what is below a number.
    pub fn keep_below(&mut self, end: u64) {
        self.remove(&(end..u64::MAX));
    }
}

fn intersection(left: &Range<u64>, right: &Range<u64>) -> Range<u64> {
    left.start.max(right.start)..left.end.min(right.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_is_gone_and_nothing_else() {
        #[track_caller]
        fn check(gone: Range<u64>, expected: &[Range<u64>]) {
            let mut ranges = Ranges::default();
            [2..5, 5..6, 8..10, 20..30].into_iter().for_each(|range| ranges.push(range));
            ranges.remove(&gone);
            assert_eq!(ranges.0, expected);
            for number in 0..35 {
                let was_in = (2..6).contains(&number)
                    || (8..10).contains(&number)
                    || (20..30).contains(&number);
                assert_eq!(ranges.contains(number), was_in && !gone.contains(&number), "{number}");
            }
        }
        check(0..0, &[2..6, 8..10, 20..30]);
        check(6..8, &[2..6, 8..10, 20..30]);
        check(3..4, &[2..3, 4..6, 8..10, 20..30]);
        check(2..6, &[8..10, 20..30]);
        check(5..21, &[2..5, 21..30]);
        check(0..100, &[]);
    }
}
