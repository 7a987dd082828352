//! A day with all that goes wrong, and more than once.

use std::{path::Path, time::Duration};

use forebay_sdk::{testing, tls::Fingerprint, world::memory::Memory};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    NOW, connect_at, next, settings,
    shapes::{interfaces, modem, usage},
    simulated::{Fault, Simulated},
};

const HOUR: Duration = Duration::from_secs(3600);
const BEAT: Duration = Duration::from_secs(10);
/// What goes by in one beat at most, each way.
const MOST_BYTES: u64 = 200_000;
/// In this hour somebody else answers at the router's address.
const STRANGER: std::ops::Range<u32> = 9..10;
/// From this one on the router boots now and then, and counts anew.
const BOOTS_FROM: u32 = 16;
/// The counters are those of a router with 32 bits.
const END: u64 = 1 << 32;

/// What is true of the router.
struct Truth {
    chance: fastrand::Rng,
    rsrp: i64,
    /// Bytes each way that have gone by in all, since before the first reading.
    used: u64,
    /// Since it booted.
    counted: u64,
    /// Of `used`, what nobody can know: it went by between the last reading and a boot.
    unknown: u64,
    /// What has gone by since something was heard.
    unheard: u64,
    uptime: u64,
    /// The same, a beat ago.
    uptime_before: u64,
}

impl Truth {
    /// A beat later.
    fn pass(&mut self) {
        let by = self.chance.u64(0..MOST_BYTES);
        self.used += by;
        self.unheard += by;
        self.counted += by;
        self.uptime_before = self.uptime;
        self.uptime += BEAT.as_secs();
        self.rsrp = (self.rsrp + self.chance.i64(-3..=3)).clamp(-139, -50);
    }

    /// A counter that began anew is believed to have with its second reading.
    fn boot(&mut self) {
        self.unknown += self.unheard + 3 * MOST_BYTES;
        (self.counted, self.uptime) = (0, 0);
    }

    /// What the firmware of an hour makes of it, now and then of another type, or not at all.
    fn modems(&mut self, hour: u32) -> Value {
        let mut answer = modem();
        let it = answer[0].as_object_mut().unwrap();
        let bytes = json!(self.counted % END);
        (it["txbytes"], it["rxbytes"], it["rsrp"]) = (bytes.clone(), bytes, self.rsrp.into());
        match hour % 3 {
            // As it is documented now.
            0 => (),
            // As an older one calls them.
            1 => {
                for (now, before) in [
                    ("rsrp", "rsrp_value"),
                    ("operator", "operator_name"),
                    ("txbytes", "tx_bytes"),
                    ("rxbytes", "rx_bytes"),
                    ("operator_state", "netstate"),
                    ("ntype", "nettype"),
                ] {
                    let value = it.remove(now).unwrap();
                    it.insert(before.to_owned(), value);
                }
                (it["oper"], it["conntype"]) = (Value::Null, Value::Null);
            }
            // In an object of its own, and all as text.
            _ => {
                let names = ["rssi", "rsrp", "rsrq", "sinr", "band", "txbytes", "rxbytes"];
                let inner = names.map(|name| {
                    let value = it.remove(name).unwrap();
                    (name.to_owned(), json!(value.to_string().trim_matches('"')))
                });
                it.insert("figures".to_owned(), inner.into_iter().collect());
            }
        }
        let rsrp =
            ["rsrp", "rsrp_value", "figures"].into_iter().find(|name| it.contains_key(*name));
        let rsrp = &mut it[rsrp.unwrap()];
        match self.chance.u32(0..50) {
            0 => *rsrp = json!(null),
            1 => *rsrp = json!("N/A"),
            2 => *rsrp = json!(-32768),
            3 => *rsrp = json!(true),
            4 => *rsrp = json!([self.rsrp]),
            5 => *rsrp = json!({}),
            6 => (it["temperature"], it["active_sim"]) = (json!("-"), json!("1")),
            7 => answer = json!([{ "id": "2-1", "offline": true }]),
            8 => answer = json!("busy"),
            9 => answer = json!([]),
            10 => {
                for name in ["txbytes", "rxbytes", "tx_bytes", "rx_bytes"] {
                    it.entry(name).and_modify(|bytes| *bytes = json!(0));
                }
            }
            _ => (),
        }
        answer
    }

    fn usage(&self, now: i64) -> Value {
        let mut answer = usage();
        (answer["uptime_seconds"], answer["localtime"]) = (self.uptime.into(), now.into());
        answer
    }

    /// Each value is one that the router had at most a beat ago, or not there.
    fn check(&mut self, said: &Value, last: &mut u64) {
        if let Some(signal) = said.get("signal") {
            for (name, expected) in [
                ("modem", json!("2-1")),
                ("operator", json!("O2.CZ")),
                ("technology", json!("5G-NSA")),
                ("band", json!("5G N3")),
                ("registered", json!(true)),
                ("roaming", json!(false)),
                ("rssi", json!(-56)),
                ("sinr", json!(9)),
                ("sim", json!(1)),
            ] {
                assert!(signal.get(name).is_none_or(|it| *it == expected), "{name}: {signal}");
            }
            let rsrp = signal.get("rsrp").map(|found| found.as_i64().unwrap());
            assert!(rsrp.is_none_or(|it| (it - self.rsrp).abs() <= 6), "{rsrp:?} {}", self.rsrp);
        }
        if let Some(found) = said["system"].get("uptime") {
            let found = found.as_u64().unwrap();
            let is_true = |uptime: u64| found.abs_diff(uptime) <= BEAT.as_secs();
            let (now, before) = (self.uptime, self.uptime_before);
            assert!(is_true(now) || is_true(before), "{found} {now} {before}");
        }
        if let Some(found) = said.get("wan") {
            assert_eq!(
                (&found["kind"], &found["interface"]),
                (&json!("mobile"), &json!("mob1s1a1"))
            );
        }
        if let Some(found) = said.get("gps") {
            let has_position = found.get("latitude").is_some();
            assert_eq!(found["fix"].as_bool().unwrap(), has_position);
        }
        if let Some(found) = said.get("data") {
            let total = found["total"]["up"].as_u64().unwrap();
            assert!(total >= *last, "{total} after {last}");
            assert!(total <= self.used, "{total} of {}", self.used);
            *last = total;
            self.unheard = 0;
        }
    }
}

