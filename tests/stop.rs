//! A stop delivers what it can, says what it could not, and ends in time.

use std::time::Duration;

use crate::support::{
    Folder, Forebay, Mosquitto, Subscriber, WebServer, free_port, now, orders, publish, throughout,
    until,
};

#[test]
fn sigterm_delivers_what_is_queued() {
    check_queued("TERM");
}

#[test]
fn an_interrupt_delivers_what_is_queued() {
    check_queued("INT");
}

#[test]
fn an_interrupt_that_came_twice_at_once_was_taken_for_a_second_one() {
    let folder = Folder::with(&[(
        "a.yaml",
        "sources:\n  beat: { type: timer, every: 1h }\nsinks:\n  cloud: { from: beat, type: http, url: 'http://127.0.0.1:9' }\n",
    )]);
    let mut forebay = Forebay::run(folder.path());
    // As `timeout` does: to the process, then to its group.
    forebay.log_after("stopping on SIGINT", || forebay.signal("INT"));
    forebay.signal("INT");
    throughout(Duration::from_millis(400), "it goes on", || forebay.is_alive());
    forebay.signal("INT");
    forebay.wait_for_log("stopped at once by a second signal");
    assert_eq!(forebay.wait_exit().code(), Some(0));
}

/// Stops while a service holds back its answer and messages wait behind it.
#[track_caller]
fn check_queued(signal: &str) {
    let (broker, service) = (Mosquitto::start(), WebServer::start());
    service.shut();
    let folder = Folder::with(&[("a.yaml", &orders(&broker.url(), &service.url()))]);
    let mut forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    for n in 1..=15 {
        publish(broker.port, "order", &n.to_string(), &["-q", "1"]);
    }
    until("all are on their way", || broker.sent_to("forebay") == 15);

    forebay.log_after(&format!("stopping on SIG{signal}"), || forebay.signal(signal));
    service.open();
    let status = forebay.wait_exit();

    assert_eq!(status.code(), Some(0));
    forebay.wait_for_log("stopped; everything was delivered");
    let wanted: Vec<_> = (1..=15).map(|n| n.to_string()).collect();
    assert_eq!(service.bodies.all(), wanted);
    until("all settled", || broker.acknowledged_by("forebay") == 15);
}

#[test]
fn a_status_is_online_while_we_run_and_offline_once_we_stopped_or_were_killed() {
    let broker = Mosquitto::start();
    let text = |more: &str| {
        format!(
            "connections:
  cloud:
    type: mqtt
    url: '{}'
    will: {{ topic: state, payload: offline, qos: 1, retain: true }}
    birth: {{ payload: online }}{more}
sources: {{ beat: {{ type: timer, every: 1h }} }}
sinks: {{ out: {{ from: beat, type: mqtt, connection: cloud, topic: beat }} }}
",
            broker.url()
        )
    };
    let status = || {
        let got = Subscriber::to(broker.port, "state").wait_for("a status", |_| true);
        assert!(got.retained);
        got.payload
    };
    let all = Subscriber::to(broker.port, "state");
    let folder = Folder::with(&[("a.yaml", &text(""))]);
    let mut forebay = Forebay::run(folder.path());
    until("online", || all.payloads() == ["online"]);
    forebay.log_after("reloaded", || folder.replace("a.yaml", &text("\n    keep_alive: 30s")));
    until("online again", || all.payloads() == ["online", "offline", "online"]);
    forebay.signal("TERM");
    assert_eq!((forebay.wait_exit().code(), status()), (Some(0), "offline".to_owned()));

    let mut forebay = Forebay::run(folder.path());
    until("online once more", || all.payloads().len() == 5 && all.payloads()[4] == "online");
    forebay.kill();
    until("offline", || all.payloads().len() == 6 && all.payloads()[5] == "offline");
}

#[test]
fn a_sink_that_is_down_does_not_hold_up_a_stop() {
    let port = free_port();
    let folder = Folder::with(&[
        ("forebay.yaml", "stop_within: 1s\n"),
        (
            "pipelines/a.yaml",
            &format!(
                "connections:
  cloud: {{ type: mqtt, url: 'mqtt://127.0.0.1:{port}' }}
sources:
  beat: {{ type: timer, every: 20ms }}
sinks:
  cloud: {{ from: beat, type: mqtt, connection: cloud }}
  screen: {{ from: beat, type: log }}
"
            ),
        ),
    ]);
    let mut forebay = Forebay::run(folder.path());
    forebay.wait_for_log("will try again");
    forebay.wait_for_log(r#"{"count":20}"#);

    let asked = now();
    forebay.signal("TERM");
    let status = forebay.wait_exit();
    let took = asked.elapsed();

    assert_eq!(status.code(), Some(0));
    // Ending the connection may take its own moment, and a busy machine some more.
    assert!(took < Duration::from_secs(6), "took {took:?}");
    forebay.wait_for_log("not done when the time to stop was up");
    let line = forebay.wait_for_log("stopped with messages that were not delivered; they are lost");
    let left = line.rsplit_once("left=").and_then(|(_, left)| left.parse::<usize>().ok());
    let made = forebay.log.count_of(r#"{"count":"#);
    assert!(left.is_some_and(|left| left.abs_diff(made) <= 1), "of {made} beats: {line}");
}

#[test]
fn an_idle_program_stops_at_once() {
    let folder = Folder::with(&[(
        "a.yaml",
        "sources:\n  beat: { type: timer, every: 1h }\nsinks:\n  screen: { from: beat, type: log }\n",
    )]);
    let mut forebay = Forebay::run(folder.path());
    forebay.wait_for_log(r#"{"count":1}"#);

    let asked = now();
    forebay.signal("TERM");

    assert_eq!(forebay.wait_exit().code(), Some(0));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(2), "took {took:?}");
}
