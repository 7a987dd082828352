use std::path::Path;

use super::mosquitto::{convert, lines};
use crate::{
    config::load,
    lint::{self, report::Format},
    plugins,
};

fn import_with(text: &str, files: &[(&str, &str)]) -> String {
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    convert(lines("mosquitto.conf", text), &read)
}

fn import(text: &str) -> String {
    import_with(text, &[])
}

/// What lint says of it that is an error.
fn errors(pipeline: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), pipeline).unwrap();
    let draft = load(folder.path(), &plugins::types(), &|_| None).unwrap();
    let checked = lint::lint(draft);
    let errors: Vec<_> = checked
        .findings
        .into_iter()
        .filter(|finding| finding.level == forebay_sdk::Level::Error)
        .collect();
    lint::report::render(&errors, &checked.texts, Format::Short, false)
}

/// The YAML, without what is said in front of it.
#[track_caller]
fn check(text: &str, expected: &str) {
    let pipeline = import(text);
    assert_eq!(errors(&pipeline), "", "{pipeline}");
    let (_, body) = pipeline.split_once("connections:\n").unwrap();
    assert_eq!(body, expected, "{pipeline}");
}

#[test]
fn a_bridge_becomes_a_connection_and_a_bridge() {
    check(
        "connection cloud\naddress broker.example:8883 other.example\nremote_clientid gw-1\n\
         remote_username me\nremote_password \"s3cret\ncleansession false\nkeepalive_interval 30\n\
         bridge_tls_version tlsv1.2\nbridge_alpn mqtt\ntopic machine/# out 1 \"\" site7/\n\
         topic cmd/# IN 2\ntopic \"\" both 0 here/x there/x\n",
        "  broker:\n    type: broker\n    listen: [\"127.0.0.1:1883\"]\n\n  cloud:\n    type: mqtt\n    \
         url: \"mqtts://broker.example:8883\"\n    fallback: [\"mqtts://other.example:1883\"]\n    bridge: true\n    \
         client_id: \"gw-1\"\n    username: \"me\"\n    password: \"\\\"s3cret\"\n    clean_session: false\n    \
         keep_alive: 30s\n    alpn: \"mqtt\"\n    min_tls: \"1.2\"\n\nbridges:\n  cloud:\n    local: broker\n    \
         remote: cloud\n    topics:\n      - \"machine/# out 1 '' site7/\"\n      - \"cmd/# in 2\"\n      - \
         \"'' both 0 here/x there/x\"\n",
    );
}

#[test]
fn a_bridge_that_must_not_say_so_speaks_mqtt_5_where_messages_would_come_back() {
    let of = |more: &str| {
        let pipeline = import(&format!("connection a\naddress h\ntry_private false\n{more}"));
        assert_eq!(errors(&pipeline), "", "{pipeline}");
        (pipeline.contains("\n    version: \"5\""), pipeline.contains("bridge: true"))
    };
    assert_eq!(of("topic # both 0\n"), (true, false));
    assert_eq!(of("topic # out 0\n"), (false, false));
    assert_eq!(of("bridge_protocol_version mqttv50\ntopic # out 0\n"), (true, false));
}

#[test]
fn listeners_become_those_of_the_broker() {
    let listen = |text: &str| {
        let pipeline = import(text);
        assert_eq!(errors(&pipeline), "", "{pipeline}");
        let mut lines = pipeline.lines().filter(|line| line.contains("listen: ["));
        let said = lines.next().unwrap().trim().to_owned();
        (
            said,
            lines.next().map(|line| line.trim().to_owned()),
            pipeline.contains("anonymous: true"),
        )
    };
    let local = "listen: [\"127.0.0.1:1883\"]".to_owned();
    assert_eq!(listen(""), (local, None, false));
    // Nobody gets in there in Mosquitto either.
    for (text, shut) in [
        ("listener 1884 127.0.0.1", "# listen: [\"127.0.0.1:1884\"]"),
        ("port 1885\nbind_address localhost", "# listen: [\"127.0.0.1:1885\"]"),
    ] {
        assert_eq!(listen(text), ("listen: []".to_owned(), Some(shut.to_owned()), false));
    }
    let open = "allow_anonymous true\nlistener 1883\nlistener 9001 ::1\nprotocol websockets";
    let said = "listen: [\"0.0.0.0:1883\", { at: \"[::1]:9001\", websocket: /mqtt }]";
    assert_eq!(listen(open), (said.to_owned(), None, true));
}