/// How often a router that answers may be logged in to is no figure of experience: each login follows one of what
/// takes a session away, or spoils a login, all of which the router counts; and three take a minute.
#[tokio::test(start_paused = true)]
async fn a_day_with_all_faults_says_no_wrong_value_and_ends_well() {
    let memory = Memory::new(NOW);
    let _entered = memory.enter();
    let router = Simulated::start(&memory);
    router.put("/api/interfaces/status", interfaces());
    let pin = Fingerprint::of(&router.certify());
    let own = router.state().certificate.clone();
    // A disk would have the day last for as long as it takes to write the counters 288 times.
    let place = Path::new("/dev/null/no-disk");
    let text =
        settings(&format!("timeout: 5s\nfingerprint: \"{pin}\"\n")).replace("http:", "https:");
    let mut running = connect_at(&memory, &text, place);
    let mut collected = running.read("every: 10s\ngroups: [signal, system, data, wan, gps]");
    // It wraps in the afternoon.
    let start = END - 500_000_000;
    let mut truth = Truth {
        chance: fastrand::Rng::with_seed(1),
        rsrp: -80,
        used: start,
        counted: start,
        unknown: 0,
        unheard: 0,
        uptime: 86_400,
        uptime_before: 86_400,
    };
    let (began, mut total, mut seen) = (Instant::now(), 0, 0);
    let (mut last, mut longest_gap) = (began, Duration::ZERO);
    let mut hour = 0;
    while hour < 24 {
        truth.pass();
        let was_stranger = STRANGER.contains(&hour);
        hour = u32::try_from(began.elapsed().as_secs() / HOUR.as_secs()).unwrap();
        let is_stranger = STRANGER.contains(&hour);
        let mut fault = match truth.chance.u32(0..120) {
            0 => Fault::Silence,
            1 => Fault::Half,
            2 => Fault::Garbage,
            3 => Fault::Status(500),
            4 => Fault::Status(503),
            5 => Fault::Status(401),
            6 => Fault::Status(403),
            7 => Fault::Status(404),
            8 => Fault::Status(501),
            9 => Fault::Slow(Duration::from_secs(7)),
            10 => Fault::Boot,
            _ => Fault::None,
        };
        if is_stranger != was_stranger {
            match is_stranger {
                true => drop(router.certify()),
                false => router.state().certificate.clone_from(&own),
            }
            // Who is connected is thrown out.
            fault = Fault::Half;
        }
        let logins = router.state().logins.len();
        // Before, it only forgets its sessions, so that the counters get to their end.
        if fault == Fault::Boot && hour >= BOOTS_FROM {
            truth.boot();
        }
        router.put("/api/modems/status", truth.modems(hour));
        router.put("/api/system/device/usage/status", truth.usage(NOW / 1_000_000_000));
        let fix = if truth.chance.bool() { "1" } else { "0" };
        router.put(
            "/api/gps/position/status",
            json!({ "fix_status": fix, "latitude": "54.5", "longitude": "25.5", "satellites": "7" }),
        );
        router.state().faults.clear();
        router.state().faults.push_back(fault);
        if let Ok(envelope) = timeout(BEAT, collected.envelopes.recv()).await {
            let said = testing::delivered(envelope.unwrap());
            seen += 1;
            longest_gap = longest_gap.max(last.elapsed());
            last = Instant::now();
            truth.check(&said, &mut total);
        }
        if is_stranger && was_stranger {
            assert_eq!(router.state().logins.len(), logins, "the password goes to nobody else");
            last = Instant::now();
        }
    }
    let logins = router.state().logins.len();
    let (taken, spoilt) = {
        let state = router.state();
        (state.taken, state.spoilt)
    };
    // At the start, and once the router is back.
    assert!(
        logins <= 2 + taken + spoilt,
        "{logins} logins for {taken} sessions and {spoilt} tries"
    );
    assert!(taken > 100 && spoilt > 0, "{taken} {spoilt}: the day was a quiet one");
    let times = router.state().logins.clone();
    assert!(times.windows(3).all(|it| it[2] - it[0] >= Duration::from_secs(60)), "a storm");
    assert!(longest_gap < HOUR, "it waits for longer than it says: {longest_gap:?}");
    assert!(truth.used > END && seen > 5000, "{} bytes, {seen} messages", truth.used);
    // All but what nobody can know was counted, and that is little.
    let known = truth.used - truth.unknown - truth.unheard;
    assert!(total >= known, "{total} of {known}, {} unknown", truth.unknown);

    router.state().faults.clear();
    router.put("/api/modems/status", modem());
    let mut said = Value::Null;
    for _ in 0..3 {
        said = next(&mut collected).await;
    }
    assert_eq!(said["signal"]["rsrp"], -83);
}
