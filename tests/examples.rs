//! What a newcomer tries first works: the examples, the samples, the demo, and the verbs around
//! them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use forebay::{config::Types, plugins};

use crate::support::{Folder, Forebay, forebay, program, until};

#[test]
fn every_example_and_sample_lints_without_a_finding() {
    let examples = lint_strict(&root().join("pipelines"));
    assert_eq!(stdout(&examples), "no findings in 6 pipelines\n");
    assert_eq!(examples.status.code(), Some(0));
    let router = lint_strict(&root().join("pipelines/router"));
    assert_eq!(stdout(&router), "no findings in 6 pipelines\n");
    assert_eq!(router.status.code(), Some(0));
    for plugin in plugins::all() {
        for node_type in &plugin.types {
            let name = node_type.name();
            let folder = Folder::with(&[("pipelines/sample.yaml", plugin.sample_of(name))]);
            let sample = lint_strict(folder.path());
            assert_eq!(stdout(&sample), "no findings in 1 pipeline\n", "{name}");
            assert_eq!(sample.status.code(), Some(0), "{name}");
        }
    }
}

#[test]
fn every_example_does_what_its_tests_say() {
    for folder in ["pipelines", "pipelines/router"].map(|folder| root().join(folder)) {
        let tested = forebay([OsStr::new("test"), folder.as_os_str()]);
        let said = stdout(&tested);
        assert!(said.ends_with(" tests passed\n"), "{said}");
        assert_eq!(tested.status.code(), Some(0), "{said}");
        for pipeline in fs::read_dir(&folder).unwrap().flatten() {
            let name = pipeline.file_name().into_string().unwrap();
            let stem = name.strip_suffix(".yaml").filter(|stem| !stem.ends_with(".test"));
            // It has the connections of the others, and no node.
            if let Some(stem) = stem.filter(|stem| *stem != "site") {
                let test = folder.join(format!("{stem}.test.yaml"));
                assert!(test.is_file(), "{name} has no tests");
            }
        }
    }
}

#[test]
fn every_sample_runs_with_what_it_asks_played_in_memory() {
    let test = "tests: [{ name: it runs, for: 2m }]\n";
    for plugin in plugins::all() {
        for node_type in &plugin.types {
            let name = node_type.name();
            let folder = Folder::with(&[
                ("pipelines/sample.yaml", plugin.sample_of(name)),
                ("pipelines/sample.test.yaml", test),
            ]);
            let tested = forebay([OsStr::new("test"), folder.path().as_os_str()]);
            assert_eq!(stdout(&tested), "1 test passed\n", "{name}");
        }
    }
}

#[test]
fn one_file_of_the_examples_lints_by_itself() {
    let one = lint_strict(&root().join("pipelines/power-meter.yaml"));
    assert_eq!(stdout(&one), "no findings in 6 pipelines (power-meter.yaml)\n");
    assert_eq!(one.status.code(), Some(0));
}

#[test]
fn the_demo_shows_plausible_readings_and_leaves_nothing_behind() {
    let place = Folder::new();
    let mut command = program();
    command.arg("demo").env("TMPDIR", place.path());
    let mut demo = Forebay::of(command);
    let line = demo.wait_for_log(" site/a/meter {");
    let payload = &line[line.find('{').unwrap()..];
    let reading: serde_json::Value = serde_json::from_str(payload).unwrap();
    let within = |field: &str, least: f64, most: f64| {
        let value = reading[field].as_f64().unwrap_or(f64::NAN);
        assert!((least..=most).contains(&value), "{field} is {value}: {line}");
    };
    within("volts_l1", 207.0, 253.0);
    within("amps_l1", 0.0, 100.0);
    within("power_kw", 0.1, 70.0);
    within("frequency", 49.5, 50.5);
    within("energy_kwh", 0.0, 1e7);
    within("load_percent", 0.0, 200.0);
    assert!(reading["load"] == "normal" || reading["load"] == "high", "{line}");
    demo.wait_for_log(" site/a/heartbeat {");

    // An edit of a file is picked up, as the first lines promise.
    let folder = fs::read_dir(place.path()).unwrap().next().unwrap().unwrap().path();
    let heartbeat = folder.join("pipelines/heartbeat.yaml");
    let text = fs::read_to_string(&heartbeat).unwrap();
    fs::write(&heartbeat, text.replace("site/a/heartbeat", "site/b/heartbeat")).unwrap();
    demo.wait_for_log(" site/b/heartbeat {");

    demo.signal("INT");
    assert_eq!(demo.wait_exit().code(), Some(0));
    demo.wait_for_log("everything was delivered");
    let complaints = |line: &&String| line.contains("WARN") || line.contains("ERROR");
    assert_eq!(
        demo.log.all().iter().filter(complaints).collect::<Vec<_>>(),
        <[&str; 0]>::default()
    );
    assert_eq!(names_below(place.path()), BTreeSet::new());
}

