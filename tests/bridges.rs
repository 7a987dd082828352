//! Bridges between two brokers: nothing goes round, nothing comes twice, nothing is lost. Against Mosquitto on both
//! sides, and against the broker in the program.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{
    Folder, Forebay, Mosquitto, Proxy, Publisher, Subscriber, forebay, free_port, now, publish,
    throughout, until,
};

/// How long a message that goes round would have been seen.
const LONG_ENOUGH: Duration = Duration::from_millis(700);

/// Which MQTT is spoken.
#[derive(Clone, Copy, PartialEq)]
enum Speech {
    V311,
    V5,
}
use Speech::{V5, V311};

impl Speech {
    /// A session that the broker keeps.
    fn connection(self, id: &str, port: u16) -> String {
        let version = match self {
            V311 => "bridge: true",
            V5 => "version: '5'",
        };
        format!(
            "{{ type: mqtt, url: 'mqtt://127.0.0.1:{port}', client_id: {id}, clean_session: false, {version} }}"
        )
    }
}

/// A bridge of these rules between two ports.
fn bridge(speech: Speech, local: u16, remote: u16, rules: &[&str]) -> String {
    let (local, remote) = (speech.connection("near", local), speech.connection("far", remote));
    format!(
        "connections:\n  l: {local}\n  r: {remote}\n\
         bridges:\n  b: {{ local: l, remote: r, topics: {rules:?} }}\n"
    )
}

/// The program with a bridge that subscribes at both ends, or at one.
struct Bridged {
    left: Mosquitto,
    right: Mosquitto,
    link: Proxy,
    folder: Folder,
    data: Folder,
    forebay: Forebay,
}

impl Bridged {
    #[track_caller]
    fn start(speech: Speech, rules: &[&str]) -> Bridged {
        let (left, right) = (Mosquitto::start(), Mosquitto::start());
        let link = Proxy::to(right.port);
        let folder = Folder::with(&[("a.yaml", &bridge(speech, left.port, link.port, rules))]);
        let data = Folder::new();
        let forebay = Forebay::run_on(folder.path(), data.path());
        let bridged = Bridged { left, right, link, folder, data, forebay };
        bridged.wait_for_subscriptions(rules);
        bridged
    }

    #[track_caller]
    fn wait_for_subscriptions(&self, rules: &[&str]) {
        let goes =
            |way: &str| rules.iter().any(|rule| rule.contains(way) || rule.contains(" both"));
        if goes(" out") {
            until("subscribed near", || self.left.log.count_of("Sending SUBACK to near") > 0);
        }
        if goes(" in") {
            until("subscribed far", || self.right.log.count_of("Sending SUBACK to far") > 0);
        }
    }

    /// What the bridge has published at each end.
    fn published(&self) -> (usize, usize) {
        let published = |broker: &Mosquitto, id: &str| {
            broker.log.count_of(&format!("Received PUBLISH from {id} "))
        };
        (published(&self.left, "near"), published(&self.right, "far"))
    }
}

#[track_caller]
fn check_overlapping(speech: Speech) {
    let bridged = Bridged::start(speech, &["# both 1"]);
    let near = Subscriber::to(bridged.left.port, "#");
    let far = Subscriber::to(bridged.right.port, "#");
    for n in 0..20 {
        publish(bridged.left.port, "from/left", &format!("l{n}"), &["-q", "1"]);
        publish(bridged.right.port, "from/right", &format!("r{n}"), &["-q", "1"]);
    }
    until("all are there", || near.got().len() == 40 && far.got().len() == 40);
    throughout(LONG_ENOUGH, "nothing goes round", || {
        near.got().len() == 40 && far.got().len() == 40 && bridged.published() == (20, 20)
    });
}

#[test]
fn a_bridge_both_ways_loops_with_nothing_in_mqtt_5() {
    check_overlapping(V5);
}

#[test]
fn a_bridge_both_ways_loops_with_nothing_in_mqtt_3() {
    check_overlapping(V311);
}

