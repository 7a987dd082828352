use forebay_sdk::{
    Expanded, Expansion, Message, Role,
    testing::{Rig, configure},
    yaml::{self, Limits},
};
use serde_json::{Value, json};

use crate::{crossing, expand::Bridges, rule::read_line};

/// What a bridge is taken apart into, and what was said of it.
fn expand(text: &str) -> (Vec<Expanded>, Vec<String>) {
    let (mut findings, bridges) = (Vec::new(), Bridges);
    let tree = yaml::parse(text, 0, Limits::default(), &mut findings).unwrap();
    yaml::check(&tree, &bridges.schema(), "bridge", tree.span, &mut findings);
    assert_eq!(findings, []);
    let parts = bridges.expand("b", &tree, &mut findings);
    let say = |finding: &forebay_sdk::Finding| format!("{} [{}]", finding.message, finding.label);
    (parts, findings.iter().map(say).collect())
}

/// A bridge between `l` and `r` of one rule.
#[track_caller]
fn of(rules: &str) -> Vec<Expanded> {
    let (parts, said) = expand(&format!("local: l\nremote: r\ntopics: {rules}"));
    assert_eq!(said, <[&str; 0]>::default());
    parts
}

fn settings(parts: &[Expanded], name: &str) -> Value {
    parts.iter().find(|part| part.part == name).unwrap().settings.to_value()
}

#[track_caller]
fn check_wrong(rules: &str, expected: &[&str]) {
    assert_eq!(expand(&format!("local: l\nremote: r\ntopics: {rules}")).1, expected);
}

/// The table of `man mosquitto.conf`.
#[test]
fn a_rule_is_valid_where_mosquitto_says_so() {
    let combined = |pattern: &str, local: &str, remote: &str| {
        let rule = format!(
            "[{{ pattern: '{pattern}', local_prefix: '{local}', remote_prefix: '{remote}' }}]"
        );
        expand(&format!("local: l\nremote: r\ntopics: {rule}")).1
    };
    for (local, remote) in [("l/", "r/"), ("l/", ""), ("", "r/"), ("", "")] {
        assert!(combined("a/#", local, remote).is_empty(), "{local} {remote}");
    }
    assert!(combined("", "l/a", "r/a").is_empty());
    for (local, remote, label) in [
        ("l/", "", "`remote_prefix` is missing: the topic at the remote broker"),
        ("", "r/", "`local_prefix` is missing: the topic at the local broker"),
        ("", "", "expected a pattern, such as `machine/#`"),
    ] {
        let said = format!("a rule without a `pattern` needs both prefixes [{label}]");
        assert_eq!(combined("", local, remote), [said]);
    }
    for (local, remote) in [("a/+/", "b"), ("a", "#")] {
        assert_eq!(combined("x", local, remote).len(), 1, "{local} {remote}");
    }
}

