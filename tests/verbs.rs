//! What the verbs print and change, for people, editors and CI systems.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::support::{Folder, Forebay, forebay, program, python, read_report, test_tools};

/// As somebody in a hurry writes it.
const MESSY: &str = "\
# yaml-language-server: $schema=../schemas/pipeline.schema.json
# Of the boiler room.

sinks:
    out:   # to the terminal
        type: log
        to: stderr
        from: [beat,count.high]


transforms:
    # Counts.
    count:
        type: script
        outputs: [ high ]
        script: |
            // # no comment

              emit(\"high\", msg);
            msg
        from: beat
sources:
    beat: {every: 10s,type: timer}
description:   Shows a count.
";

const NEAT: &str = "\
# yaml-language-server: $schema=../schemas/pipeline.schema.json
# Of the boiler room.

description: Shows a count.

sources:
  beat: { type: timer, every: 10s }

transforms:
  # Counts.
  count:
    from: beat
    type: script
    outputs: [high]
    script: |
      // # no comment

        emit(\"high\", msg);
      msg

sinks:
  out:     # to the terminal
    from: [beat, count.high]
    type: log
    to: stderr
";

const BROKEN: &str =
    "sources:\n  a: { type: timer, evry: 1h }\nsinks:\n  out: { from: b, type: log }\n";

#[test]
fn every_example_is_laid_out_as_fmt_does_it() {
    let mut paths = vec![PathBuf::from(".")];
    let plugins = fs::read_dir(root().join("plugins")).unwrap();
    let samples = plugins.map(|plugin| plugin.unwrap().path().join("sample.yaml"));
    paths.extend(samples.filter(|sample| sample.exists()));
    let checked = in_root(["fmt".into(), "--check".into()].into_iter().chain(paths));
    assert!(stdout(&checked).starts_with("nothing to format, of "), "{}", stdout(&checked));
    assert_eq!(checked.status.code(), Some(0));
}

#[test]
fn fmt_changes_the_layout_and_not_what_a_file_means() {
    let folder = Folder::with(&[
        ("pipelines/x.yaml", MESSY),
        ("pipelines/y.yaml", NEAT),
        ("forebay.yaml", "stop_within:  2s\nlog: {level: info}\n"),
    ]);
    let as_it_was = Folder::with(&[("x.yaml", MESSY), ("y.yaml", NEAT)]);
    let (x, y) = (folder.path().join("pipelines/x.yaml"), folder.path().join("pipelines/y.yaml"));
    fs::set_permissions(&x, fs::Permissions::from_mode(0o640)).unwrap();
    let untouched = fs::metadata(&y).unwrap().ino();

    let check = forebay([Path::new("fmt"), Path::new("--check"), folder.path()]);
    let shown = folder.path().display();
    let expected = format!(
        "would format {shown}/forebay.yaml (from line 1 on)\n\
         would format {shown}/pipelines/x.yaml (from line 4 on)\n\
         2 files would be formatted, of 3 files\n"
    );
    assert_eq!((stdout(&check), check.status.code()), (expected, Some(1)));
    assert_eq!(folder.read("pipelines/x.yaml"), MESSY);

    let fmt = forebay([Path::new("fmt"), folder.path()]);
    assert!(stdout(&fmt).ends_with("2 files formatted, of 3 files\n"), "{}", stdout(&fmt));
    assert_eq!(fmt.status.code(), Some(0));
    assert_eq!(folder.read("pipelines/x.yaml"), NEAT);
    assert_eq!(folder.read("forebay.yaml"), "stop_within: 2s\nlog: { level: info }\n");
    assert_eq!(fs::metadata(&x).unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(&y).unwrap().ino(), untouched, "what is right is not written");
    assert_eq!(fs::read_dir(folder.path().join("pipelines")).unwrap().count(), 2);

    let again = forebay([Path::new("fmt"), folder.path()]);
    assert_eq!(stdout(&again), "nothing to format, of 3 files\n");
    let plan = ["plan", "--against"].map(Path::new).into_iter();
    let plan = forebay(plan.chain([as_it_was.path(), folder.path()]));
    assert_eq!(stdout(&plan), "nothing would change\n6 untouched\n");
}

#[test]
fn fmt_leaves_alone_what_it_cannot_read() {
    let broken = "sources:\n  a: [1, 2\n";
    let folder = Folder::with(&[("a.yaml", broken), ("b.yaml", "sources: {}   \n")]);
    let fmt = forebay([Path::new("fmt"), folder.path()]);
    assert_eq!(fmt.status.code(), Some(1));
    let said = stdout(&fmt);
    assert!(said.contains("error[yaml-syntax]: file is not valid YAML"), "{said}");
    assert!(said.ends_with("1 file formatted, 1 file left as written, of 2 files\n"), "{said}");
    assert_eq!(
        (folder.read("a.yaml").as_str(), folder.read("b.yaml").as_str()),
        (broken, "sources: {}\n")
    );

    let missing = forebay(["fmt", "not-there.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(stderr(&missing), "error: there is no folder not-there.yaml\n");
}

#[test]
fn fmt_writes_through_a_link() {
    let folder = Folder::with(&[("real/x.yaml", "a:   1\n")]);
    folder.link("x.yaml", "real/x.yaml");
    let link = folder.path().join("x.yaml");
    forebay([Path::new("fmt"), &link]);
    assert!(link.is_symlink());
    assert_eq!(folder.read("real/x.yaml"), "a: 1\n");
}

#[test]
fn an_editor_formats_what_it_has_not_saved() {
    let format = |text: &str| with_input(&["fmt", "-"], text.as_bytes());
    let neat = format(MESSY);
    assert_eq!((stdout(&neat).as_str(), neat.status.code()), (NEAT, Some(0)));
    let broken = format("a: [");
    assert_eq!((stdout(&broken).as_str(), broken.status.code()), ("a: [", Some(1)));
    assert!(stderr(&broken).contains("standard input:1:4"), "{}", stderr(&broken));
}

/// A comment that allowed something in a line was far from it afterwards, and the folder refused.
#[test]
fn what_fmt_laid_out_runs_as_before() {
    let pipeline = "sources:\n  # forebay: allow unread-node (it is for later)\n  a: { type: timer,\n       every: 10s }\n  \
                    b: { type: timer, every: 10s }   # forebay: allow unread-node (this too)\n";
    let folder = Folder::with(&[("a.yaml", pipeline)]);
    let lint = || forebay([Path::new("lint"), Path::new("--strict"), folder.path()]);
    assert_eq!(lint().status.code(), Some(0), "{}", stdout(&lint()));
    let fmt = forebay([Path::new("fmt"), folder.path()]);
    assert!(stdout(&fmt).starts_with("formatted "), "{}", stdout(&fmt));
    assert_eq!(lint().status.code(), Some(0), "{}", stdout(&lint()));
}

#[test]
fn fmt_leaves_a_file_to_its_owner_and_to_its_names() {
    let folder = Folder::with(&[("a.yaml", "a:   1\n"), ("b.yaml", "a:   1\n")]);
    let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    // Only root can give a file away.
    let is_given_away = chown(&a, Some(1234), Some(5678)).is_ok();
    fs::set_permissions(&a, fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&b, folder.path().join("other-name")).unwrap();
    let before = [&a, &b].map(|path| fs::metadata(path).unwrap());
    forebay([Path::new("fmt"), folder.path()]);
    let after = [&a, &b].map(|path| fs::metadata(path).unwrap());
    assert_eq!(
        (folder.read("a.yaml").as_str(), folder.read("other-name").as_str()),
        ("a: 1\n", "a: 1\n")
    );
    assert_eq!(after[0].uid() == 1234, is_given_away);
    assert_eq!(after[0].gid(), before[0].gid());
    assert_eq!(after[0].mode(), before[0].mode());
    assert_eq!(after[1].nlink(), 2);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn an_editor_gets_back_what_cannot_be_laid_out() {
    let long = "# a comment that goes on and on\n".repeat(80_000).into_bytes();
    for (text, why) in [(b"a: \xff\nb:   1\n".to_vec(), "is not text"), (long, "is too long")] {
        let fmt = with_input(&["fmt", "-"], &text);
        assert_eq!(fmt.stdout.len(), text.len());
        assert!(fmt.stdout == text);
        assert_eq!(fmt.status.code(), Some(1));
        assert!(stderr(&fmt).contains(why), "{}", stderr(&fmt));
    }
}

#[test]
fn lint_checks_what_an_editor_has_not_saved() {
    let wrong = with_input(&["lint", "-"], BROKEN.as_bytes());
    assert!(stdout(&wrong).contains(" --> standard input:2:"), "{}", stdout(&wrong));
    assert_eq!(wrong.status.code(), Some(1));
    let right =
        with_input(&["lint", "-", "--strict"], NEAT.replace("count.high", "count").as_bytes());
    assert!(stdout(&right).contains("unread-output"), "{}", stdout(&right));
    let no_text = with_input(&["lint", "-"], b"a: \xff");
    assert_eq!(stderr(&no_text), "error: standard input is not text: byte 4 is not UTF-8\n");
    assert_eq!(no_text.status.code(), Some(2));
}

/// Behind `| head -1`, a failed check was a success, and most files stayed as they were.
#[test]
fn a_verb_whose_reader_has_gone_does_its_work_and_says_how_it_went() {
    let names: Vec<String> = (0..50).map(|number| format!("p{number}.yaml")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), BROKEN)).collect();
    let folder = Folder::with(&files);
    let path = folder.path().to_str().unwrap();
    let unread = |arguments: &[&str]| {
        let mut command = program();
        let mut running =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        drop(running.stdout.take());
        running.wait().unwrap().code()
    };
    for format in ["text", "short", "json", "junit", "sarif"] {
        assert_eq!(unread(&["lint", path, "--format", format]), Some(1), "{format}");
    }
    assert_eq!(unread(&["fmt", "--check", path]), Some(1));
    assert_eq!(unread(&["fmt", path]), Some(0));
    assert!(names.iter().all(|name| folder.read(name) != BROKEN));
    assert_eq!(unread(&["graph", path]), Some(1));
    assert_eq!(unread(&["plan", path, "--data", path]), Some(1));
    assert_eq!(unread(&["explain", "no-such-rule"]), Some(2));
    let fresh = format!("{path}/fresh");
    assert_eq!(unread(&["new", &fresh]), Some(0));
    assert!(folder.path().join("fresh/forebay.yaml").exists());
    for arguments in [
        &["explain"][..],
        &["nodes"],
        &["schema"],
        &["lint", &fresh],
        &["buffer", "ls", "--data", path],
    ] {
        assert_eq!(unread(arguments), Some(0), "{arguments:?}");
    }
}

#[test]
fn names_of_files_do_not_steer_the_terminal() {
    let folder = Folder::with(&[("a\x1b[31mb\u{202e}.yaml", BROKEN)]);
    let path = folder.path().join("a\x1b[31mb\u{202e}.yaml");
    let missing = folder.path().join("\x1b[2Jgone.yaml");
    for format in ["text", "short", "json", "junit", "sarif"] {
        let arguments = [Path::new("lint"), Path::new("--format"), Path::new(format), &path];
        let said = stdout(&forebay(arguments));
        assert!(!said.contains('\x1b'), "{said}");
        assert!(!said.contains('\u{202e}') || !["text", "short"].contains(&format), "{said}");
    }
    for arguments in [["fmt", "--check"], ["graph", "--format=text"], ["lint", "--format=text"]] {
        for path in [&path, &missing] {
            let arguments = arguments.map(Path::new).into_iter().chain([path.as_path()]);
            let output = forebay(arguments);
            let said = format!("{}{}", stdout(&output), stderr(&output));
            assert!(!said.contains(['\x1b', '\u{202e}']), "{said}");
        }
    }
}

#[test]
fn a_ci_system_may_ask_for_colours() {
    let folder = Folder::with(&[("a.yaml", BROKEN)]);
    let lint = |variables: &[(&str, &str)]| {
        let mut command = program();
        command.env_remove("NO_COLOR").env_remove("FORCE_COLOR").envs(variables.iter().copied());
        stdout(&command.arg("lint").arg(folder.path()).output().unwrap())
    };
    assert!(!lint(&[]).contains('\x1b'));
    assert!(lint(&[("FORCE_COLOR", "1")]).contains('\x1b'));
    assert!(!lint(&[("FORCE_COLOR", "1"), ("NO_COLOR", "1")]).contains('\x1b'));
}

#[test]
fn what_a_node_reads_is_shown_with_its_addresses_on_the_wire() {
    let folder = Folder::new();
    folder.write(
        "site.yaml",
        "connections:\n  bus: { type: modbus, url: \"tcp://127.0.0.1\" }\nsources:\n  meter:\n    type: modbus\n    \
         connection: bus\n    every: 5s\n    registers:\n      - { name: flow_temp, register: 30053, kind: f32, unit: degC }\n      \
         - { name: valve, coil: 7 }\nsinks:\n  screen: { from: meter, type: log }\n",
    );
    let shown = |arguments: &[&str]| {
        let place = folder.path().to_str().expect("a plain path");
        forebay(["nodes", "--folder", place].iter().chain(arguments))
    };
    let table = "\
modbus source `site/meter`

  value      where              wire address  in manuals  unit
  flow_temp  2 input registers  52 (0x0034)   30053       degC
  valve      coil               7 (0x0007)    00008
";
    let text = shown(&["site/meter"]);
    assert_eq!((stdout(&text).as_str(), text.status.code()), (table, Some(0)));
    let json = shown(&["site/meter", "--format", "json"]);
    assert!(stdout(&json).contains(r#""wire_address":"52 (0x0034)""#), "{}", stdout(&json));
    let none = shown(&["site/screen"]);
    assert!(stdout(&none).contains("name nothing by itself"), "{}", stdout(&none));
    let unknown = shown(&["site/metre"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn a_graph_shows_the_examples() {
    let drawn = in_root(["graph", "pipelines/power-meter.yaml"]);
    let expected = "\
power-meter

  ┌──────────────┐     ┌────────┐       ┌────────────┐
  │ meter        ├────▶│ load   ├──────▶│ plant      │
  │ modbus       │     │ script │       │ mqtt       │
  │ on meter-bus │     │ errors ├───┐   │ on plant   │
  │       errors ├─┐   └────────┘   │   └────────────┘
  └──────────────┘ └──────────────┐ │   ┌────────────┐
                                  │ └──▶│ unreadable │
                                  └────▶│ log        │
                                        └────────────┘

connections

  plant      broker  plant
  meter-bus  modbus  meter
";
    assert_eq!((stdout(&drawn).as_str(), drawn.status.code()), (expected, Some(0)));

    let of = |name: &str, format: &str| {
        stdout(&in_root(["graph", &format!("pipelines/{name}.yaml"), "--format", format]))
    };
    let dot = read_report("dot", &of("power-meter", "dot"));
    let expected = [
        "c1 -> p0n0",
        "p0n0 -> p0n1",
        "p0n0 -> p0n3 \"errors\"",
        "p0n1 -> p0n2",
        "p0n1 -> p0n3 \"errors\"",
        "p0n2 -> c0",
    ];
    assert_eq!(dot.lines().collect::<Vec<_>>(), expected);
    let json: serde_json::Value = serde_json::from_str(&of("power-meter", "json")).unwrap();
    let expected = serde_json::json!({
        "name": "unreadable",
        "role": "sink",
        "type": "log",
        "connection": null,
        "from": [{ "node": "meter", "output": "errors" }, { "node": "load", "output": "errors" }],
    });
    assert_eq!(json["pipelines"][0]["nodes"][3], expected);
    assert_eq!(json["connections"][1]["name"], "meter-bus");
    let mermaid = of("plant-broker", "mermaid");
    assert!(mermaid.starts_with("flowchart LR\n  subgraph p0 [\"plant-broker\"]\n"), "{mermaid}");
    assert!(mermaid.contains("    p0n1 -->|alarm| p0n2\n"), "{mermaid}");
}

#[test]
fn a_graph_of_broken_pipelines_is_not_drawn() {
    let folder = Folder::with(&[("x.yaml", BROKEN)]);
    let drawn = forebay([Path::new("graph"), folder.path()]);
    assert_eq!(drawn.status.code(), Some(1));
    let said = stdout(&drawn);
    assert!(said.contains("error[unknown-node]: no node is named `b`"), "{said}");
    assert!(said.ends_with("nothing was drawn\n"), "{said}");

    // A program that reads the graph can read why there is none.
    let json = forebay(["graph".as_ref(), folder.path().as_os_str(), "--format=json".as_ref()]);
    assert_eq!(json.status.code(), Some(1));
    let rules: Vec<serde_json::Value> =
        stdout(&json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rules.iter().any(|finding| finding["rule"] == "unknown-node"), "{rules:#?}");
}

/// CI systems read these by readers of their own, so somebody else's must find them right.
#[test]
fn ci_systems_understand_what_lint_found() {
    let place = Folder::with(&[
        ("site/pipelines/a <&>.yaml", ""),
        ("site/pipelines/good.yaml", NEAT),
        ("site/pipelines/x.yaml", BROKEN),
    ]);
    let lint = |format: &str| {
        let mut command = program();
        command.args(["lint", "--format", format, "site"]).current_dir(place.path());
        command.output().unwrap()
    };

    let sarif = lint("sarif");
    assert_eq!(sarif.status.code(), Some(1));
    let report = Folder::with(&[("report", &stdout(&sarif))]);
    let mut command = Command::new(python());
    command
        .arg(root().join("tests/support/validate.py"))
        .arg(test_tools().join("sarif-2.1.0.json"));
    let verdict = command.arg(report.path().join("report")).output().unwrap();
    assert_eq!(stdout(&verdict).trim(), "valid", "{}", stderr(&verdict));
    let sarif: serde_json::Value = serde_json::from_str(&stdout(&sarif)).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let misspelt = results.iter().find(|result| result["ruleId"] == "unknown-setting").unwrap();
    let expected = serde_json::json!({
        "artifactLocation": { "uri": "site/pipelines/x.yaml" },
        "region": { "startLine": 2, "startColumn": 21, "endLine": 2, "endColumn": 25 },
    });
    assert_eq!(misspelt["locations"][0]["physicalLocation"], expected);
    assert_eq!(misspelt["level"], "error");
    let change = &misspelt["fixes"][0]["artifactChanges"][0]["replacements"][0];
    assert_eq!(change["insertedContent"]["text"], "every");

    let junit = lint("junit");
    assert_eq!(junit.status.code(), Some(1));
    let cases = read_report("junit", &stdout(&junit));
    let cases: Vec<&str> = cases.lines().collect();
    assert!(cases[0].starts_with("forebay lint: "), "{cases:#?}");
    assert!(cases.contains(&"forebay / site/pipelines/good.yaml|"), "{cases:#?}");
    let failure = "site/pipelines/x.yaml / unknown-setting in line 2|Failure unknown-setting: \
                   site/pipelines/x.yaml:2:21: error[unknown-setting]: timer source `a` has no setting `evry`|";
    assert!(cases.contains(&failure), "{cases:#?}");
    let strange =
        |case: &&str| case.starts_with("site/pipelines/a <&>.yaml / bad-name in line 1|Failure");
    assert!(cases.iter().any(strange), "{cases:#?}");
}

#[test]
fn a_warning_is_a_failed_test_only_when_it_fails() {
    let unread = "sources:\n  a: { type: timer, every: 1h }\n";
    let folder = Folder::with(&[("x.yaml", unread)]);
    let lint = |more: &[&str]| {
        let mut command = program();
        command.args(["lint", "--format", "junit", "."]).args(more).current_dir(folder.path());
        let output = command.output().unwrap();
        (read_report("junit", &stdout(&output)), output.status.code())
    };
    let (report, code) = lint(&[]);
    assert!(report.starts_with("forebay lint: 1 tests, 0 failures\n"), "{report}");
    assert!(report.contains("forebay / x.yaml|x.yaml:2:3: warning[unread-node]"), "{report}");
    assert_eq!(code, Some(0));
    let (report, code) = lint(&["--strict"]);
    assert!(report.starts_with("forebay lint: 1 tests, 1 failures\n"), "{report}");
    assert_eq!(code, Some(1));
}

#[test]
fn of_single_files_what_speaks_of_them_is_shown() {
    let uses = "sources:\n  a: { type: timer, every: 1h }\ntransforms:\n  t: { from: a, type: script, \
                script: s.rhai }\nsinks:\n  out: { from: t, type: log }\n";
    let folder = Folder::with(&[
        ("pipelines/good.yaml", NEAT),
        ("pipelines/s.rhai", "nope(\n"),
        ("pipelines/uses.yaml", uses),
        ("pipelines/x.yaml", BROKEN),
    ]);
    let lint = |files: &[&str]| {
        let mut command = program();
        command.args(["lint", "--format", "short"]).current_dir(folder.path()).args(files);
        let output = command.output().unwrap();
        let rules = stdout(&output);
        let rules =
            rules.lines().filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0));
        (rules.map(str::to_owned).collect::<Vec<_>>(), output.status.code())
    };
    assert_eq!(lint(&["pipelines/good.yaml"]), (vec![], Some(0)));
    let (rules, _) = lint(&["pipelines/x.yaml", "pipelines/good.yaml"]);
    assert_eq!(rules, ["unknown-setting", "unknown-node"]);
    // Also what is wrong in a script that the file uses.
    assert_eq!(lint(&["pipelines/uses.yaml"]), (vec!["script-syntax".to_owned()], Some(1)));
    let (rules, _) = lint(&["."]);
    assert_eq!(rules.len(), 3);
    assert_eq!(lint(&["pipelines/s.rhai"]), (vec!["script-syntax".to_owned()], Some(1)));
    folder.write("pipelines/notes.txt", "");
    let other = forebay([Path::new("lint"), &folder.path().join("pipelines/notes.txt")]);
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("notes.txt is no pipeline file: "), "{}", stderr(&other));
}

#[test]
fn several_folders_are_told_apart() {
    let place =
        Folder::with(&[("one/x.yaml", BROKEN), ("two/x.yaml", BROKEN), ("two/y.yaml", NEAT)]);
    let mut command = program();
    command.args(["lint", "--format", "short", "one", "two"]).current_dir(place.path());
    let said = stdout(&command.output().unwrap());
    let files: Vec<&str> = said.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(files, ["one/x.yaml", "one/x.yaml", "two/x.yaml", "two/x.yaml"]);
}

#[test]
fn paths_of_findings_led_nowhere_from_where_the_user_stood() {
    let place = Folder::with(&[("site/pipelines/x.yaml", BROKEN)]);
    let below = place.path().join("site").display().to_string();
    let verbs: [&[&str]; 8] = [
        &["lint"],
        &["lint", "--format", "short"],
        &["lint", "--format", "json"],
        &["lint", "--format", "junit"],
        &["lint", "--format", "sarif"],
        &["plan"],
        &["graph"],
        &["run", "--data", "data"],
    ];
    let said = |arguments: &[&str], path: &str, from: &str| {
        let mut command = program();
        command.args(arguments).arg(path).current_dir(place.path().join(from));
        let output = command.output().unwrap();
        format!("{}{}", stdout(&output), stderr(&output))
    };
    // The folder as the user calls it, where he stands, and what leads to the file from there.
    for (folder, from, file) in [
        ("site", ".", "site/pipelines/x.yaml"),
        ("../site", "site", "pipelines/x.yaml"),
        ("..", "site/pipelines", "x.yaml"),
        (".", "site", "pipelines/x.yaml"),
        (&below, ".", &format!("{below}/pipelines/x.yaml")),
    ] {
        for verb in verbs {
            let said = said(verb, folder, from);
            let called = said.match_indices("x.yaml").map(|(at, _)| {
                let begin =
                    said[..at].rfind([' ', '"', ':', '\n', '(', '>']).map_or(0, |at| at + 1);
                said[begin..at + "x.yaml".len()].trim_start_matches("//")
            });
            let mut called: Vec<&str> = called.collect();
            called.dedup();
            assert!(called == [file], "{verb:?} {folder} from {from}: {called:?}\n{said}");
        }
    }
    let of_file = said(&["lint", "--format", "short"], "x.yaml", "site/pipelines");
    assert!(of_file.starts_with("x.yaml:"), "{of_file}");
}

#[test]
fn pipelines_in_markdown_are_checked_in_their_place() {
    let page = "# Ünits\n\n- Like this:\n\n  ```yaml\n  sources:\n    m: { type: timer, evry: 1h }\n  \
                ```\n\n```yaml ignore\nsources: [\n```\n\n```yaml\nsinks:\n  out: { from: m, type: mqtt, \
                connection: elsewhere, topic: \"${env:NOT_SET_ANYWHERE}\" }\n```\n";
    let docs = Folder::with(&[("docs/deep/page.md", page), ("docs/other.md", "no pipeline\n")]);
    let lint = |path: &str, format: &str| {
        let mut command = program();
        command.args(["lint", path, "--format", format]).current_dir(docs.path());
        command.output().unwrap()
    };
    for path in ["docs", "docs/deep/page.md"] {
        let short = lint(path, "short");
        assert_eq!(
            stdout(&short),
            "docs/deep/page.md:7:23: error[unknown-setting]: timer source `m` has no setting `evry`\n"
        );
        assert_eq!(short.status.code(), Some(1));
    }
    let full = stdout(&lint("docs", "text"));
    assert!(full.contains("7 |     m: { type: timer, evry: 1h }\n"), "{full}");
    assert!(full.contains("1 error in 2 examples;"), "{full}");
    assert_eq!(stdout(&lint("docs", "human")), full, "as it was called before");
}

#[test]
fn the_pipelines_in_the_documentation_are_right() {
    // The pages of rules show what is wrong, and have a test of their own.
    let plugins = fs::read_dir(root().join("plugins")).unwrap();
    let pages = plugins.map(|plugin| plugin.unwrap().path().join("README.md"));
    let pages = pages.filter(|page| page.exists());
    let checked =
        in_root(["lint", "--strict", "README.md"].map(PathBuf::from).into_iter().chain(pages));
    assert_eq!(checked.status.code(), Some(0), "{}", stdout(&checked));
    assert!(stdout(&checked).starts_with("no findings in "), "{}", stdout(&checked));
}

#[test]
fn lint_looks_again_after_each_change() {
    let folder = Folder::with(&[("x.yaml", NEAT)]);
    let mut command = program();
    command.args(["lint", "--watch"]).arg(folder.path());
    let mut watch = Forebay::of(command);
    watch.wait_for_log("no findings in 1 pipeline");
    watch.log_after("2 errors in 1 pipeline", || folder.replace("x.yaml", BROKEN));
    watch.log_after("no findings in 1 pipeline", || folder.replace("x.yaml", NEAT));
    watch.log_after("holds no pipeline file", || folder.remove("x.yaml"));
    watch.log_after("2 errors in 1 pipeline", || folder.write("x.yaml", BROKEN));
    let escapes = |line: &String| line.contains('\x1b');
    assert!(!watch.log.all().iter().any(escapes), "no terminal, nothing to clear");
    watch.kill();

    let missing = forebay(["lint", "--watch", "not-there"]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(stderr(&missing), "error: there is no folder not-there\n");
}

#[test]
fn tests_run_again_after_each_change() {
    let test = "tests: [{ name: one, for: 10s, expect: { b: { at_least: 1 } } }]\n";
    let pipeline =
        "sources: { b: { type: timer, every: 1s } }\nsinks: { s: { from: b, type: log } }\n";
    let folder = Folder::with(&[("x.yaml", pipeline), ("x.test.yaml", test)]);
    let mut command = program();
    command.args(["test", "--watch"]).arg(folder.path());
    let mut watch = Forebay::of(command);
    watch.wait_for_log("1 test passed");
    let strict = test.replace("at_least: 1", "at_least: 500");
    watch.log_after("1 of 1 test failed", || folder.replace("x.test.yaml", &strict));
    watch.log_after("1 test passed", || {
        folder.replace("x.yaml", &pipeline.replace("every: 1s", "every: 10ms"));
    });
    watch.kill();
}

/// The hooks run what they say on files that they match.
#[test]
fn the_hooks_for_pre_commit_are_verbs() {
    let text = fs::read_to_string(root().join(".pre-commit-hooks.yaml")).unwrap();
    let mut findings = Vec::new();
    let limits = forebay_yaml::Limits::default();
    let hooks = forebay_yaml::parse(&text, 0, limits, &mut findings).unwrap().to_value();
    assert_eq!(findings, []);
    let folder = Folder::with(&[("pipelines/x.yaml", NEAT)]);
    let hooks = hooks.as_array().unwrap();
    assert_eq!(hooks.len(), 2);
    for hook in hooks {
        assert_eq!(hook["files"], r"(^|/)pipelines/[^/.][^/]*\.ya?ml$");
        let mut words = hook["entry"].as_str().unwrap().split(' ');
        assert_eq!(words.next(), Some("forebay"));
        let mut command = program();
        command.args(words).arg("pipelines/x.yaml").current_dir(folder.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{hook}: {}", stdout(&output));
    }
}

fn in_root<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    program().args(arguments).current_dir(root()).output().unwrap()
}

/// Runs a verb with something to read.
fn with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = program();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let mut stdin = running.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        running.wait_with_output().unwrap()
    })
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