/// eclipse-mosquitto/mosquitto#2248, #1729: retained messages were sent dozens of times.
#[track_caller]
fn check_retained(speech: Speech) {
    let mut bridged = Bridged::start(speech, &["# both 1"]);
    publish(bridged.left.port, "state/left", "on", &["-q", "1", "-r"]);
    publish(bridged.right.port, "state/right", "off", &["-q", "1", "-r"]);
    until("both went over", || bridged.published() == (1, 1));
    // So are the acknowledgements: without them a message is sent once more.
    throughout(LONG_ENOUGH, "they are there", || bridged.published() == (1, 1));
    for (port, topic) in [(bridged.left.port, "state/right"), (bridged.right.port, "state/left")] {
        Subscriber::to(port, topic).wait_for("the retain flag", |got| got.retained);
    }
    for round in 2..5 {
        bridged.link.cut();
        until("it asks again", || bridged.right.log.count_of("Sending SUBACK to far") == round);
    }
    bridged.left.stop();
    bridged.left.resume();
    until("it asks again", || bridged.left.log.count_of("Sending SUBACK to near") >= 2);
    throughout(LONG_ENOUGH, "nothing goes over again", || bridged.published() == (1, 1));
    // What changed goes over, and so does what is said again.
    for (n, payload) in ["off", "off", "on"].into_iter().enumerate() {
        publish(bridged.left.port, "state/left", payload, &["-q", "1", "-r"]);
        until("it went over", || bridged.published() == (1, 2 + n));
    }
    // A retained message that was taken back is taken back at the other end.
    publish(bridged.left.port, "state/left", "", &["-q", "1", "-r"]);
    until("it went over", || bridged.published() == (1, 5));
    let late = Subscriber::to(bridged.right.port, "state/#");
    late.wait_for("what is still kept", |got| got.topic == "state/right");
    assert_eq!(late.got().len(), 1);
}

#[test]
fn retained_messages_go_over_once_in_mqtt_5() {
    check_retained(V5);
}

#[test]
fn retained_messages_go_over_once_in_mqtt_3() {
    check_retained(V311);
}

/// Messages both ways while something fails; then all of them are there, and at QoS 1.
#[track_caller]
fn check_loses_nothing(speech: Speech, fail: impl Fn(&mut Bridged), repair: impl Fn(&mut Bridged)) {
    let rules = ["out/# out 1 '' site7/", "in/# in 1 '' site7/"];
    let mut bridged = Bridged::start(speech, &rules);
    let near = Subscriber::remembered(bridged.left.port, "in/#");
    let far = Subscriber::remembered(bridged.right.port, "site7/out/#");
    let mut sent = BTreeSet::new();
    let mut send = |bridged: &Bridged, left: bool, right: bool| {
        let n = sent.len().to_string();
        if left {
            publish(bridged.left.port, "out/n", &n, &["-q", "1"]);
        }
        if right {
            publish(bridged.right.port, "site7/in/n", &n, &["-q", "1"]);
        }
        sent.insert((n, left, right));
        sent.clone()
    };
    for _ in 0..10 {
        send(&bridged, true, true);
    }
    fail(&mut bridged);
    let end = now() + Duration::from_secs(3);
    while now() < end {
        let is_up =
            |broker: &Mosquitto| std::net::TcpStream::connect(("127.0.0.1", broker.port)).is_ok();
        let (left, right) = (is_up(&bridged.left), is_up(&bridged.right));
        send(&bridged, left, right);
    }
    repair(&mut bridged);
    let sent = send(&bridged, true, true);
    let arrived =
        |subscriber: &Subscriber| subscriber.payloads().into_iter().collect::<BTreeSet<_>>();
    let wanted = |is_of: fn(&(String, bool, bool)) -> bool| {
        sent.iter().filter(|it| is_of(it)).map(|it| it.0.clone()).collect::<BTreeSet<_>>()
    };
    let (lefts, rights) = (wanted(|it| it.1), wanted(|it| it.2));
    until("all of the left are at the right", || arrived(&far) == lefts);
    until("all of the right are at the left", || arrived(&near) == rights);
    assert!(far.got().iter().all(|got| got.topic == "site7/out/n" && got.qos == 1));
}

#[test]
fn a_bridge_loses_nothing_when_the_broker_here_restarts() {
    check_loses_nothing(V311, |it| it.left.stop(), |it| it.left.resume());
}

