//! A folder that cannot run at start is no reason to stand still: what was accepted last runs.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::support::{
    Folder, Forebay, WebServer, forebay, is_long, pause, program, throughout, until,
};

/// A beat with a version, by a script beside it, to the screen.
fn beats(version: u32) -> String {
    format!(
        "sources:\n  beat: {{ type: timer, every: 50ms, payload: {{ version: {version} }} }}\n\
         transforms:\n  mark: {{ from: beat, type: script, script: scripts/mark.rhai }}\n\
         sinks:\n  screen: {{ from: mark, type: log }}\n"
    )
}

fn script(version: u32) -> String {
    format!("msg.payload.script = {version};\nmsg\n")
}

#[test]
fn a_refused_edit_and_a_power_cut_leave_running_what_ran() {
    let service = WebServer::start();
    let pipeline = format!(
        "sources:
  beat: {{ type: timer, every: 50ms, payload: {{ temp: 1 }} }}
transforms:
  mark: {{ from: beat, type: script, script: scripts/mark.rhai }}
sinks:
  service:
    from: mark
    type: http
    url: '{}'
    headers: {{ Authorization: 'Bearer ${{file:secrets/token}}' }}
",
        service.url()
    );
    let folder = Folder::with(&[
        ("pipelines/a.yaml", &pipeline),
        ("pipelines/scripts/mark.rhai", &script(1)),
        ("secrets/token", "hunter2-first\n"),
    ]);
    let data = Folder::new();
    let mut before = Forebay::run_on(folder.path(), data.path());
    let is_sent = |body: &str| {
        let from = service.bodies.count();
        service.bodies.wait_for(body, from, |line| line.contains(body));
    };
    is_sent(r#""script":1"#);

    before.log_after("reload refused: ", || {
        folder.write("pipelines/scripts/mark.rhai", "msg.payload.script = ;\nmsg\n");
    });
    before.kill();
    // A secret is looked up where it stands, so a new one counts.
    folder.write("secrets/token", "hunter2-second\n");
    let after = Forebay::start_on(folder.path(), data.path(), &[]);

    let line = after.wait_for_log("running the last good configuration instead, accepted ");
    assert!(line.contains("ERROR the folder cannot run (1 error in 1 pipeline)"), "{line}");
    assert!(line.contains(" ago (20"), "{line}");
    after.wait_for_log("error[script-syntax]");
    is_sent(r#""script":1"#);
    let header = "authorization: Bearer hunter2-second";
    service.headers.wait_for(header, 0, |line| line == header);
    let plan = plan(folder.path(), data.path());
    let goes_on = format!(
        "a reload would be refused\nprocess {}: still running the last good configuration, accepted ",
        after.id()
    );
    assert!(plan.contains(&goes_on), "{plan}");

    after.log_after("reloaded: replace a/mark; 2 nodes untouched", || {
        folder.write("pipelines/scripts/mark.rhai", &script(2));
    });
    is_sent(r#""script":2"#);
    assert!(!holds(data.path(), "hunter2"), "a secret was copied");
    assert_eq!(after.log.count_of("hunter2"), 0);
}

fn plan(folder: &Path, data: &Path) -> String {
    let printed = forebay([Path::new("plan"), folder, Path::new("--data"), data]);
    String::from_utf8_lossy(&printed.stdout).into_owned()
}

/// Whether a file below a folder holds the text.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| match entry.path() {
        path if path.is_dir() => holds(&path, text),
        path => String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).contains(text),
    })
}

