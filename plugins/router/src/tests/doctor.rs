//! What `forebay doctor` says of a router, set up well and badly.

use std::{any::Any, sync::Mutex};

use forebay_sdk::{
    Examination, Site, Step,
    examination::Outcome,
    testing::{self, WallClock},
    tls::Fingerprint,
    world::memory::Memory,
};
use serde_json::json;

use super::{
    NOW, settings,
    shapes::{interfaces, modem, usage},
    simulated::Simulated,
};

/// A world with a router that has a certificate of its own making.
fn world() -> (Memory, Simulated, Fingerprint) {
    let memory = Memory::new(NOW);
    let router = Simulated::start(&memory);
    router.put("/api/modems/status", modem());
    router.put("/api/system/device/usage/status", usage());
    router.put("/api/interfaces/status", interfaces());
    router.put(
        "/api/io/status",
        json!([{ "id": "din1", "value": "1" }, { "id": "dout1", "value": "0" }]),
    );
    let device =
        json!({ "mnfinfo": { "name": "RUTC50" }, "static": { "fw_version": "RUTC_R_00.07.24.5" } });
    router.put("/api/system/device/status", device);
    router.refuse("/api/gps/position/status", 403, 0);
    let pin = Fingerprint::of(&router.certify());
    (memory, router, pin)
}

/// Each step as `TLS fine: …; help`.
async fn ask(memory: &Memory, connection: &str, source: &str, sink: &str) -> Vec<String> {
    let _clock = WallClock::at(NOW / 1_000_000_000);
    let (configured, _) = testing::resolve(&crate::connection(), connection);
    let configured = configured.expect("what can run");
    let source = testing::configure(&crate::source(), source).unwrap();
    let sink = testing::configure(&crate::sink(), sink).unwrap();
    let users: [(&str, &dyn Any); 2] =
        [("health", &*source as &dyn Any), ("do", &*sink as &dyn Any)];
    let steps = Mutex::new(Vec::new());
    let tell = |step: Step| {
        let outcome = match step.outcome {
            Outcome::Fine => "fine",
            Outcome::Doubtful => "doubtful",
            Outcome::Wrong => "wrong",
        };
        let help = if step.help.is_empty() { String::new() } else { format!("; {}", step.help) };
        steps.lock().unwrap().push(format!("{} {outcome}: {}{help}", step.what, step.seen));
    };
    let site = Site { world: memory.world(), ..testing::site(None) };
    configured
        .examine(&Examination { site, users: &users, topic: None, tell: &tell })
        .unwrap()
        .await;
    steps.into_inner().unwrap()
}

const SOURCE: &str = "groups: [signal, data, system]";
const SINK: &str = "action: output\noutputs: [dout1]";

fn secure(pin: &str) -> String {
    settings(&format!("fingerprint: \"{pin}\"\nallow: [output]\n")).replace("http://", "https://")
}

#[track_caller]
fn ends_with(steps: &[String], expected: &str) {
    let last = steps.last().map_or("nothing", String::as_str);
    assert!(last.starts_with(expected), "expected {expected}\nfound {steps:#?}");
}

#[tokio::test]
async fn a_router_that_is_set_up_well_is_fine_from_the_name_to_the_clock() {
    let (memory, router, pin) = world();
    let steps = ask(&memory, &secure(&pin.to_string()), SOURCE, SINK).await;
    let what: Vec<&str> = steps.iter().map(|step| step.split_once(':').unwrap().0).collect();
    assert_eq!(
        what,
        [
            "TCP fine",
            "TLS fine",
            "answer fine",
            "login fine",
            "device fine",
            "groups fine",
            "actions fine",
            "clock fine",
        ],
        "{steps:#?}"
    );
    assert_eq!(steps[4], "device fine: RUTC50, RUTC_R_00.07.24.5");
    assert_eq!(steps[5], "groups fine: it tells signal, data, system");
    assert_eq!(steps[6], "actions fine: there is an output `dout1`");
    assert_eq!(steps[7], "clock fine: it says 2026-11-21T09:00:05.000Z, as ours does");
    assert_eq!((router.count("/api/login"), router.count("/api/logout")), (1, 1));
    assert_eq!(router.count("change_state"), 0, "nothing is done");
}

