use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Message, Node, NodeType, Timestamp, Zone,
    testing::{self, Rig, WallClock, configure},
};
use serde_json::json;
use tokio::time::Instant;

use super::{events, gate, moment::Moment, plugin, source::Schedule};

/// 2026-11-20T09:00:00Z, a Friday; ten in Berlin.
const FRIDAY: i64 = 1_795_165_200;
const SECOND: i64 = 1_000_000_000;

/// When a source sends within so many hours: minutes from the start.
async fn sends(settings: &str, hours: u64) -> Vec<u64> {
    let Node::Source(mut source) = testing::build(&events(), settings, None) else {
        panic!("no source")
    };
    let (out, mut collected) = testing::outlet(100);
    let start = Instant::now();
    let mut sent = Vec::new();
    let listen = async {
        while collected.envelopes.recv().await.is_some() {
            sent.push(start.elapsed().as_secs() / 60);
        }
    };
    tokio::select! {
        ended = source.run(&out) => panic!("it never ends: {ended:?}"),
        () = listen => (),
        () = tokio::time::sleep(Duration::from_secs(hours * 3600)) => (),
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn messages_are_sent_at_times_of_the_day() {
    let _clock = WallClock::at(FRIDAY);
    let sent = sends("at: ['12:00', '06:30']\nzone: Europe/Berlin", 48).await;
    let (noon, morning, day) = (2 * 60, 20 * 60 + 30, 24 * 60);
    assert_eq!(sent, [noon, morning, noon + day, morning + day]);
    let sent = sends("at: ['12:00']\ndays: [sat, mon]\nzone: Europe/Berlin", 24 * 7).await;
    assert_eq!(sent, [noon + day, noon + 6 * day], "two days later it is Sunday");
}

#[tokio::test(start_paused = true)]
async fn before_the_clock_is_set_nothing_is_sent() {
    let _clock = WallClock::not_set(FRIDAY);
    assert_eq!(sends("at: ['12:00']", 48).await, [0; 0]);
}

#[test]
fn the_next_time_is_found_over_days_zones_and_the_sun() {
    let schedule = |at: &[&str], place: Option<super::sun::Place>| Schedule {
        at: at.iter().map(|text| Moment::parse(text).unwrap()).collect(),
        days: Arc::new([]),
        zone: Zone::parse("Europe/Berlin").unwrap(),
        place,
        topic: None,
        payload: None,
    };
    let at = |seconds: i64| Timestamp::from_unix_nanos((FRIDAY + seconds) * SECOND);
    let berlin = Some(super::sun::Place { latitude: 52.52, longitude: 13.405 });
    let next = schedule(&["sunset", "23:59"], berlin).next(at(0)).unwrap().to_rfc3339();
    assert!(next.starts_with("2026-11-20T15:0"), "{next}");
    let next = schedule(&["sunset+9h"], berlin).next(at(0)).unwrap().to_rfc3339();
    assert!(next.starts_with("2026-11-21T00:0"), "on the next day: {next}");
    let north = Some(super::sun::Place { latitude: 69.65, longitude: 18.96 });
    let next = schedule(&["sunrise"], north)
        .next(Timestamp::from_unix_nanos((FRIDAY + 20 * 86_400) * SECOND));
    assert!(next.unwrap().to_rfc3339().starts_with("2027-01-1"), "after the polar night: {next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_open_at_its_times() {
    let clock = WallClock::at(FRIDAY);
    let open = |settings: &str, hour: i64| {
        let mut rig = Rig::new(&gate(), &format!("zone: Europe/Berlin\n{settings}"));
        clock.set(FRIDAY + (hour - 10) * 3600);
        rig.send(Message::new("a", json!(1))).unwrap().len() == 1
    };
    let day = "open: [{ from: '06:00', to: '18:00' }]";
    assert_eq!([5, 6, 17, 18].map(|hour| open(day, hour)), [false, true, true, false]);
    // Friday night, until Saturday morning.
    let night = "open: [{ days: [fri], from: '22:00', to: '06:00' }]";
    assert_eq!(
        [5, 21, 22, 24, 29, 30, 46].map(|hour| open(night, hour)),
        [false, false, true, true, true, false, false]
    );
    let weekend = "open: [{ days: [sat, sun] }]";
    assert_eq!([23, 24, 71, 72].map(|hour| open(weekend, hour)), [false, true, true, false]);
    let dark = "open: [{ from: sunset, to: sunrise }]\nlatitude: 52.52\nlongitude: 13.405";
    assert_eq!([3, 10, 15, 17, 23].map(|hour| open(dark, hour)), [true, false, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_gate_drops_nothing_before_the_clock_is_set() {
    let _clock = WallClock::not_set(FRIDAY);
    let mut rig = Rig::new(&gate(), "open: [{ from: '22:00', to: '23:00' }]");
    assert_eq!(rig.send(Message::new("a", json!(1))).unwrap().len(), 1);
}

#[test]
fn what_is_wrong_is_said() {
    let found =
        |node_type: &dyn NodeType, text: &str| format!("{:?}", configure(node_type, text).err());
    for (text, says) in [
        ("at: []", "expected 1 to 100 entries"),
        ("at: ['25:00']", "expected a time such as `06:00`"),
        ("at: ['6']", "expected a time such as `06:00`"),
        ("at: ['24:00']", "the beginning of the next"),
        ("at: [sunset]", "nothing says where"),
        ("at: [sunset+13h]", "expected at most 12h from the sun"),
        ("at: [sunset]\nlatitude: 52", "`latitude` alone is no place"),
        ("at: [sunset]\nlatitude: 91\nlongitude: 0", "expected -90 to 90, found 91"),
        ("at: ['06:00']\ndays: [monday]", "monday"),
        ("{}", "`at`"),
    ] {
        assert!(found(&events(), text).contains(says), "{text}: {}", found(&events(), text));
    }
    for (text, says) in [
        ("open: []", "expected 1 to 100 entries"),
        ("open: [{ from: sunrise }]", "`open[0].from` speaks of the sun"),
        ("open: [{ from: noon }]", "expected a time such as"),
    ] {
        assert!(found(&gate(), text).contains(says), "{text}: {}", found(&gate(), text));
    }
    assert!(plugin().sample.contains("type: schedule"));
}