#[test]
fn a_line_is_read_as_mosquitto_reads_it() {
    let read = |line: &str| {
        read_line(line).map(|it| {
            let direction = format!("{:?}", it.direction).to_lowercase();
            [it.pattern, direction, it.qos.to_string(), it.local_prefix, it.remote_prefix].join("|")
        })
    };
    for (line, wanted) in [
        ("machine/#", "machine/#|out|1||"),
        ("# both 2", "#|both|2||"),
        ("a/# in 0 local/ remote/", "a/#|in|0|local/|remote/"),
        ("machine/# out 1 '' site7/", "machine/#|out|1||site7/"),
        ("\"\" both 0 one/topic the/other", "|both|0|one/topic|the/other"),
        ("\"a b/#\"   out", "a b/#|out|1||"),
    ] {
        assert_eq!(read(line).as_deref(), Ok(wanted));
    }
    for (line, wanted) in [
        ("", "expected `PATTERN DIRECTION QOS LOCAL-PREFIX REMOTE-PREFIX`"),
        ("a up", "expected `out`, `in` or `both`, found `up`"),
        ("a out 3", "expected a QoS of 0 to 2, found `3`"),
        ("a out 1 b c d", "expected nothing behind the remote prefix, found `d`"),
        ("'a out", "expected ' at the end of 'a out"),
    ] {
        assert_eq!(read(line), Err(wanted.to_owned()));
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_said_at_its_place() {
    check_wrong(
        "[a/#/b out]",
        &["`a/#/b` fits no topic [expected `#` only as the whole last level]"],
    );
    check_wrong(
        "[a sideways]",
        &["`topics[0]` is no rule [expected `out`, `in` or `both`, found `sideways`]"],
    );
    check_wrong(
        "['# out', a/b out]",
        &["`topics[1]` is never reached [what it is about goes by the rule above]"],
    );
    check_wrong("['# out', a/b in, 'x/# both']", &[]);
    check_wrong(
        "['$share/g/a out']",
        &[
            "a rule of a bridge has no names and no `$share` in its pattern [expected plain `+` and `#`]",
        ],
    );
}

#[test]
fn each_way_is_a_source_a_node_between_and_a_sink() {
    let parts = of("['machine/# out 2 here/ there/', 'commands/# in 0']");
    let names: Vec<(Role, &str)> = parts.iter().map(|part| (part.role, &*part.part)).collect();
    assert_eq!(
        names,
        [
            (Role::Source, "from-local"),
            (Role::Transform, "out"),
            (Role::Sink, "to-remote"),
            (Role::Source, "from-remote"),
            (Role::Transform, "in"),
            (Role::Sink, "to-local"),
        ]
    );
    let source = settings(&parts, "from-local");
    assert_eq!(source["topics"], json!(["here/machine/#"]));
    assert_eq!((&source["bridged"], &source["qos"]), (&json!("one_way"), &json!(2)));
    let rule = &settings(&parts, "out")["rules"][0];
    assert_eq!((&rule["strip"], &rule["add"]), (&json!("here/"), &json!("there/")));
    let sink = settings(&parts, "to-remote");
    assert_eq!((&sink["connection"], &sink["buffer"]), (&json!("r"), &json!({ "store": "spill" })));
    assert_eq!(settings(&parts, "from-remote")["qos"], 0);
    assert!(parts.iter().all(|part| part.origin != forebay_sdk::Span::default()));
}

#[test]
fn settings_in_the_place_of_a_name_make_a_connection_that_all_parts_share() {
    let (parts, said) = expand(
        "local: { type: mqtt, url: 'mqtt://a' }\nremote: r\ntopics: ['# both']\nmust_deliver: true\n\
         buffer: { store: disk }\nmax_qos: 0",
    );
    assert_eq!(said, <[&str; 0]>::default());
    assert_eq!((parts[0].role, &*parts[0].part), (Role::Connection, "local"));
    assert_eq!(settings(&parts, "from-local")["connection"], ":local");
    let sink = settings(&parts, "to-remote");
    assert_eq!((&sink["buffer"], &sink["qos"]), (&json!({ "store": "disk" }), &json!(0)));
    assert_eq!(settings(&parts, "to-local")["must_deliver"], true);
    assert_eq!(settings(&parts, "to-local").get("buffer"), None);
}

#[test]
fn whether_the_remote_broker_is_there_is_said_at_the_local_one_and_goes_no_further() {
    let (parts, said) = expand("local: l\nremote: r\ntopics: ['# out']\nnotifications: {}");
    assert_eq!(said, <[&str; 0]>::default());
    let source = settings(&parts, "state");
    assert_eq!((&source["connection"], &source["topic"]), (&json!("r"), &json!("bridge/b/state")));
    assert_eq!(settings(&parts, "state-in")["mark"], true);
    assert_eq!(settings(&parts, "state-to-local")["connection"], "l");
    let (parts, _) = expand("local: l\nremote: r\ntopics: [a]\nnotifications: { topic: up }");
    assert_eq!(settings(&parts, "state")["topic"], "up");
}

#[test]
fn what_comes_back_is_known_by_the_topics_at_each_end() {
    let bridged = |rules: &str| {
        let parts = of(rules);
        ["from-local", "from-remote"].map(|name| {
            let source = settings(&parts, name);
            source["bridged"] == "both_ways"
        })
    };
    assert_eq!(bridged("['# both']"), [true, true]);
    assert_eq!(bridged("['a/# out', 'b/# in']"), [false, false]);
    assert_eq!(bridged("['a/+/x out', 'a/b/# in']"), [true, true]);
    // Only at one end they are the same.
    assert_eq!(bridged("['a/# out 1 here/', 'a/# in 1 there/']"), [false, true]);
    assert_eq!(bridged("['# out', '$SYS/# in']"), [false, false]);
}

#[test]
fn what_another_rule_asks_for_too_is_asked_for_once() {
    let parts = of("['a/b out 2 \"\" x/', 'a/# out', 'c out']");
    assert_eq!(settings(&parts, "from-local")["topics"], json!(["a/#", "c"]));
}

/// One way of a bridge of that name.
fn middle(text: &str) -> Rig {
    Rig::new(&crossing(), text)
}

fn message(topic: &str, mqtt: Value) -> Message {
    let mut message = Message::new(topic, json!(1));
    message.meta.insert("mqtt", mqtt);
    message
}

/// The topic and what is said of the publication behind the node. None when it was left out.
fn through(rig: &mut Rig, message: Message) -> Option<(String, Value)> {
    let sent = rig.send(message).unwrap();
    let sent = sent.into_iter().next()?.1.message;
    Some((sent.topic.to_string(), sent.meta.get("mqtt").unwrap().clone()))
}

#[test]
fn topics_qos_and_retain_are_as_the_first_rule_that_fits_says() {
    let mut rig = middle(
        "towards: remote\nmax_hops: 0\nrules:\n  - { filter: 'a/#', strip: a/, add: site7/, qos: 1 }\n\
         \u{20} - { filter: '#', qos: 0, retain: false }",
    );
    let said = |qos: u8, retain: bool| json!({ "qos": qos, "retain": retain, "dup": false });
    let mut check = |topic: &str, was: Value, wanted: &str, is: Value| {
        assert_eq!(through(&mut rig, message(topic, was)), Some((wanted.to_owned(), is)));
    };
    check("a/b/c", said(2, true), "site7/b/c", said(1, true));
    check("a/b", said(0, false), "site7/b", said(0, false));
    check("a", said(1, false), "site7", said(1, false));
    check("other", said(2, true), "other", said(0, false));
}

#[test]
fn a_topic_that_no_rule_is_about_is_an_error() {
    let mut rig = middle("towards: local\nrules: [{ filter: a }]");
    let said = rig.send(message("b", json!({}))).unwrap_err();
    assert_eq!(said, "no rule of the bridge is about the topic `b`");
}

#[test]
fn hops_are_counted_as_hivemq_edge_does() {
    let mut rig = middle("towards: remote\nmax_hops: 2\nrules: [{ filter: '#' }]");
    let mut hops = |before: Value| {
        let (_, said) = through(&mut rig, message("a", json!({ "user": before })))?;
        Some(said["user"]["hmq-bridge-hop-count"].clone())
    };
    assert_eq!(hops(json!({})), Some(json!("1")));
    assert_eq!(hops(json!({ "hmq-bridge-hop-count": "1" })), Some(json!("2")));
    assert_eq!(hops(json!({ "hmq-bridge-hop-count": "2" })), None);
    assert_eq!(hops(json!({ "hmq-bridge-hop-count": ["1", "7"] })), None);
    assert_eq!(hops(json!({ "hmq-bridge-hop-count": "many" })), Some(json!("1")));
}

#[test]
fn what_one_way_has_marked_the_other_leaves_out() {
    let way = |towards: &str| format!("towards: {towards}\nmark: true\nrules: [{{ filter: '#' }}]");
    let at = |bridge: &str, part: &str, text: &str| {
        let name = format!("p/{bridge}:{part}").into();
        Rig::at(&crossing(), text, forebay_sdk::Site { name, ..forebay_sdk::testing::site(None) })
    };
    for (first, second) in
        [(("out", "remote"), ("in", "local")), (("in", "local"), ("out", "remote"))]
    {
        let mut there = at("b", first.0, &way(first.1));
        let (topic, said) = through(&mut there, message("x", json!({ "qos": 1 }))).unwrap();
        let mut back = at("b", second.0, &way(second.1));
        assert_eq!(through(&mut back, message(&topic, said.clone())), None);
        // Another bridge takes it on, and the mark of the first away.
        let mut other = at("c", second.0, &way(second.1));
        let (_, on) = through(&mut other, message(&topic, said.clone())).unwrap();
        assert_ne!(on["user"]["forebay-bridge"], said["user"]["forebay-bridge"]);
    }
}

#[test]
fn the_node_between_is_checked() {
    let said = |text: &str| configure(&crossing(), text).err().unwrap_or_default();
    assert_eq!(
        said("towards: remote\nrules: [{ filter: 'a/#/b' }, { filter: 'b/#', strip: a/ }]"),
        [
            "bad-topic: `rules[0].filter` fits no topic [expected `#` only as the whole last level]",
            "setting-value: `rules[1].strip` is not how the topics begin [expected the beginning of `b/#`]",
        ]
    );
}