#[test]
fn a_bridge_loses_nothing_when_the_broker_far_away_restarts() {
    check_loses_nothing(V5, |it| it.right.stop(), |it| it.right.resume());
}

#[test]
fn a_bridge_loses_nothing_in_a_black_hole() {
    check_loses_nothing(
        V5,
        |it| it.link.swallow(),
        |it| {
            it.link.heal();
            it.link.cut();
        },
    );
}

#[test]
fn a_bridge_loses_nothing_when_it_is_killed() {
    for speech in [V311, V5] {
        check_loses_nothing(
            speech,
            |it| it.forebay.kill(),
            |it| it.forebay = Forebay::run_on(it.folder.path(), it.data.path()),
        );
    }
}

#[test]
fn a_bridge_that_is_killed_while_the_link_is_silent_loses_nothing() {
    check_loses_nothing(
        V311,
        |it| {
            it.link.swallow();
            for n in 0..20 {
                publish(it.left.port, "out/n", &format!("{n}"), &["-q", "1"]);
            }
            it.forebay.kill();
            it.forebay = Forebay::run_on(it.folder.path(), it.data.path());
        },
        |it| {
            it.link.heal();
            it.link.cut();
        },
    );
}

/// eclipse-mosquitto/mosquitto#2604: with a clean session far away, what was queued here was lost by a restart.
#[test]
fn what_is_queued_here_survives_a_restart_whatever_the_session_far_away() {
    let (left, mut right) = (Mosquitto::start(), Mosquitto::start());
    let text = bridge(V311, left.port, right.port, &["out/# out 1"]);
    let text = text.replacen("client_id: far, clean_session: false", "clean_session: true", 1);
    let (folder, data) = (Folder::with(&[("a.yaml", &text)]), Folder::new());
    let far = Subscriber::remembered(right.port, "out/#");
    let mut forebay = Forebay::run_on(folder.path(), data.path());
    until("subscribed near", || left.log.count_of("Sending SUBACK to near") > 0);
    right.stop();
    for n in 0..30 {
        publish(left.port, "out/n", &format!("{n}"), &["-q", "1"]);
    }
    forebay.kill();
    let _forebay = Forebay::run_on(folder.path(), data.path());
    right.resume();
    let wanted: BTreeSet<String> = (0..30).map(|n| n.to_string()).collect();
    until("all arrive", || far.payloads().into_iter().collect::<BTreeSet<_>>() == wanted);
}

/// eclipse-mosquitto/mosquitto#3098: what was published while the bridge was away never came.
#[test]
fn what_is_published_far_away_while_the_bridge_is_gone_comes_later() {
    let mut bridged = Bridged::start(V5, &["a/+ both 2"]);
    let near = Subscriber::to(bridged.left.port, "a/+");
    bridged.forebay.kill();
    publish(bridged.right.port, "a/x", "late", &["-q", "2"]);
    bridged.forebay = Forebay::run_on(bridged.folder.path(), bridged.data.path());
    near.wait_for("what came meanwhile", |got| got.payload == "late");
}

/// eclipse-mosquitto/mosquitto#3275, #57: after a new connection in the middle of a QoS 2 message no PUBREL came, or the bridge
/// hung up for ever on what it did not know any more.
#[test]
fn a_link_that_breaks_in_the_middle_of_qos_2_doubles_and_loses_nothing() {
    for speech in [V311, V5] {
        let bridged = Bridged::start(speech, &["out/# out 2", "in/# in 2"]);
        let near = Subscriber::to(bridged.left.port, "in/#");
        let far = Subscriber::to(bridged.right.port, "out/#");
        let mut wanted = Vec::new();
        // Were it three in a row, the broker might be the one who hangs up, on a message that it does not take.
        for round in 0..3 {
            for n in 0..5 {
                let payload = format!("{round}-{n}");
                publish(bridged.left.port, "out/n", &payload, &["-q", "2"]);
                publish(bridged.right.port, "in/n", &payload, &["-q", "2"]);
                wanted.push(payload);
            }
            if round < 2 {
                bridged.link.cut();
            }
        }
        until("all are there", || far.got().len() >= 15 && near.got().len() >= 15);
        throughout(LONG_ENOUGH, "none comes twice", || {
            far.payloads() == wanted && near.payloads() == wanted
        });
    }
}

