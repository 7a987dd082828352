//! Counters that begin anew, wrap and slip.

use std::time::Duration;

use forebay_sdk::{
    Figure, Timestamp,
    testing::{WallClock, voice},
    world::memory::Memory,
};
use serde_json::{Value, json};

use super::{connect, next, settings, simulated::Simulated};
use crate::counters::Counters;

const BEAT: Duration = Duration::from_secs(10);
const DAY: i64 = 86_400_000_000_000;

fn modem(bytes: u64) -> Value {
    json!([{ "id": "2-1", "active_sim": 1, "txbytes": bytes, "rxbytes": bytes * 2 }])
}

/// The bytes up in all after each reading.
fn totals(readings: &[u64]) -> Vec<u64> {
    let mut counters = Counters::default();
    let now = Timestamp::from_unix_nanos(super::NOW);
    let read = |bytes: &u64| {
        let said = counters.read(&modem(*bytes), None, now).unwrap();
        assert_eq!(said["total"]["down"].as_u64().unwrap() % 2, 0, "both go the same way");
        said["total"]["up"].as_u64().unwrap()
    };
    readings.iter().map(read).collect()
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_begins_anew_goes_on() {
    assert_eq!(totals(&[1000, 1500, 20, 50, 80]), [1000, 1500, 1500, 1550, 1580]);
    assert_eq!(totals(&[1000, 0, 0, 300, 400]), [1000, 1000, 1000, 1000, 1400]);
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_slips_for_a_moment_counts_nothing_twice() {
    let away = [1_000_000, 0, 0, 0, 1_000_100];
    assert_eq!(totals(&away), [1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_100]);
    assert_eq!(totals(&[1_000_000, 7, 1_000_100]), [1_000_000, 1_000_000, 1_000_100]);
    assert_eq!(totals(&[1_000_000, 999_000, 1_000_100]), [1_000_000, 1_000_000, 1_000_100]);
    let lower = [1_000_000, 999_000, 999_100, 999_200, 999_300];
    assert_eq!(totals(&lower), [1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_100]);
}

#[tokio::test(start_paused = true)]
async fn a_counter_of_32_bits_wraps() {
    let end = 1_u64 << 32;
    let expected = [end - 100, end + 50, end + 60];
    let mut counters = Counters::default();
    let now = Timestamp::from_unix_nanos(super::NOW);
    for (bytes, expected) in [end - 100, 50, 60].into_iter().zip(expected) {
        tokio::time::advance(BEAT).await;
        let modem = json!([{ "id": "2-1", "active_sim": 1, "txbytes": bytes, "rxbytes": 7 }]);
        let said = counters.read(&modem, None, now).unwrap();
        assert_eq!(said["total"]["up"], expected);
        assert_eq!(said["total"]["down"], 7);
    }
}

/// The bytes up in all after readings of a counter, ten seconds apart, and of how long the router is up.
async fn totals_of(readings: &[(u64, u64)]) -> Vec<u64> {
    let mut counters = Counters::default();
    let now = Timestamp::from_unix_nanos(super::NOW);
    let mut totals = Vec::new();
    for (bytes, uptime) in readings {
        tokio::time::advance(BEAT).await;
        let said = counters.read(&modem(*bytes), Some(*uptime), now).unwrap();
        totals.push(said["total"]["up"].as_u64().unwrap());
    }
    totals
}

/// Up to a gigabyte was made up.
#[tokio::test(start_paused = true)]
async fn a_counter_near_its_end_that_began_anew_was_taken_for_one_that_wrapped() {
    let near = (1_u64 << 32) - 300_000_000;
    // A modem that connects again.
    let anew = totals_of(&[(near, 1000), (20_000, 1010), (50_000, 1020)]).await;
    assert_eq!(anew, [near, near, near + 50_000]);
    // A boot, also when it was seen in the counter only after a while.
    let close = (1_u64 << 32) - 5_000_000;
    let booted = totals_of(&[(close, 1000), (0, 5), (20_000, 15), (50_000, 25)]).await;
    assert_eq!(booted, [close, close, close, close + 50_000]);
    // What went by as fast before may go by across the end.
    let second = 40_000_000;
    let fast = totals_of(&[(near - 10 * second, 1000), (near, 1010), (1_000_000, 1020)]).await;
    assert_eq!(fast[2], near + 301_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_restart_loses_nothing_and_sees_that_the_router_has_booted() {
    let place = tempfile::tempdir().unwrap();
    let (voice, heard) = voice();
    let now = Timestamp::from_unix_nanos(super::NOW);
    let mut counters = Counters::default();
    counters.read(&modem(1000), Some(5000), now).unwrap();
    counters.save(place.path(), &voice).await;
    let mut again = Counters::load(place.path()).await;
    let said = again.read(&modem(1400), Some(6000), now).unwrap();
    assert_eq!(said["total"], json!({ "up": 1400, "down": 2800 }));
    // Meanwhile it booted, and has used more since than before.
    again.save(place.path(), &voice).await;
    let mut again = Counters::load(place.path()).await;
    let said = again.read(&modem(9000), Some(300), now).unwrap();
    assert_eq!(said["total"], json!({ "up": 10_400, "down": 20_800 }));
    assert!(heard.figure(Figure::BytesToDisk) > 100, "flash wears by it");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_broken_begins_anew() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("data-used.json"), b"{\"modems\": 3").unwrap();
    assert_eq!(Counters::load(place.path()).await, Counters::default());
}

#[tokio::test(start_paused = true)]
async fn what_the_router_has_on_record_of_the_month_is_in_it() {
    let _clock = WallClock::at(super::NOW / 1_000_000_000);
    let memory = Memory::new(super::NOW);
    let router = Simulated::start(&memory);
    router.put("/api/modems/status", modem(1_000_000));
    let day = 1_795_219_200;
    let path = "/api/data_usage/custom/modem/2-1/sim/1/status";
    // The last one is of the month before: some firmwares care for no time but their own.
    let rows =
        json!([[day - 86_400, 500, 50], [day, "700", "70"], ["x"], [day - 30 * 86_400, 9, 9]]);
    router.put(path, rows);
    let mut running = connect(&memory, &settings("provider: rutos\n"));
    let mut collected = running.read("groups: [data]\nevery: 10s");
    let said = next(&mut collected).await["data"].clone();
    assert_eq!(said["today"], json!({ "up": 70, "down": 700 }));
    assert_eq!(said["month"], json!({ "up": 120, "down": 1200 }));
    assert_eq!(said["total"], json!({ "up": 1_000_000, "down": 2_000_000 }));
    let asked = format!("GET {path}?from={}&to={}", day - 20 * 86_400, day + 9 * 3600);
    assert_eq!(router.count(&asked), 1, "{:?}", router.state().asked);
    // From then on it counts by itself, and asks no more.
    router.put("/api/modems/status", modem(1_000_005));
    let said = next(&mut collected).await["data"].clone();
    assert_eq!(said["month"], json!({ "up": 125, "down": 1210 }));
    let records = router.state().asked.iter().filter(|it| it.contains("data_usage")).count();
    assert_eq!(records, 1);
}

#[tokio::test(start_paused = true)]
async fn a_router_without_records_is_asked_for_them_once() {
    let _clock = WallClock::at(super::NOW / 1_000_000_000);
    let memory = Memory::new(super::NOW);
    let router = Simulated::start(&memory);
    router.put("/api/modems/status", modem(1_000_000));
    let mut running = connect(&memory, &settings("provider: rutos\n"));
    let mut collected = running.read("groups: [data]\nevery: 10s");
    for _ in 0..3 {
        let said = next(&mut collected).await;
        assert_eq!(said["data"]["month"], json!({ "up": 0, "down": 0 }));
    }
    let records = router.state().asked.iter().filter(|it| it.contains("data_usage")).count();
    assert_eq!(records, 1);
}

#[tokio::test(start_paused = true)]
async fn profiles_of_an_esim_are_counted_by_themselves() {
    let mut counters = Counters::default();
    let now = Timestamp::from_unix_nanos(super::NOW);
    for (profile, bytes) in [("1", 100), ("2", 130), ("1", 170)] {
        let modem = json!([{
            "id": "2-1", "active_sim": 2, "esim_profile": profile, "txbytes": bytes, "rxbytes": 7,
        }]);
        counters.read(&modem, None, now).unwrap();
    }
    let modem = json!([{ "id": "2-1", "active_sim": 2, "esim_profile": "1" }]);
    let said = counters.said(&modem).unwrap();
    assert_eq!(said["sims"]["2-1/sim2/esim1"]["today"]["up"], 40);
    assert_eq!(said["sims"]["2-1/sim2/esim2"]["today"]["up"], 30);
}

#[tokio::test(start_paused = true)]
async fn days_months_and_sims_are_counted_by_themselves() {
    let mut counters = Counters::default();
    let mut read = |sim: u64, bytes: u64, days: i64| {
        let modem = json!([{ "id": "2-1", "active_sim": sim, "txbytes": bytes, "rxbytes": 0 }]);
        let now = Timestamp::from_unix_nanos(super::NOW + days * DAY);
        let said = counters.read(&modem, None, now).unwrap();
        ["today", "month", "total"].map(|period| said[period]["up"].as_u64().unwrap())
    };
    // What was there before it was looked at is no use of today.
    assert_eq!(read(1, 1000, 0), [0, 0, 1000]);
    assert_eq!(read(1, 1300, 0), [300, 300, 1300]);
    assert_eq!(read(1, 1400, 1), [100, 400, 1400]);
    // The other SIM.
    assert_eq!(read(2, 1500, 1), [100, 100, 100]);
    // December.
    assert_eq!(read(1, 1510, 10), [10, 10, 1410]);
    // A clock that nobody has set begins no month.
    let modem = json!([{ "id": "2-1", "active_sim": 1, "txbytes": 1520, "rxbytes": 0 }]);
    let said = counters.read(&modem, None, Timestamp::before_clock_was_set(0)).unwrap();
    assert_eq!(said["month"]["up"], 20);
}
