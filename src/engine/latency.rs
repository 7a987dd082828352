//! How long messages take from their source to the other side of a sink: a histogram of a fixed size, by whose
//! buckets percentiles are told to within an eighth.

use std::time::Duration;

/// Each doubling is split into so many buckets.
const PARTS: u64 = 4;
/// What is told apart is 2^-20 s, about a microsecond; from 2^17 s on, a day and a half, all is one.
const UNIT_LOG2: u32 = 20;
const MOST_UNITS: u64 = (1 << 37) - 1;
const BUCKETS: usize = 144;
/// What is counted since the start has fewer buckets, each four times as long as the one before. The first ends at
/// 2^-9 s, about two milliseconds; the last has no end.
const COARSE: usize = 14;
const FINE_IN_COARSE: usize = 8;
const SHORTEST_COARSE: usize = 4;
/// A minute, when samples are taken every ten seconds.
const SAMPLES_IN_SPAN: u8 = 6;

/// The times that messages took.
pub(super) struct Latency {
    /// Of the span of a minute that runs, and of the one before.
    now: [u32; BUCKETS],
    before: [u32; BUCKETS],
    samples: u8,
    /// Since the start.
    all: [u64; COARSE],
    sum: Duration,
}

/// So many percent of the messages of the last minute or two took no longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
}

/// How many messages took how long since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The most seconds of each bucket, and how many took so long and longer than the bucket before allows.
    pub buckets: Vec<(f64, u64)>,
    /// Of all times.
    pub sum: Duration,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency {
            now: [0; BUCKETS],
            before: [0; BUCKETS],
            samples: 0,
            all: [0; COARSE],
            sum: Duration::ZERO,
        }
    }
}

impl Latency {
    /// A message took so long.
    pub(super) fn add(&mut self, took: Duration) {
        let bucket = bucket(took);
        self.now[bucket] = self.now[bucket].saturating_add(1);
        let coarse = (bucket / FINE_IN_COARSE).saturating_sub(SHORTEST_COARSE);
        self.all[coarse.min(COARSE - 1)] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// To be called every ten seconds.
    pub(super) fn sample(&mut self) {
        self.samples += 1;
        if self.samples == SAMPLES_IN_SPAN {
            self.samples = 0;
            self.before = std::mem::replace(&mut self.now, [0; BUCKETS]);
        }
    }

    /// None when no message came lately.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let count = |bucket: usize| u64::from(self.now[bucket]) + u64::from(self.before[bucket]);
        let all: u64 = (0..BUCKETS).map(count).sum();
        let at = |percent: u64| {
            let mut left = (all * percent).div_ceil(100);
            let found = (0..BUCKETS).find(|bucket| {
                let is_here = count(*bucket) >= left;
                left = left.saturating_sub(count(*bucket));
                is_here
            });
            middle(found.unwrap_or(BUCKETS - 1))
        };
        (all > 0).then(|| Percentiles { p50: at(50), p90: at(90), p99: at(99) })
    }

    pub(super) fn histogram(&self) -> Histogram {
        let bounds = (0..).map(|at| 4_f64.powi(at) / 512.0);
        let bounds = bounds.take(COARSE - 1).chain([f64::INFINITY]);
        Histogram { buckets: bounds.zip(self.all).collect(), sum: self.sum }
    }
}

fn bucket(took: Duration) -> usize {
    let units = (took.as_nanos() << UNIT_LOG2) / 1_000_000_000;
    let units = u64::try_from(units).unwrap_or(MOST_UNITS).min(MOST_UNITS);
    let bucket = match units.checked_ilog2() {
        Some(doublings @ 2..) => {
            let part = (units >> (doublings - 2)) % PARTS;
            u64::from(doublings - 1) * PARTS + part
        }
        _ => units,
    };
    bucket as usize
}

/// Where a bucket begins, in units.
fn begins(bucket: usize) -> u64 {
    let (doublings, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    match doublings {
        0 => part,
        more => (PARTS + part) << (more - 1),
    }
}

fn middle(bucket: usize) -> Duration {
    let units = (begins(bucket) + begins(bucket + 1)) as f64 / 2.0;
    Duration::from_secs_f64(units / f64::from(1 << UNIT_LOG2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near_to_what_was_counted() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentiles(), None);
        for took in (1..=1000).map(Duration::from_millis) {
            latency.add(took);
        }
        let Percentiles { p50, p90, p99 } = latency.percentiles().unwrap();
        for (told, is) in [(p50, 0.5), (p90, 0.9), (p99, 0.99)] {
            let told = told.as_secs_f64();
            assert!((told - is).abs() <= is / 8.0, "{told} for {is}");
        }
    }

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        for at in 0..BUCKETS {
            let time = |units: u64| {
                let nanos = (u128::from(units) * 1_000_000_000).div_ceil(1 << UNIT_LOG2);
                Duration::from_nanos(u64::try_from(nanos).unwrap())
            };
            assert_eq!(bucket(time(begins(at))), at);
            assert_eq!(bucket(time(begins(at + 1) - 1)), at);
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_histogram_counts_each_once_below_its_bound() {
        let mut latency = Latency::default();
        let times = [0.0, 0.001, 0.4, 0.6, 1.9, 2.1, 1e9].map(Duration::from_secs_f64);
        times.iter().for_each(|time| latency.add(*time));
        let Histogram { buckets, sum } = latency.histogram();
        let below = |most: f64| -> u64 {
            buckets.iter().filter(|(bound, _)| *bound <= most).map(|(_, count)| count).sum()
        };
        let bounds = [0.001953125, 0.5, 2.0, 8.0, 32768.0, f64::INFINITY];
        assert_eq!(bounds.map(below), [2, 3, 5, 6, 6, 7]);
        assert_eq!(sum, times.iter().sum());
    }

    #[test]
    fn what_is_older_than_two_minutes_is_not_in_the_percentiles() {
        let mut latency = Latency::default();
        latency.add(Duration::from_secs(1));
        (0..11).for_each(|_| latency.sample());
        assert!(latency.percentiles().is_some());
        latency.sample();
        assert_eq!(latency.percentiles(), None);
        assert_eq!(latency.histogram().sum, Duration::from_secs(1));
    }
}