/// eclipse-mosquitto/mosquitto#3002, #2362: with more messages waiting than may be on their way, the bridge did not come up
/// again, or sent nothing at QoS 1 any more.
#[test]
fn a_bridge_comes_up_again_with_more_waiting_than_may_be_on_its_way() {
    for speech in [V311, V5] {
        let mut bridged = Bridged::start(speech, &["out/# out 2"]);
        let far = Subscriber::remembered(bridged.right.port, "out/#");
        bridged.right.stop();
        for qos in [1, 2] {
            let mut publisher = Publisher::at_qos(bridged.left.port, "out/n", qos);
            (0..300).for_each(|n| publisher.send(&format!("{qos}-{n}")));
            publisher.finish();
        }
        bridged.right.resume();
        let count = || far.payloads().into_iter().collect::<BTreeSet<_>>().len();
        until("all are there", || count() == 600);
        publish(bridged.left.port, "out/n", "last", &["-q", "1"]);
        far.wait_for("what comes later", |got| got.payload == "last");
    }
}

/// The broker in the program on the one side: what either keeps goes over once.
#[test]
fn retained_messages_go_over_once_from_and_to_the_own_broker() {
    for speech in [V311, V5] {
        let remote = Mosquitto::start();
        let (port, link) = (free_port(), Proxy::to(remote.port));
        let text = format!(
            "connections:\n  hall: {{ type: broker, listen: ['127.0.0.1:{port}'] }}\n  r: {}\n\
             bridges:\n  b: {{ local: hall, remote: r, topics: ['# both 1'] }}\n",
            speech.connection("far", link.port)
        );
        let (folder, data) = (Folder::with(&[("a.yaml", &text)]), Folder::new());
        let mut forebay = Forebay::run_on(folder.path(), data.path());
        let asked = |times: usize| {
            until("subscribed", || remote.log.count_of("Sending SUBACK to far") >= times);
        };
        asked(1);
        let sent = || remote.log.count_of("Received PUBLISH from far ");
        publish(port, "state/here", "on", &["-q", "1", "-r"]);
        publish(remote.port, "state/there", "off", &["-q", "1", "-r"]);
        let kept = |port: u16, topic: &str| {
            let late = Subscriber::to(port, topic);
            late.wait_for("what is kept", |got| got.retained).payload
        };
        until("it went over", || sent() == 1);
        assert_eq!(kept(remote.port, "state/here"), "on");
        assert_eq!(kept(port, "state/there"), "off");
        let near = Subscriber::to(port, "state/#");
        until("it has what is kept", || near.got().len() == 2);
        link.cut();
        asked(2);
        throughout(LONG_ENOUGH, "nothing goes over again", || sent() == 1 && near.got().len() == 2);
        // What is taken back here is taken back there, and the other way round.
        publish(port, "state/here", "", &["-q", "1", "-r"]);
        publish(remote.port, "state/there", "", &["-q", "1", "-r"]);
        until("both went over", || sent() == 2 && near.got().len() == 4);
        publish(port, "state/here", "again", &["-q", "1", "-r"]);
        until("it went over", || sent() == 3);
        forebay.kill();
        forebay = Forebay::run_on(folder.path(), data.path());
        asked(3);
        assert_eq!(kept(port, "state/here"), "again");
        let late = Subscriber::to(remote.port, "state/#");
        late.wait_for("what is still kept", |got| got.payload == "again");
        throughout(LONG_ENOUGH, "nothing else is", || late.got().len() == 1);
        drop(forebay);
    }
}

