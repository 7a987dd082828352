//! Secrets are never printed: whatever is wrong with them, in whatever form, by whatever verb.

use std::{fmt::Write, process::Command};

use crate::support::{Folder, program};

/// Nothing but the last words differs, so that a leak names the file it came from.
const SECRET: &str = "hunter2";

/// What holds a secret: a file with `VALUE` in the place of its value, and the value.
const SETTINGS: [(&str, &str, &str); 29] = [
    (
        "passwd",
        "connections:\n  c:\n    type: mqtt\n    url: mqtts://a\n    passwd: VALUE\n",
        "SECRET",
    ),
    ("urls", "connections:\n  c:\n    type: mqtt\n    urls: [VALUE]\n", "mqtt://u:SECRET@host"),
    (
        "servers",
        "connections:\n  c:\n    type: mqtt\n    servers: VALUE\n",
        "tcp://u:SECRET@host:1883",
    ),
    (
        "broker",
        "connections:\n  c:\n    type: mqtt\n    broker: VALUE\n    port: 1883\n",
        "u:SECRET@host",
    ),
    (
        "uri",
        "sinks:\n  o:\n    type: http\n    from: x\n    uri: VALUE\n",
        "https://host.example/SECRET",
    ),
    (
        "urll",
        "sinks:\n  o:\n    type: http\n    from: x\n    urll: VALUE\n",
        "https://host.example/?t=SECRET",
    ),
    (
        "tls",
        "connections:\n  c:\n    type: mqtt\n    url: mqtts://a\n    tls: { client_certs: [{ cert: a, key: VALUE }] }\n",
        "-----BEGIN PRIVATE KEY-----SECRET",
    ),
    (
        "inside-unknown",
        "connections:\n  c:\n    type: mqtt\n    url: mqtts://a\n    tls: { of: [{ password: VALUE }] }\n",
        "SECRET",
    ),
    (
        "auth",
        "sinks:\n  o:\n    type: http\n    from: x\n    url: https://a\n    auth: { strategy: basic, password: VALUE }\n",
        "SECRET",
    ),
    (
        "bearer",
        "sinks:\n  o:\n    type: http\n    from: x\n    url: https://a\n    bearer_token: VALUE\n",
        "SECRET",
    ),
    (
        "of-source",
        "sources:\n  s:\n    type: mqtt\n    connection: c\n    topics: [a]\n    url: VALUE\n",
        "mqtt://u:SECRET@host",
    ),
    (
        "controller",
        "connections:\n  c:\n    type: modbus\n    controller: VALUE\n    baudrate: 9600\n",
        "tcp://u:SECRET@host",
    ),
    (
        "client-key",
        "connections:\n  c:\n    type: mqtt\n    url: mqtts://a\n    client_key: VALUE\n",
        "-----BEGIN PRIVATE KEY-----SECRET",
    ),
    ("user-map", "connections:\n  c:\n    type: broker\n    user: { plc: VALUE }\n", "SECRET"),
    (
        "in-place",
        "sinks:\n  o:\n    type: mqtt\n    from: x\n    topic: a\n    connection: { type: mqtt, url: mqtts://a, pass: VALUE }\n",
        "SECRET",
    ),
    (
        "password",
        "connections:\n  c:\n    type: mqtt\n    url: mqtts://a\n    username: me\n    password: VALUE\n    client_id: a\n",
        "SECRET",
    ),
    (
        "misspelt",
        "connections:\n  c:\n    type: mqtt\n    url: mqtts://a\n    username: me\n    pasword: VALUE\n    client_id: a\n",
        "SECRET",
    ),
    (
        "in-flow",
        "connections:\n  c: { type: mqtt, url: 'mqtts://a', password: VALUE, client_id: a }\n",
        "SECRET",
    ),
    (
        "key",
        "connections:\n  c:\n    type: mqtt\n    url: mqtts://a\n    cert: a\n    key: VALUE\n",
        "-----BEGIN PRIVATE KEY-----SECRET",
    ),
    (
        "header",
        "sinks:\n  o:\n    type: http\n    from: x\n    url: https://a\n    headers:\n      Authorization: VALUE\n      X-Site: a\n",
        "Bearer SECRET",
    ),
    (
        "headers",
        "sinks:\n  o:\n    type: http\n    from: x\n    url: https://a\n    headers: VALUE\n",
        "Bearer SECRET",
    ),
    (
        "user",
        "connections:\n  c:\n    type: broker\n    users:\n      plc: VALUE\n      hmi: ${env:X:-x}\n",
        "SECRET",
    ),
    ("users", "connections:\n  c:\n    type: broker\n    users: VALUE\n", "plc:SECRET"),
    (
        "url-user",
        "connections:\n  c:\n    type: mqtt\n    url: VALUE\n    client_id: a\n",
        "mqtt://u:SECRET@host",
    ),
    (
        "url-port",
        "connections:\n  c:\n    type: mqtt\n    url: VALUE\n    client_id: a\n",
        "mqtt://u:SECRET",
    ),
    (
        "url-bare",
        "connections:\n  c:\n    type: mqtt\n    url: VALUE\n    client_id: a\n",
        "u:SECRET@host",
    ),
    (
        "url-path",
        "sinks:\n  o:\n    type: http\n    from: x\n    url: VALUE\n",
        "https://host.example/SECRET",
    ),
    (
        "url-query",
        "sinks:\n  o:\n    type: http\n    from: x\n    url: VALUE\n",
        "http://host.example/?token=SECRET",
    ),
    ("no-type", "sinks:\n  o:\n    type: htp\n    token: VALUE\n", "SECRET"),
];

