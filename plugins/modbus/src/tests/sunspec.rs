//! SunSpec devices whose maps begin anywhere, and change.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use forebay_sdk::testing::Collected;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Rig, assert_says, device, next, next_error, peer};

/// Holding registers from an address on.
type Words = BTreeMap<(u8, u16), u16>;

const MARK: [u16; 2] = [0x5375, 0x6E53];

/// A map that begins at an address: models, each with its number and what follows its length.
fn map(begin: u16, models: &[(u16, &[u16])]) -> Words {
    let mut words = MARK.to_vec();
    for (number, body) in models {
        words.extend([*number, body.len() as u16]);
        words.extend(*body);
    }
    words.extend([0xFFFF, 0]);
    (begin..).zip(words).map(|(address, word)| ((3, address), word)).collect()
}

/// A source of a device whose registers can be changed.
fn source(
    peers: &mut JoinSet<()>,
    words: Words,
    registers: &str,
) -> (Rig, Collected, Arc<Mutex<Words>>) {
    let words = Arc::new(Mutex::new(words));
    let held = Arc::clone(&words);
    let (memory, _) = peer(peers, move |frame| Some(device(&held.lock().unwrap(), frame)));
    let mut rig = Rig::new(&memory, "");
    let collected = rig.source(&format!("every: 1s\nregisters:\n{registers}"));
    (rig, collected, words)
}

const POWER: &str = "  - { name: watts, holding: 2, kind: i16, sunspec: [101, 103], scale_by: factor, absent: [0x8000] }
  - { name: factor, holding: 3, kind: i16, sunspec: [101, 103], hidden: true }
";

#[tokio::test(start_paused = true)]
async fn a_model_is_found_wherever_the_map_begins() {
    for begin in [40_000, 50_000, 0] {
        let mut peers = JoinSet::new();
        let words = map(begin, &[(1, &[7; 66]), (103, &[2345, 0xFFFF]), (120, &[0; 26])]);
        let (_rig, mut collected, _) = source(&mut peers, words, POWER);
        let message = next(&mut collected).await;
        assert_eq!(message.payload.value(), Ok(&json!({ "watts": 234.5 })), "at {begin}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_registers_with_one_name_the_one_that_is_there_is_read() {
    let both = format!("{POWER}  - {{ name: watts, holding: 2, kind: f32, sunspec: [111] }}\n");
    let of = |number: u16, body: &[u16]| map(40_000, &[(1, &[0; 66]), (number, body)]);
    for (words, value) in [(of(103, &[50, 1]), 500.0), (of(111, &[0x4366, 0x3333]), 230.2)] {
        let mut peers = JoinSet::new();
        let (_rig, mut collected, _) = source(&mut peers, words, &both);
        let message = next(&mut collected).await;
        assert_eq!(message.payload.value(), Ok(&json!({ "watts": value })));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_device_does_not_have_is_null_and_says_why() {
    let mut peers = JoinSet::new();
    let registers = format!(
        "{POWER}  - {{ name: behind, holding: 5, sunspec: [101] }}
  - {{ name: last, holding: 4, sunspec: [101] }}
  - {{ name: amps, holding: 2, sunspec: [201, 202] }}
  - {{ name: plain, holding: 7 }}
"
    );
    let mut words = map(40_000, &[(101, &[0x8000, 0, 9]), (1, &[0; 66])]);
    words.insert((3, 7), 3);
    let (_rig, mut collected, _) = source(&mut peers, words, &registers);
    let message = next(&mut collected).await;
    let values = json!({ "watts": null, "behind": null, "last": 9, "amps": null, "plain": 3 });
    assert_eq!(message.payload.value(), Ok(&values));
    let quality = json!({
        "watts": "the device has no value (0x8000)",
        "behind": "its SunSpec model 101 has no more than 3 registers",
        "amps": "the device has no SunSpec model 201 or 202",
    });
    assert_eq!(message.meta.get("quality"), Some(&quality));
}

#[tokio::test(start_paused = true)]
async fn a_map_that_moved_gave_the_values_of_other_registers() {
    let mut peers = JoinSet::new();
    let before = map(40_000, &[(1, &[0; 66]), (103, &[2345, 0xFFFF])]);
    let (_rig, mut collected, words) = source(&mut peers, before, POWER);
    next(&mut collected).await;
    // A firmware that has one register less in the model in front.
    *words.lock().unwrap() = map(40_000, &[(1, &[0; 65]), (103, &[1111, 0xFFFF]), (120, &[0; 26])]);
    let error = next_error(&mut collected).await;
    assert_says(
        &error,
        "the SunSpec models of unit 1 at meter.lan:502 are no longer where they were",
    );
    let message = next(&mut collected).await;
    assert_eq!(message.payload.value(), Ok(&json!({ "watts": 111.1 })));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_no_sunspec_device_or_has_none_of_the_models_is_an_error() {
    for (words, says) in [
        (Words::new(), "none of 40000, 50000 and 0 begins with `SunS`"),
        (
            map(0, &[(1, &[0; 66]), (201, &[0; 105])]),
            "no SunSpec model 101 or 103; its models are [1, 201]",
        ),
    ] {
        let mut peers = JoinSet::new();
        let (_rig, mut collected, _) = source(&mut peers, words, POWER);
        assert_says(&next_error(&mut collected).await, says);
        assert!(collected.envelopes.try_recv().is_err());
    }
}

/// A length that leads nowhere, or round and round.
#[tokio::test(start_paused = true)]
async fn a_map_without_an_end_is_no_walk_without_an_end() {
    let mut peers = JoinSet::new();
    let mut words: Words = (0..=u16::MAX).map(|address| ((3, address), 0)).collect();
    words.extend(map(0, &[(1, &[0; 66])]));
    words.remove(&(3, 71));
    words.insert((3, 70), 0);
    words.insert((3, 71), 0);
    let (_rig, mut collected, _) = source(&mut peers, words, POWER);
    assert_says(&next_error(&mut collected).await, "its models are [1, 0, 0,");
}

#[tokio::test(start_paused = true)]
async fn the_unit_stands_in_names_too() {
    let mut peers = JoinSet::new();
    let (memory, _) = peer(&mut peers, |frame| Some(super::addresses(frame)));
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.source(
        "every: 1s
units: 3-4
registers:
  - { name: 'power_{unit}', holding: 7, unit: W, scale_by: 'factor_{unit}' }
  - { name: 'factor_{unit}', holding: 1, hidden: true }
  - { name: other, holding: 2 }",
    );
    for unit in [3, 4] {
        let message = next(&mut collected).await;
        let value = json!({ format!("power_{unit}"): 70.0, "other": 2 });
        assert_eq!(message.payload.value(), Ok(&value));
        assert_eq!(message.meta.get("units"), Some(&json!({ format!("power_{unit}"): "W" })));
    }
}