/// The broker in the program on the one side, which other nodes use too.
#[track_caller]
fn check_own_broker(speech: Speech) {
    let remote = Mosquitto::start();
    let port = free_port();
    let text = format!(
        "connections:\n  hall: {{ type: broker, listen: ['127.0.0.1:{port}'] }}\n  r: {}\n\
         bridges:\n  b: {{ local: hall, remote: r, topics: ['# both 1'] }}\n\
         sources:\n  beat: {{ type: timer, every: 1h, topic: own/beat }}\n\
         sinks:\n  own: {{ type: mqtt, connection: hall, from: beat }}\n",
        speech.connection("far", remote.port)
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let far = Subscriber::to(remote.port, "#");
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || remote.log.count_of("Sending SUBACK to far") > 0);
    far.wait_for("what a node of the program published", |got| got.topic == "own/beat");
    let near = Subscriber::to(port, "#");
    for n in 0..10 {
        publish(port, "from/hall", &format!("h{n}"), &["-q", "1"]);
        publish(remote.port, "from/far", &format!("f{n}"), &["-q", "1"]);
    }
    until("all are there", || near.got().len() == 20 && far.got().len() == 21);
    throughout(LONG_ENOUGH, "nothing goes round", || {
        near.got().len() == 20 && far.got().len() == 21
    });
}

#[test]
fn a_bridge_from_the_own_broker_loops_with_nothing_in_mqtt_5() {
    check_own_broker(V5);
}

#[test]
fn a_bridge_from_the_own_broker_loops_with_nothing_in_mqtt_3() {
    check_own_broker(V311);
}

#[test]
fn it_is_said_here_whether_the_broker_far_away_is_there() {
    let (left, mut right) = (Mosquitto::start(), Mosquitto::start());
    let text = bridge(V311, left.port, right.port, &["# both 1"]);
    let text = text.trim_end().strip_suffix('}').expect("it ends so");
    let folder = Folder::with(&[("a.yaml", &format!("{text}, notifications: {{}} }}\n"))]);
    let near = Subscriber::to(left.port, "bridge/b/state");
    let far = Subscriber::to(right.port, "#");
    let _forebay = Forebay::run(folder.path());
    let is_said = |state: &str| near.payloads().last().is_some_and(|last| last == state);
    until("it is there", || is_said("1"));
    right.stop();
    until("it is not there", || is_said("0"));
    right.resume();
    until("it is there", || is_said("1"));
    // It is about the bridge, and stays on this side.
    throughout(LONG_ENOUGH, "nothing of it goes over", || far.got().is_empty());
}

#[test]
fn a_lazy_bridge_connects_when_there_is_something_to_say() {
    let (left, right) = (Mosquitto::start(), Mosquitto::start());
    let text = bridge(V5, left.port, right.port, &["# out 1"]);
    let text = text.replacen("client_id: far", "client_id: far, start: lazy, idle_close: 1s", 1);
    let folder = Folder::with(&[("a.yaml", &text)]);
    let far = Subscriber::to(right.port, "#");
    let _forebay = Forebay::run(folder.path());
    until("subscribed near", || left.log.count_of("Sending SUBACK to near") > 0);
    for n in 1..=2 {
        throughout(LONG_ENOUGH, "nobody comes without a reason", || {
            right.connections_of("far") == n - 1
        });
        publish(left.port, "x", &format!("{n}"), &["-q", "1"]);
        far.wait_for("the message", |got| got.payload == n.to_string());
        until("it hangs up", || right.log.count_of("Received DISCONNECT from far") == n);
    }
}

/// What lint says of a folder with this pipeline.
fn lint(text: &str) -> String {
    let folder = Folder::with(&[("a.yaml", text)]);
    let path = folder.path().display().to_string();
    let said = forebay(["lint", "--format", "short", &path]).stdout;
    String::from_utf8(said).expect("it is text").replace(&format!("{path}/"), "")
}

#[test]
fn the_words_of_mosquitto_say_what_works_here() {
    let bridge = |more: &str| {
        lint(&format!(
            "connections:\n  a: {{ type: broker, listen: [] }}\n  \
             b: {{ type: mqtt, url: 'mqtt://10.0.0.1', client_id: x, clean_session: false }}\n\
             bridges:\n  up:\n    local: a\n    remote: b\n    {more}\n"
        ))
    };
    for (theirs, said) in [
        ("topic: ['x/# out']", "here it is called `topics`"),
        ("address: 10.0.0.1", ""),
        ("remote_username: me", ""),
        ("try_private: true", ""),
    ] {
        let lint = bridge(
            &format!("topics: ['x/# out']\n    {theirs}")
                .replace("topics: ['x/# out']\n    topic:", "topic:"),
        );
        let setting = theirs.split(':').next().expect("it has a name");
        assert!(
            lint.contains(&format!("has no setting `{setting}`")) && lint.contains(said),
            "{lint}"
        );
    }
    let folder = Folder::with(&[(
        "a.yaml",
        "connections: { a: { type: broker } }\nbridges: { u: { local: a, remote: a, topics: [x], remote_username: me } }\n",
    )]);
    let path = folder.path().display().to_string();
    let said = String::from_utf8(forebay(["lint", &path]).stdout).expect("it is text");
    assert!(
        said.contains("it stands with the settings of the connection that `remote` names"),
        "{said}"
    );
}