#[tokio::test]
async fn who_is_not_the_router_gets_no_password() {
    let (memory, router, pin) = world();
    let steps = ask(&memory, &settings("").replace("http://", "https://"), SOURCE, SINK).await;
    ends_with(
        &steps,
        "TLS wrong: nothing shows yet that https://192.168.1.1 is the router, for nobody here knows its certificate",
    );
    assert!(steps.last().unwrap().ends_with(&format!("`fingerprint: \"{pin}\"`")), "{steps:#?}");
    let other = Fingerprint::of(&router.certify());
    let steps = ask(&memory, &secure(&pin.to_string()), SOURCE, SINK).await;
    ends_with(
        &steps,
        "TLS wrong: https://192.168.1.1 is not trusted: it shows another certificate than the one in `fingerprint`",
    );
    assert!(steps.last().unwrap().contains(&other.to_string()), "{steps:#?}");
    assert_eq!(router.count("/api/login"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_place_where_no_router_is_is_said() {
    let (memory, router, _) = world();
    let elsewhere = settings("").replace("192.168.1.1", "192.168.1.9");
    ends_with(&ask(&memory, &elsewhere, SOURCE, SINK).await, "TCP wrong: ");
    let nowhere = settings("").replace("192.168.1.1", "router.lan");
    ends_with(&ask(&memory, &nowhere, SOURCE, SINK).await, "name wrong: ");
    // A printer, say.
    router.state().is_router = false;
    ends_with(
        &ask(&memory, &settings(""), SOURCE, SINK).await,
        "answer wrong: http://192.168.1.1 answers, and neither as RutOS at /api nor as ubus at /ubus; look at the port",
    );
}

#[tokio::test(start_paused = true)]
async fn a_router_that_is_asked_in_the_wrong_way_says_which_is_right() {
    let (memory, _router, _) = world();
    let steps = ask(&memory, &settings("provider: ubus\n"), SOURCE, SINK).await;
    ends_with(&steps, "answer wrong: it answers as `rutos` and not as `ubus`; `provider: rutos`");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_tried_once() {
    let (memory, router, _) = world();
    let wrong = settings("").replace("secret-of-the-router", "guessed");
    let steps = ask(&memory, &wrong, SOURCE, SINK).await;
    ends_with(
        &steps,
        "login wrong: http://192.168.1.1 does not let `forebay` in: no (code 121). Look at `username`",
    );
    assert_eq!(router.count("/api/login"), 1);
    assert!(!steps.concat().contains("guessed"));
}

#[tokio::test(start_paused = true)]
async fn what_a_user_may_not_see_and_what_a_router_lacks_is_said() {
    let (memory, _router, _) = world();
    let steps = ask(
        &memory,
        &settings("allow: [output]\n"),
        "groups: [signal, gps]",
        "action: output\noutputs: [dout9]",
    )
    .await;
    let expected = [
        "groups fine: it tells signal",
        "groups doubtful: nothing of `gps`: no (code 0); the router may lack it, or `forebay` may not see it: leave the \
         group out, or give that user the right",
        "actions wrong: there is no output `dout9`; it has `din1`, `dout1`",
    ];
    assert!(expected.iter().all(|it| steps.iter().any(|step| step == it)), "{steps:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_text_needs_a_modem() {
    let (memory, router, _) = world();
    let sms = "action: sms\nto: [\"+491\"]\ntext: a";
    let steps = ask(&memory, &settings("allow: [sms]\n"), SOURCE, sms).await;
    assert!(steps.contains(&"actions fine: `sms` has modem 2-1".to_owned()), "{steps:#?}");
    router.refuse("/api/modems/status", 404, 100);
    let steps = ask(&memory, &settings("allow: [sms]\n"), SOURCE, sms).await;
    let expected =
        "actions wrong: `sms` needs a modem: no (code 100); is there one, and may the user see it?";
    assert!(steps.contains(&expected.to_owned()), "{steps:#?}");
}

#[tokio::test(start_paused = true)]
async fn clocks_that_are_far_apart_are_told() {
    let (memory, router, _) = world();
    let mut late = usage();
    late["localtime"] = json!(NOW / 1_000_000_000 - 86_400);
    router.put("/api/system/device/usage/status", late);
    ends_with(
        &ask(&memory, &settings(""), SOURCE, SINK).await,
        "clock doubtful: it says 2026-11-20T09:00:00.000Z, which is 86400 s behind ours; set up NTP",
    );
}

#[tokio::test(start_paused = true)]
async fn a_kernel_is_looked_at_below_its_root() {
    let memory = Memory::new(NOW);
    let source = "groups: [system]";
    let steps = ask(&memory, "root: /host\n", source, "action: reboot\ndry_run: true").await;
    ends_with(&steps, "answer wrong: /host does not show `proc/uptime`");
    memory.put("/host/proc/uptime", "217360.42 400000.00\n");
    let steps = ask(&memory, "root: /host\n", source, "action: reboot\ndry_run: true").await;
    assert_eq!(steps, ["kernel fine: it shows itself below /host", "groups fine: it tells system"]);
}