#[test]
fn the_demo_has_all_examples() {
    let folder = Folder::new();
    let mut command = program();
    command.arg("demo").arg("--folder").arg(folder.path());
    let mut demo = Forebay::of(command);
    demo.wait_for_log("running");
    demo.signal("TERM");
    assert_eq!(demo.wait_exit().code(), Some(0));
    let examples = root().join("pipelines");
    let mut expected = names_below(&examples);
    // A folder of its own, for a site with a router; and tests, which bring devices of their own.
    expected.retain(|name| !name.starts_with("router/") && !name.ends_with(".test.yaml"));
    for name in &expected {
        let written = fs::read_to_string(folder.path().join("pipelines").join(name)).unwrap();
        assert_eq!(written, fs::read_to_string(examples.join(name)).unwrap(), "{name}");
    }
    expected.insert("viewer.yaml".to_owned());
    assert_eq!(names_below(&folder.path().join("pipelines")), expected);
}

#[test]
fn a_new_folder_lints_and_runs() {
    let place = Folder::new();
    let folder = place.path().join("site");
    let new = forebay([Path::new("new"), &folder]);
    let shown = folder.display();
    assert_eq!(
        stdout(&new),
        format!(
            "wrote {shown}/schemas/pipeline.schema.json\nwrote {shown}/schemas/runtime.schema.json\n\
             wrote {shown}/schemas/script.d.rhai\nwrote {shown}/pipelines/timer.yaml\nwrote {shown}/forebay.yaml\n\
             wrote {shown}/.gitignore\nnext: forebay lint {shown} && forebay run {shown}\n"
        )
    );
    assert_eq!(stdout(&lint_strict(&folder)), "no findings in 1 pipeline\n");
    for (file, schema) in [("pipelines/timer.yaml", "pipeline"), ("forebay.yaml", "runtime")] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let line = text.lines().next().unwrap().split_once("$schema=").unwrap().1;
        let schema = root().join(format!("schemas/{schema}.schema.json"));
        let named = folder.join(file).parent().unwrap().join(line);
        assert_eq!(fs::read_to_string(named).unwrap(), fs::read_to_string(schema).unwrap());
    }
    assert!(fs::read_to_string(folder.join(".gitignore")).unwrap().contains("/secrets/\n"));
    let mut run = Forebay::run(&folder);
    run.wait_for_log(r#" site/a/heartbeat {"status":"alive"}"#);
    run.signal("INT");
    assert_eq!(run.wait_exit().code(), Some(0));
}

#[test]
fn a_new_file_of_every_type_lints_and_is_never_overwritten() {
    let names: BTreeSet<String> =
        Types::new(plugins::all()).iter().map(|entry| entry.node_type.name().to_owned()).collect();
    for name in names {
        let folder = Folder::new();
        let file = folder.path().join("pipelines").join("first.yaml");
        let make = || forebay([Path::new("new"), &file, Path::new("--type"), Path::new(&name)]);
        assert_eq!(make().status.code(), Some(0), "{name}");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(&format!("type: {name}")), "{text}");
        let lint = lint_strict(folder.path());
        assert_eq!(stdout(&lint), "no findings in 1 pipeline\n", "{name}");

        fs::write(&file, "mine").unwrap();
        let again = make();
        assert_eq!(again.status.code(), Some(2), "{name}");
        let said = format!("error: {} exists already; nothing was overwritten\n", file.display());
        assert_eq!(stderr(&again), said);
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }
    let unknown = forebay(["new", "x.yaml", "--type", "nope"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        stderr(&unknown).starts_with("error: there is no node type `nope`; types are modbus, ")
    );
}

/// Beside a new folder `pipelines`, none of those in the folder itself ran any more.
#[test]
fn a_new_pipeline_stands_where_the_others_are() {
    let bare = Folder::with(&[("a.yaml", ONE)]);
    let path = |name: &str| bare.path().join(name);
    let inner = forebay([Path::new("new"), &path("pipelines/b.yaml")]);
    assert_eq!(inner.status.code(), Some(2));
    assert!(stderr(&inner).ends_with(&format!("write {}\n", path("b.yaml").display())));
    assert_eq!(forebay([Path::new("new"), bare.path()]).status.code(), Some(0));
    assert_eq!(stdout(&lint_strict(bare.path())), "no findings in 2 pipelines\n");
    assert!(
        bare.read("timer.yaml").starts_with("# yaml-language-server: $schema=schemas/pipeline")
    );
    assert!(!path("pipelines").exists());

    let again = forebay([Path::new("new"), bare.path()]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).ends_with("timer.yaml exists already; nothing was overwritten\n"));

    let full = Folder::with(&[("pipelines/a.yaml", ONE), ("forebay.yaml", "stop_within: 9s\n")]);
    let outside = forebay([Path::new("new"), &full.path().join("b.yaml")]);
    assert_eq!(outside.status.code(), Some(2));
    assert!(stderr(&outside).contains(" would not be read: write "), "{}", stderr(&outside));
    assert_eq!(forebay([Path::new("new"), full.path()]).status.code(), Some(0));
    assert_eq!(stdout(&lint_strict(full.path())), "no findings in 2 pipelines\n");
    assert_eq!(full.read("forebay.yaml"), "stop_within: 9s\n");
}