#[test]
fn a_listener_for_users_does_not_become_one_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pw").display().to_string();
    std::fs::write(&file, "").unwrap();
    let text = |before: &str| {
        format!(
            "per_listener_settings true\nlistener 1884\n{before}listener 1883\nallow_anonymous true"
        )
    };
    let pipeline = import_with(&text(&format!("password_file {file}\n")), &[(&file, "")]);
    let expected = "    listen: [{ at: \"0.0.0.0:1884\", anonymous: false }, \"0.0.0.0:1883\"]\n";
    assert!(pipeline.contains(expected), "{pipeline}");
    assert_eq!(errors(&pipeline), "", "{pipeline}");
    let pipeline = import(&text(""));
    assert!(pipeline.contains("    listen: [\"0.0.0.0:1883\"]\n"), "{pipeline}");
    assert!(pipeline.contains("    # listen: [\"0.0.0.0:1884\"]\n"), "{pipeline}");
    assert_eq!(errors(&pipeline), "", "{pipeline}");
}

#[test]
fn a_listener_with_tls_became_none() {
    let text = "listener 8883\ncertfile /c.pem\nkeyfile /k.pem\ncafile /ca.pem\nrequire_certificate true\n\
                use_identity_as_username true\ntls_version tlsv1.3\n";
    let here = import_with(text, &[("/c.pem", ""), ("/k.pem", ""), ("/ca.pem", "")]);
    let expected = "    listen: [{ at: \"0.0.0.0:8883\", cert: \"/c.pem\", key: \"/k.pem\", \
                    ca: \"/ca.pem\", min_tls: \"1.3\" }]\n";
    assert!(here.contains(expected), "{here}");
    // Never without TLS in its place.
    let elsewhere = import(text);
    assert!(elsewhere.contains("    listen: []\n"), "{elsewhere}");
    assert!(elsewhere.contains("# its certificates are not on this machine\n"), "{elsewhere}");
    assert_eq!(errors(&elsewhere), "", "{elsewhere}");
}

#[test]
fn users_and_rights_were_only_comments() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("passwd").display().to_string();
    std::fs::write(&users, "").unwrap();
    let text = format!("listener 1883\npassword_file {users}\nacl_file /etc/mosquitto/acl\n");
    let acl = "# rights\ntopic read news\nuser alice\ntopic a/#\ntopic deny a/secret\nuser bob b\n\
               topic write b c\npattern read u/%u\ntopic sideways x\nfrobnicate\ntopic a#\n";
    let pipeline = import_with(&text, &[(&users, ""), ("/etc/mosquitto/acl", acl)]);
    assert_eq!(errors(&pipeline), "", "{pipeline}");
    let expected = format!(
        "    listen: [\"0.0.0.0:1883\"]\n    password_file: \"{users}\"\n    access:\n      \
         - {{ topic: \"news\", allow: read, anonymous: true }}\n      \
         - {{ topic: \"a/#\", allow: readwrite, users: [\"alice\"] }}\n      \
         - {{ topic: \"a/secret\", allow: deny, users: [\"alice\"] }}\n      \
         - {{ topic: \"b c\", allow: write, users: [\"bob b\"] }}\n      \
         - {{ topic: \"u/%u\", allow: read }}\n      \
         # topic sideways x   # is no rule\n      # frobnicate   # is no rule\n      # topic a#   # is no rule\n"
    );
    assert!(pipeline.contains(&expected), "{pipeline}");
    let elsewhere = import(&text);
    assert!(elsewhere.contains("    access: []   # /etc/mosquitto/acl is not on"), "{elsewhere}");
    assert!(elsewhere.contains("    listen: []\n"), "{elsewhere}");
    assert_eq!(errors(&elsewhere), "", "{elsewhere}");
}

/// Every option of the manual, with a value that it may have.
const EVERY_OPTION: &str = include_str!("every_option.conf");

#[test]
fn no_line_is_dropped_in_silence() {
    for line in EVERY_OPTION.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let option = line.split(' ').next().unwrap();
        let alone = ["connection b\naddress h\n", "listener 1884\n", ""].map(|before| {
            let (without, with) = (import(before), import(&format!("{before}{line}\n")));
            assert_eq!(errors(&with), "", "{with}");
            without != with
        });
        // What says no more than what is so anyway.
        let is_default = [
            "allow_anonymous false",
            "per_listener_settings",
            "notifications",
            "notification_topic",
            "idle_timeout",
            "threshold",
            "start_type automatic",
            "bridge_insecure false",
            "protocol mqtt",
            "try_private true",
            "cleansession false",
            "keepalive_interval 60",
            "bridge_protocol_version mqttv311",
            "bridge_outgoing_retain true",
            "bridge_keyfile",
            "bridge_cafile",
        ];
        let is_said = alone.contains(&true) || is_default.iter().any(|it| line.starts_with(it));
        assert!(is_said, "`{option}` leaves no trace");
    }
    let pipeline = import(EVERY_OPTION);
    assert_eq!(errors(&pipeline), "", "{pipeline}");
}