#[test]
fn two_bridges_that_lead_back_to_where_a_message_began_are_found() {
    let brokers = "connections:\n  a: { type: broker, listen: [] }\n  \
                   b: { type: mqtt, url: 'mqtt://10.0.0.1', client_id: x, clean_session: false }\n  \
                   c: { type: mqtt, url: 'mqtt://10.0.0.1', client_id: y, clean_session: false }\n";
    let circle = format!(
        "{brokers}bridges:\n  there: {{ local: a, remote: b, topics: ['x/# out 1 \"\" site/'] }}\n  \
         back: {{ local: a, remote: c, topics: ['x/# in 1 \"\" site/'] }}\n"
    );
    assert!(lint(&circle).contains("warning[message-loop]"), "{}", lint(&circle));
    let apart = circle.replace("in 1 \"\" site/", "in 1 \"\" other/");
    assert_eq!(lint(&apart), "");
}

#[test]
fn the_nodes_of_a_bridge_are_shown_as_if_they_were_written() {
    let text = "connections:\n  a: { type: broker, listen: [] }\n  \
                b: { type: mqtt, url: 'mqtt://10.0.0.1', password: '${env:NOBODY:-hunter2}', username: me }\n\
                bridges:\n  up: { local: a, remote: b, topics: ['x/# out 1'] }\n";
    let folder = Folder::with(&[("a.yaml", text)]);
    let path = folder.path().display().to_string();
    let said = String::from_utf8(forebay(["plan", "--expand", &path]).stdout).expect("it is text");
    for part in
        ["up:from-local: { type: \"mqtt\"", "up:out: {", "up:to-remote: {", "topics: [\"x/#\"]"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    let plain = "connections:\n  a: { type: broker, listen: [] }\n";
    folder.write("a.yaml", &format!("{plain}sources: {{ t: {{ type: timer, every: 1s }} }}\n"));
    let said = String::from_utf8(forebay(["plan", "--expand", &path]).stdout).expect("it is text");
    assert_eq!(said, "all nodes are written as they are\n");
}

#[test]
fn an_imported_configuration_runs_and_nothing_of_it_is_lost() {
    let remote = Mosquitto::start();
    let folder = Folder::new();
    let parts = folder.path().join("conf.d");
    folder.write("conf.d/site.conf", &format!(
        "connection up\naddress 127.0.0.1:{}\nremote_clientid far\ntopic x/# both 1 \"\" site/\nround_robin true\n",
        remote.port
    ));
    folder.write("conf/main.conf", &format!("include_dir {}\nlog_dest stdout\n", parts.display()));
    let file = folder.path().join("conf/main.conf");
    let made = forebay(["import".as_ref(), file.as_os_str()]);
    assert!(made.status.success());
    let text = String::from_utf8(made.stdout).expect("it is text");
    for comment in
        ["main.conf:2: log_dest stdout   # the log", "site.conf:5: round_robin true   # each new"]
    {
        assert!(text.contains(comment), "{comment}: {text}");
    }
    let port = free_port();
    let text = text.replace("127.0.0.1:1883", &format!("127.0.0.1:{port}"));
    let site = Folder::with(&[("a.yaml", &text)]);
    let _forebay = Forebay::run(site.path());
    let far = Subscriber::to(remote.port, "#");
    until("subscribed", || remote.log.count_of("Sending SUBACK to far") > 0);
    publish(port, "x/1", "there", &["-q", "1"]);
    far.wait_for("the message", |got| got.topic == "site/x/1" && got.payload == "there");
}
