//! Sessions and faults.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance, sleep, timeout};

use super::{
    NOW, connect, next, settings,
    shapes::{interfaces, modem, usage},
    simulated::{Fault, Simulated},
};
use forebay_sdk::world::memory::Memory;

const MODEMS: &str = "/api/modems/status";
const USAGE: &str = "/api/system/device/usage/status";

/// A world with a router that has all that documents show.
fn world() -> (Memory, Simulated) {
    let memory = Memory::new(NOW);
    let router = Simulated::start(&memory);
    router.put(MODEMS, modem());
    router.put(USAGE, usage());
    router.put("/api/interfaces/status", interfaces());
    router.put("/api/io/status", json!([{ "id": "din1", "value": "1" }]));
    (memory, router)
}

#[tokio::test(start_paused = true)]
async fn all_groups_of_a_beat_come_of_one_request() {
    let (memory, router) = world();
    let mut running = connect(&memory, &settings(""));
    let mut collected =
        running.read("every: 10s\ngroups: [signal, system, wan, { group: io, every: 30s }]");
    let first = next(&mut collected).await;
    assert_eq!(first["signal"]["rsrp"], -83);
    assert_eq!(first["system"]["uptime"], 217_360);
    assert_eq!(first["wan"]["kind"], "mobile");
    assert_eq!(first["io"], json!({ "din1": true }));
    let second = next(&mut collected).await;
    assert!(second.get("io").is_none(), "its turn is every 30 s");
    assert_eq!(
        (router.count("/api/bulk"), router.count(MODEMS), router.count("/api/login")),
        (2, 0, 1)
    );
    next(&mut collected).await;
    assert_eq!(next(&mut collected).await["io"], json!({ "din1": true }));
}