/// What people get wrong, with `V` in the place of the value.
const MISTAKES: [(&str, &str); 20] = [
    ("comma", "V, V"),
    ("right", "V"),
    ("quoted", "\"V\""),
    ("at", "@V"),
    ("percent", "%V"),
    ("star", "*V"),
    ("backtick", "`V"),
    ("pipe", "|V"),
    ("angle", ">V"),
    ("colon", "V: x"),
    ("colon-before", "x: V"),
    ("control", "\"V\\x07\""),
    ("tab", "\"V\\tx\""),
    ("raw-control", "V\u{1}x"),
    ("unclosed", "\"V"),
    ("list", "[V]"),
    ("map", "{ a: V }"),
    ("tag", "!V"),
    ("anchor", "&V"),
    ("comment", "# V"),
];

#[test]
fn a_secret_that_is_written_wrong_is_not_shown() {
    let folder = Folder::new();
    let mut secrets = Vec::new();
    for (setting, file, value) in SETTINGS {
        for (mistake, written) in MISTAKES {
            let secret = format!("{SECRET}{}", secrets.len());
            let value = written.replace('V', &value.replace("SECRET", &secret));
            let path = format!("{setting}-{mistake}.yaml");
            folder.write(&path, &file.replace("VALUE", &value));
            secrets.push((path, secret));
        }
        let secret = format!("{SECRET}{}", secrets.len());
        let path = format!("{setting}-twice.yaml");
        let mut text = String::new();
        for line in file.lines() {
            let _ = writeln!(text, "{}", line.replace("VALUE", "x"));
            if line.contains("VALUE") {
                let again = value.replace("SECRET", &secret);
                let _ = writeln!(text, "{}", line.replace("VALUE", &again));
            }
        }
        folder.write(&path, &text);
        secrets.push((path, secret));
    }
    let data = Folder::new();
    let mut commands: Vec<Command> = Vec::new();
    for format in ["text", "short", "json", "junit", "sarif"] {
        commands.push(command(&["lint", "--format", format], &folder));
    }
    commands.push(command(&["lint", "--without-secrets"], &folder));
    for verb in [["plan"], ["run"], ["graph"]] {
        let mut command = command(&verb, &folder);
        if verb != ["graph"] {
            command.arg("--data").arg(data.path());
        }
        commands.push(command);
    }
    let mut check = command(&["fmt", "--check"], &folder);
    check.env("NO_COLOR", "1");
    commands.push(check);
    let mut leaks = Vec::new();
    for mut command in commands {
        let output = command.output().expect("the program was built");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.is_empty(), "{command:?} said nothing");
        for (path, secret) in &secrets {
            for line in said.lines().filter(|line| holds(line, secret)) {
                let verb: Vec<_> = command.get_args().take(3).collect();
                leaks.push(format!(
                    "{verb:?} {path}: {}",
                    line.chars().take(200).collect::<String>()
                ));
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks: {leaks:#?}", leaks.len());
}

/// Whether the secret stands there, and not one with more digits.
fn holds(line: &str, secret: &str) -> bool {
    line.match_indices(secret)
        .any(|(at, _)| !line[at + secret.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

fn command(arguments: &[&str], folder: &Folder) -> Command {
    let mut command = program();
    command.args(arguments).arg(folder.path());
    command
}

#[test]
fn a_repository_without_its_secrets_could_not_be_checked() {
    let folder = Folder::with(&[(
        "x.yaml",
        "connections:\n  c:\n    type: mqtt\n    url: 'mqtts://${env:FOREBAY_TEST_HOST}:${env:FOREBAY_TEST_PORT}'\n    \
         username: me\n    password: ${file:secrets/broker}\n    keep_alive: ${env:FOREBAY_TEST_TIME}\nsources:\n  \
         s: { type: mqtt, connection: c, topics: [a] }\nsinks:\n  o: { from: s, type: log }\n",
    )]);
    let said = |mut command: Command| {
        let output = command.output().expect("the program was built");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, found) = said(command(&["lint", "--format", "short"], &folder));
    assert_eq!((code, found.lines().count()), (Some(1), 3), "{found}");
    let without =
        |folder| said(command(&["lint", "--format", "short", "--without-secrets"], folder));
    assert_eq!(without(&folder), (Some(0), String::new()));

    folder.write("vars", "# of the site\nexport FOREBAY_TEST_HOST=\"plant-a.example\"\nFOREBAY_TEST_PORT=99999\nFOREBAY_TEST_TIME=5s\n");
    folder.write("secrets/broker", "hunter2\n");
    let mut with_file = command(&["lint", "--format", "short"], &folder);
    with_file.arg("--env-file").arg(folder.path().join("vars"));
    let (code, found) = said(with_file);
    let expected = "/x.yaml:4:10: error[setting-value]: `url` is not the address of a broker";
    assert!(code == Some(1) && found.contains(expected), "{found}");
    // What is known is checked, and what is not there is no error beside it.
    folder.write("x.yaml", &folder.read("x.yaml").replace("type: log", "type: lag"));
    let (code, found) = without(&folder);
    assert!(
        code == Some(1) && found.lines().count() == 1 && found.contains("unknown-type"),
        "{found}"
    );
}