#[test]
fn what_a_bridge_says_of_itself_and_when_it_connects_is_taken_over() {
    let pipeline = import(
        "connection a\naddress h\nremote_clientid gw\nnotifications true\nstart_type lazy\nidle_timeout 90\n\
         threshold 5\ntopic x/# out 1\n",
    );
    assert_eq!(errors(&pipeline), "", "{pipeline}");
    for line in [
        "    start: lazy\n    idle_close: 90s\n",
        "will: { topic: \"$SYS/broker/connection/gw/state\", payload: \"0\", qos: 1, retain: true }",
        "    birth: { payload: \"1\" }\n",
        "    batch: { max_messages: 5, max_wait: 1h }\n    notifications: {}\n",
    ] {
        assert!(pipeline.contains(line), "{line}: {pipeline}");
    }
    let once = import("connection a\naddress h\nstart_type once\ntopic x/# out 1\n");
    assert!(once.contains("    start: once\n"), "{once}");
    assert_eq!(errors(&once), "", "{once}");
    let here = import(
        "connection a\naddress h\nnotifications true\nnotifications_local_only true\n\
         notification_topic bridge/up\ntopic x/# out 1\n",
    );
    assert!(here.contains("    notifications: { topic: \"bridge/up\" }\n"), "{here}");
    assert!(!here.contains("will:"), "{here}");
    assert_eq!(errors(&here), "", "{here}");
}

#[test]
fn a_certificate_that_is_not_on_this_machine_is_named_in_a_comment() {
    let text = "connection a\naddress h:8883\nbridge_cafile /ca.pem\nbridge_certfile /c.pem\n\
                bridge_keyfile /k.pem\n";
    let here = import_with(text, &[("/ca.pem", ""), ("/c.pem", ""), ("/k.pem", "")]);
    assert!(
        here.contains("    ca: \"/ca.pem\"\n    cert: \"/c.pem\"\n    key: \"/k.pem\"\n"),
        "{here}"
    );
    let elsewhere = import(text);
    assert!(
        elsewhere.contains("    # ca: \"/ca.pem\"   # no such file on this machine\n"),
        "{elsewhere}"
    );
    assert!(
        elsewhere.contains("    # cert: \"/c.pem\"   # no such file on this machine\n"),
        "{elsewhere}"
    );
    assert_eq!(errors(&elsewhere), "", "{elsewhere}");
}

#[test]
fn a_bridge_without_an_address_is_left_out_line_by_line() {
    let pipeline =
        import("connection a\nremote_username me\ncleansession true\ntopic x\naddress !!");
    for line in ["2: remote_username me", "3: cleansession true", "4: topic x", "5: address !!"] {
        assert!(pipeline.contains(&format!("#   mosquitto.conf:{line}\n")), "{line}: {pipeline}");
    }
}

#[test]
fn what_is_odd_becomes_a_comment() {
    for (text, comment) in [
        ("connection {{ a }}\naddress {{ h }}:{{ p }}", "`{{` is no address"),
        ("frobnicate yes", "mosquitto.conf:1: frobnicate yes   # is not known"),
        (
            "connection a\naddress h\ntopic a sideways",
            "topic a sideways   # `sideways` is no direction",
        ),
        ("connection a\naddress h\ntopic a out 7", "# `7` is no QoS"),
        ("connection a\naddress h\ntopic a in \"\" \"\"", "- \"a in 0\""),
        (
            "connection a\naddress h\ntopic \"\" out 0 x",
            "a rule without a pattern needs both prefixes",
        ),
        ("connection a\naddress h\ntopic a/#/b", "a topic filter like that fits nothing"),
        (
            "connection a\ntopic a\nlocal_username x",
            "connection a   # has no address, so it is left out",
        ),
        ("connection a\naddress h\nremote_password hunter2", "remote_password …"),
        ("listener 0 /run/mosquitto.sock", "the broker here listens at ports only"),
        ("max_connections -1", "always has one"),
        ("include_dir /nowhere", "import its files one by one"),
    ] {
        let pipeline = import(text);
        assert!(pipeline.contains(comment), "{comment}: {pipeline}");
        assert!(!pipeline.contains("hunter2"));
        assert_eq!(errors(&pipeline), "", "{pipeline}");
    }
}

#[test]
fn no_text_breaks_what_comes_out() {
    for value in ["\"", "a: b", "${env:X}", "#", "- x", "\u{7}bell", "ü/ö", "{{x}}", "'"] {
        for option in [
            "remote_clientid",
            "remote_username",
            "address",
            "topic",
            "connection",
            "user",
            "listener",
        ] {
            let pipeline = import(&format!("connection a\naddress h\n{option} {value}\n"));
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("a.yaml"), &pipeline).unwrap();
            let draft = load(folder.path(), &plugins::types(), &|_| None).unwrap();
            let checked = lint::lint(draft);
            let is_broken = checked.findings.iter().any(|it| it.rule.name == "yaml-syntax");
            assert!(!is_broken, "{pipeline}");
        }
    }
}