const ONE: &str = "sources:\n  a: { type: timer, every: 1h }\n  b: { type: timer, every: 1h }\n\
                   sinks:\n  out: { from: [a, b], type: log }\n";

#[test]
fn a_plan_says_what_a_reload_would_do() {
    let folder = Folder::with(&[("pipelines/x.yaml", ONE)]);
    let data = Folder::new();
    let plan = || {
        let mut command = program();
        command.arg("plan").arg(folder.path()).arg("--data").arg(data.path());
        command.output().unwrap()
    };
    let before = plan();
    assert_eq!(
        stdout(&before),
        "nothing is known to run here, so everything would start\n\
         start x/a\nstart x/b\nstart x/out\n0 untouched\n"
    );
    assert_eq!(before.status.code(), Some(0));

    let mut command = program();
    command.arg("run").arg(folder.path()).arg("--data").arg(data.path());
    let mut run = Forebay::of(command);
    run.wait_for_log("running");
    until("the accepted files are kept", || {
        data.path().join("accepted/1/files/pipelines/x.yaml").exists()
    });
    let running = stdout(&plan());
    let (what_runs, changes) = running.split_once('\n').unwrap();
    let who = format!("process {}: still running the pipelines loaded at ", run.id());
    assert!(what_runs.starts_with(&who), "{running}");
    assert_eq!(changes, "nothing would change\n3 untouched\n");
    run.signal("TERM");
    run.wait_exit();

    folder.write(
        "pipelines/x.yaml",
        &ONE.replace("b: { type: timer, every: 1h }", "b: { type: timer, every: 2h }"),
    );
    let changes = || {
        let said = stdout(&plan());
        let (what_ran, changes) = said.split_once('\n').unwrap();
        assert!(what_ran.contains("; what ran last was accepted "), "{said}");
        changes.to_owned()
    };
    assert_eq!(changes(), "replace x/b\n2 untouched\n");
    // Another order and other spaces are no change.
    folder.write(
        "pipelines/x.yaml",
        &ONE.replace("{ type: timer, every: 1h }", "{every: '1h', type: timer}"),
    );
    assert_eq!(changes(), "nothing would change\n3 untouched\n");

    folder.write("pipelines/x.yaml", &ONE.replace("every", "evry"));
    let broken = plan();
    assert_eq!(broken.status.code(), Some(1));
    let said = stdout(&broken);
    assert!(
        said.contains("error[unknown-setting]: timer source `a` has no setting `evry`"),
        "{said}"
    );
    assert!(said.contains("\n2 errors in 1 pipeline: a reload would be refused\n"), "{said}");
}

#[test]
fn a_plan_knows_the_scripts_that_ran_also_those_from_elsewhere() {
    let script = |text: &str| format!("// {text}\nmsg\n");
    let (place, data) = (Folder::new(), Folder::new());
    let absolute = place.path().join("absolute.rhai");
    let pipeline = format!(
        "sources:\n  a: {{ type: timer, every: 1h }}\ntransforms:\n\
         \x20 near: {{ from: a, type: script, script: scripts/near.rhai }}\n\
         \x20 far: {{ from: near, type: script, script: ../../common/far.rhai }}\n\
         \x20 there: {{ from: far, type: script, script: {} }}\n\
         sinks:\n  out: {{ from: there, type: log }}\n",
        absolute.display()
    );
    let scripts = ["site/pipelines/scripts/near.rhai", "common/far.rhai", "absolute.rhai"];
    scripts.iter().for_each(|path| place.write(path, &script("as it ran")));
    place.write("site/pipelines/x.yaml", &pipeline);
    let site = place.path().join("site");
    let plan = || {
        let mut command = program();
        command.arg("plan").arg(&site).arg("--data").arg(data.path());
        let said = stdout(&command.output().unwrap());
        // Behind what ran, and when that was accepted.
        said.split_once('\n').unwrap().1.to_owned()
    };
    let mut run = Forebay::run_on(&site, data.path());
    until("the accepted files are kept", || data.path().join("accepted/1").is_dir());
    assert_eq!(plan(), "nothing would change\n5 untouched\n");
    run.signal("TERM");
    run.wait_exit();

    for (path, node) in scripts.iter().zip(["near", "far", "there"]) {
        place.write(path, &script("changed since"));
        assert_eq!(plan(), format!("replace x/{node}\n4 untouched\n"));
        place.write(path, &script("as it ran"));
    }
}