/// Starts after something happened to the folder, and expects what ran before.
#[track_caller]
fn check_goes_on(happen: impl FnOnce(&Folder), why: &str) -> (Folder, Folder, Forebay) {
    let (site, data) = (Folder::new(), Folder::new());
    site.write("it/pipelines/a.yaml", &beats(1));
    site.write("it/pipelines/scripts/mark.rhai", &script(1));
    let folder = site.path().join("it");
    let mut before = Forebay::run_on(&folder, data.path());
    until("the files are kept", || data.path().join("accepted/1").is_dir());
    before.kill();
    happen(&site);
    let after = Forebay::start_on(&folder, data.path(), &[]);
    let line = after.wait_for_log("running the last good configuration instead");
    assert!(line.contains(why), "{line}");
    after.wait_for_log(r#"{"version":1,"script":1}"#);
    (site, data, after)
}

#[test]
fn a_folder_that_is_not_mounted_leaves_running_what_ran() {
    let (site, _data, forebay) = check_goes_on(
        |site| {
            let (here, away) = (site.path().join("it"), site.path().join("away"));
            fs::rename(here, away).expect("moving a folder");
        },
        "there is no folder",
    );
    let (here, away) = (site.path().join("it"), site.path().join("away"));
    fs::write(away.join("pipelines/a.yaml"), beats(2)).expect("writing a test file");
    forebay.log_after("reloaded: replace a/beat; 2 nodes untouched", || {
        fs::rename(away, here).expect("moving a folder");
    });
}

#[test]
fn an_empty_folder_leaves_running_what_ran() {
    let (site, _data, forebay) = check_goes_on(
        |site| {
            fs::remove_dir_all(site.path().join("it")).expect("removing a folder");
            fs::create_dir(site.path().join("it")).expect("making a folder");
        },
        "holds no pipeline file",
    );
    forebay.log_after("reloaded: ", || {
        site.write("it/a.yaml", &beats(2).replace("scripts/", ""));
        site.write("it/mark.rhai", &script(2));
    });
}

#[test]
fn files_that_a_power_cut_left_empty_leave_running_what_ran() {
    check_goes_on(|site| site.write("it/pipelines/a.yaml", ""), "1 error in 1 pipeline");
}

#[test]
fn a_broken_forebay_yaml_still_says_where_the_data_are() {
    for broken in ["log: { levell: info }\n", "log: [\n"] {
        let data = Folder::new();
        let runtime = |rest: &str| format!("data: {}\n{rest}", data.path().display());
        let folder = Folder::with(&[
            ("forebay.yaml", &runtime("")),
            ("pipelines/a.yaml", &beats(1)),
            ("pipelines/scripts/mark.rhai", &script(1)),
        ]);
        let start = || {
            let mut command = program();
            command.arg("run").arg(folder.path()).env_remove("FOREBAY_DATA");
            Forebay::of(command)
        };
        let mut before = start();
        until("the files are kept", || data.path().join("accepted/1").is_dir());
        before.kill();
        folder.write("forebay.yaml", &runtime(broken));
        let after = start();
        after.wait_for_log("running the last good configuration instead");
        after.wait_for_log(r#"{"version":1,"script":1}"#);
    }
}

#[test]
fn without_its_secrets_what_ran_waits_for_them() {
    let (site, data) = (Folder::new(), Folder::new());
    let pipeline = "sources:\n  beat: { type: timer, every: 50ms, payload: { version: 1 } }\n\
         sinks:\n  service: { from: beat, type: http, url: 'http://127.0.0.1:9/', headers: { Authorization: '${file:secrets/token}' } }\n  screen: { from: beat, type: log }\n";
    site.write("it/pipelines/a.yaml", pipeline);
    site.write("it/secrets/token", "hunter2");
    let (here, away) = (site.path().join("it"), site.path().join("away"));
    let mut before = Forebay::run_on(&here, data.path());
    until("the files are kept", || data.path().join("accepted/1").is_dir());
    before.kill();
    fs::rename(&here, &away).expect("moving a folder");

    let mut after = Forebay::start_on(&here, data.path(), &[]);
    after.wait_for_log("and neither can the last good configuration, accepted ");
    after.wait_for_log("error[unset-variable]");
    throughout(Duration::from_millis(500), "it waits", || after.is_alive());
    after.log_after("reloaded: start", || {
        fs::rename(&away, &here).expect("moving a folder");
    });
    after.wait_for_log(r#"{"version":1}"#);
    assert!(!holds(data.path(), "hunter2"), "a secret was copied");
}

#[test]
fn what_ran_from_another_folder_is_not_started() {
    let (folder, other, data) = (Folder::new(), Folder::new(), Folder::new());
    folder.write("a.yaml", &beats(1));
    folder.write("scripts/mark.rhai", &script(1));
    let mut before = Forebay::run_on(folder.path(), data.path());
    until("the files are kept", || data.path().join("accepted/1").is_dir());
    before.kill();
    other.write("a.yaml", "nonsense\n");
    let mut after = Forebay::start_on(other.path(), data.path(), &[]);
    assert_eq!(after.wait_exit().code(), Some(1));
    after.wait_for_log("nothing was started");
}

#[test]
fn a_power_cut_in_the_middle_of_accepting_leaves_one_whole_set() {
    const LONGEST_MICROS: u64 = 900_000;
    let cuts = if is_long() { 200 } else { 12 };
    let mut random = fastrand::Rng::new();
    let (site, data) = (Folder::new(), Folder::new());
    site.write("broken/a.yaml", "nonsense\n");
    let write = |version: u32| {
        // Many files, so that copying them takes a while.
        for n in 0..30 {
            site.write(&format!("v{version}/other-{n}.yaml"), &other(version));
        }
        site.write(&format!("v{version}/a.yaml"), &beats(version));
        site.write(&format!("v{version}/scripts/mark.rhai"), &script(version));
    };
    write(0);
    site.link("current", "v0");
    let folder = site.path().join("current");
    let mut forebay = Forebay::run_on(&folder, data.path());
    until("the files are kept", || data.path().join("accepted/1").is_dir());
    forebay.kill();
    for version in 1..=cuts {
        site.link("current", &format!("v{}", version - 1));
        let mut forebay = Forebay::run_on(&folder, data.path());
        write(version);
        site.link("current", &format!("v{version}"));
        pause(Duration::from_micros(random.u64(0..LONGEST_MICROS)));
        forebay.kill();

        site.link("current", "broken");
        let mut forebay = Forebay::start_on(&folder, data.path(), &[]);
        forebay.wait_for_log("running the last good configuration instead");
        let line = forebay.wait_for_log(r#""script":"#);
        let payload = line.split_once(r#"{"version""#).expect("a payload").1;
        let payload: Value = serde_json::from_str(&format!(r#"{{"version"{payload}"#))
            .expect("the sink prints JSON");
        assert_eq!(payload["version"], payload["script"], "{line}");
        let found = payload["version"].as_u64().expect("a number");
        assert!(found <= u64::from(version), "{line}");
        forebay.kill();
    }
}

fn other(version: u32) -> String {
    format!(
        "# Version {version}.\nsources:\n  beat: {{ type: timer, every: 1h }}\n\
         sinks:\n  screen: {{ from: beat, type: log }}\n"
    )
}