#[tokio::test(start_paused = true)]
async fn a_router_without_requests_for_several_is_asked_for_each_from_then_on() {
    let (memory, router) = world();
    router.state().has_bulk = false;
    let mut running = connect(&memory, &settings("provider: rutos\n"));
    let mut collected = running.read("every: 10s\ngroups: [signal, system]");
    for _ in 0..3 {
        let said = next(&mut collected).await;
        assert_eq!(
            (&said["signal"]["rsrp"], &said["system"]["uptime"]),
            (&json!(-83), &json!(217_360))
        );
    }
    assert_eq!((router.count("/api/bulk"), router.count(MODEMS)), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_a_router_lacks_is_left_out_and_said_once() {
    for (status, code) in [(404, 100), (501, 100), (403, 0), (200, 122)] {
        for has_bulk in [true, false] {
            let (memory, router) = world();
            router.state().has_bulk = has_bulk;
            router.refuse("/api/gps/position/status", status, code);
            let mut running = connect(&memory, &settings("provider: rutos\n"));
            let mut collected = running.read("every: 10s\ngroups: [signal, gps]");
            for _ in 0..5 {
                let said = next(&mut collected).await;
                assert!(said.get("gps").is_none() && said["signal"]["rsrp"] == -83);
            }
            let heard = running.heard.said();
            assert_eq!(heard.lasting.keys().collect::<Vec<_>>(), ["group `gps`"]);
            assert_eq!(heard.troubles, Vec::<String>::new());
            if !has_bulk {
                assert_eq!(router.count("/api/gps/position/status"), 1, "{status}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_made_longer_before_its_end_and_not_opened_anew() {
    let (memory, router) = world();
    let mut running = connect(&memory, &settings("provider: rutos\n"));
    let mut collected = running.read("every: 10s\ngroups: [signal]");
    for _ in 0..360 {
        next(&mut collected).await;
    }
    assert_eq!(router.count("/api/login"), 1);
    assert_eq!(running.heard.said().troubles, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_made_longer_is_opened_anew_in_time() {
    let (memory, router) = world();
    router.state().prolongs = false;
    let mut running = connect(&memory, &settings("provider: rutos\n"));
    let mut collected = running.read("every: 10s\ngroups: [signal]");
    for _ in 0..360 {
        next(&mut collected).await;
    }
    let logins = router.count("/api/login");
    assert!((10..=15).contains(&logins), "{logins} in an hour");
    assert_eq!(running.heard.said().troubles, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_router_that_has_forgotten_the_session_is_asked_again_after_one_login() {
    let (memory, router) = world();
    let mut running = connect(&memory, &settings("provider: rutos\n"));
    let mut collected = running.read("every: 100s\ngroups: [signal, system]");
    next(&mut collected).await;
    router.state().faults.push_back(Fault::Boot);
    assert_eq!(next(&mut collected).await["signal"]["rsrp"], -83);
    assert_eq!(router.count("/api/login"), 2);
    assert_eq!(running.heard.said().troubles, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_tried_a_few_times_a_day() {
    let (memory, router) = world();
    let running = connect(&memory, "url: http://192.168.1.1\nusername: forebay\npassword: wrong\n");
    sleep(Duration::from_secs(24 * 3600)).await;
    let logins = router.count("/api/login");
    assert!((5..=30).contains(&logins), "{logins} logins in a day");
    let said = running.heard.said();
    let first = &said.troubles[0];
    assert!(
        first.starts_with("http://192.168.1.1 does not let `forebay` in: no (code 121)"),
        "{first}"
    );
    assert!(said.troubles.iter().all(|it| it == first), "the same words each time");
    assert!(!said.troubles.concat().contains("wrong"));
    // Once somebody has mended it, it is let in.
    router.state().password = "wrong".to_owned();
    sleep(Duration::from_secs(3700)).await;
    assert!(running.heard.said().ready > 0);
}

#[tokio::test(start_paused = true)]
async fn a_router_that_forgets_each_session_at_once_is_not_stormed() {
    let (memory, router) = world();
    router.state().faults = [Fault::None, Fault::None, Fault::Boot].repeat(20_000).into();
    let mut running = connect(&memory, &settings("provider: rutos\n"));
    let _collected = running.read("every: 10s\ngroups: [signal, system]");
    sleep(Duration::from_secs(24 * 3600)).await;
    let logins = router.count("/api/login");
    assert!(logins < 60, "{logins} logins in a day");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_or_makes_no_sense_costs_one_beat() {
    for fault in [
        Fault::Silence,
        Fault::Half,
        Fault::Garbage,
        Fault::Status(500),
        Fault::Status(503),
        Fault::Slow(Duration::from_secs(60)),
    ] {
        let (memory, router) = world();
        let mut running = connect(&memory, &settings("provider: rutos\ntimeout: 5s\n"));
        let mut collected = running.read("every: 60s\ngroups: [signal, system]");
        next(&mut collected).await;
        router.state().faults.push_back(fault);
        let began = Instant::now();
        let said = next(&mut collected).await;
        assert_eq!(said["signal"]["rsrp"], -83, "{fault:?}");
        assert!(began.elapsed() <= Duration::from_secs(121), "{fault:?}");
        assert_eq!(router.count("/api/login"), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_end_is_cut_off() {
    let (memory, router) = world();
    router.put(MODEMS, json!([{ "id": "2-1", "name": "x".repeat(3 << 20) }]));
    let mut running = connect(&memory, &settings("provider: rutos\n"));
    let mut collected = running.read("every: 10s\ngroups: [signal]");
    let error = timeout(Duration::from_secs(60), collected.errors.recv()).await.unwrap().unwrap();
    assert!(error.contains("the answer is larger than 1 MiB"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_has_not_moved_is_not_sent_again() {
    let (memory, router) = world();
    let mut running = connect(&memory, &settings("provider: rutos\n"));
    let mut collected =
        running.read("every: 10s\ngroups: [signal]\ndeadband: { signal: 0, signal.rsrp: 3 }");
    next(&mut collected).await;
    let moved = |rsrp: i32, rssi: i32| {
        let mut changed = modem();
        (changed[0]["rsrp"], changed[0]["rssi"]) = (rsrp.into(), rssi.into());
        changed
    };
    router.put(MODEMS, moved(-85, -56));
    advance(Duration::from_secs(40)).await;
    router.put(MODEMS, moved(-87, -56));
    assert_eq!(next(&mut collected).await, json!({ "signal": { "rsrp": -87 } }));
    router.put(MODEMS, moved(-86, -57));
    assert_eq!(next(&mut collected).await, json!({ "signal": { "rssi": -57 } }));
}