#[test]
fn a_plan_compares_two_folders() {
    let now = Folder::with(&[("x.yaml", ONE)]);
    let more = "  more: { from: a, type: log }\n";
    let wanted = Folder::with(&[("x.yaml", &(ONE.to_owned() + more))]);
    let mut command = program();
    command.arg("plan").arg(wanted.path()).arg("--against").arg(now.path());
    assert_eq!(stdout(&command.output().unwrap()), "start x/more\nrewire x/a\n2 untouched\n");
    let json = command.args(["--format", "json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(json["start"], serde_json::json!(["x/more"]));
    assert_eq!(json["rewire"], serde_json::json!(["x/a"]));
    assert_eq!((&json["stop"], &json["untouched"]), (&serde_json::json!([]), &2.into()));
}

#[test]
fn every_type_describes_itself() {
    let list = forebay(["nodes"]);
    assert_eq!(list.status.code(), Some(0));
    let list = stdout(&list);
    let types = Types::new(plugins::all());
    let widest = types.iter().map(|entry| entry.node_type.name().len()).max().unwrap();
    for entry in types.iter() {
        let (role, name) = (entry.node_type.role().noun(), entry.node_type.name());
        assert!(
            list.contains(&format!("{role:<11} {name:<widest$} {}", entry.node_type.summary())),
            "{list}"
        );
        let one = stdout(&forebay(["nodes", name]));
        assert!(one.contains(&format!("{name} {role}: ")), "{one}");
        assert!(one.ends_with(entry.plugin.sample_of(name)), "{one}");
    }
    let mqtt = stdout(&forebay(["nodes", "mqtt"]));
    assert!(mqtt.contains("  keep_alive  (duration, default `4m`)\n"), "{mqtt}");
    assert!(
        mqtt.contains("      `drop_oldest`: The message that waited longest is dropped"),
        "{mqtt}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&forebay(["nodes", "mqtt", "--format", "json"]))).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    // As it was written before all verbs had `--format`.
    let before = forebay(["nodes", "mqtt", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stdout(&before)).unwrap(), json);

    let unknown = forebay(["nodes", "nope"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(
        stderr(&unknown),
        "error: there is no node type `nope`; `forebay nodes` lists them\n"
    );
}

#[test]
fn a_profile_is_listed_with_its_type_and_printed_by_its_name() {
    let listed = stdout(&forebay(["nodes", "modbus"]));
    assert!(listed.contains("  sdm630              Eastron SDM630-Modbus three-phase meter.\n"));
    let printed = forebay(["nodes", "sdm630"]);
    let file = root().join("plugins/modbus/profiles/sdm630.yaml");
    assert_eq!(stdout(&printed), fs::read_to_string(file).unwrap());
    assert_eq!(printed.status.code(), Some(0));
}

#[test]
fn the_schemas_are_printed_as_they_are_committed() {
    for name in ["pipeline", "runtime", "profile"] {
        let committed = root().join(format!("schemas/{name}.schema.json"));
        let printed = forebay(["schema", name]);
        assert_eq!(printed.status.code(), Some(0));
        let is_same = stdout(&printed) == fs::read_to_string(committed).unwrap();
        assert!(is_same, "{name}: `UPDATE=1 cargo test schemas` writes what is committed");
    }
    assert_eq!(stdout(&forebay(["schema"])), stdout(&forebay(["schema", "pipeline"])));
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    for arguments in [["nodes", "mqtt"], ["schema", "pipeline"], ["lint", "pipelines"]] {
        let mut command = program();
        command.args(arguments).current_dir(root());
        command.stdout(closed_pipe()).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(stderr(&output), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

/// The writing end of a pipe whose reader has gone.
fn closed_pipe() -> Stdio {
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let pipe = reader.stdin.take().unwrap();
    reader.wait().unwrap();
    pipe.into()
}

fn lint_strict(path: &Path) -> Output {
    forebay([Path::new("lint"), Path::new("--strict"), path])
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All files below a folder, relative to it.
fn names_below(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => names.extend(names_below(&path).iter().map(|inner| format!("{name}/{inner}"))),
            false => {
                names.insert(name);
            }
        }
    }
    names
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
