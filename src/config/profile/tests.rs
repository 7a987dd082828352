//! Profiles of users, with the node type that takes them in.

use std::collections::BTreeMap;

use crate::{
    config::{Draft, Types, load, tests::folder_of},
    lint::{self, report::Format},
    plugins,
};

const SOURCE: &str = "connections: { bus: { type: modbus, url: 'tcp://10.0.0.5' } }
sinks: { out: { from: meter, type: log } }
sources:
  meter:
    type: modbus
    connection: bus
    every: 5s
    profile: boiler
";

const PROFILE: &str = "summary: A boiler.
defaults: { kind: i16 }
groups: { heat: [flow, back] }
registers:
  - { name: flow, input: 0, scale: 0.1, unit: degC }
  - { name: back, input: 1, scale: 0.1 }
  - { name: pump, coil: 3 }
writable:
  - { name: setpoint, holding: 9, min: 20, max: 80 }
";

fn draft(files: &str) -> Draft {
    let folder = folder_of(files);
    load(folder.path(), &Types::new(plugins::all()), &|_| None).unwrap()
}

/// A pipeline, and a profile beside it.
fn files(more: &str, profile: &str) -> String {
    format!("=== pipelines/x.yaml\n{SOURCE}{more}=== profiles/boiler.yaml\n{profile}")
}

#[track_caller]
fn check(files: &str, expected: &[&str]) {
    let checked = lint::lint(draft(files));
    let found = lint::report::render(&checked.findings, &checked.texts, Format::Short, false);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{found}");
}

/// The registers of the node, as they stand in its settings then.
fn registers(files: &str) -> BTreeMap<String, String> {
    let draft = draft(files);
    let part = draft.parts.iter().find(|part| part.short == "meter").unwrap();
    let list = part.settings.get("registers").unwrap().to_value();
    let entry = |register: &serde_json::Value| {
        (register["name"].as_str().unwrap().to_owned(), register.to_string())
    };
    list.as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn a_profile_of_the_folder_is_taken_in() {
    check(&files("", PROFILE), &[]);
    let found = registers(&files("", PROFILE));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["back", "flow", "pump"]);
    assert_eq!(
        found["flow"],
        r#"{"name":"flow","input":0,"scale":0.1,"unit":"degC","kind":"i16"}"#
    );
    assert_eq!(found["pump"], r#"{"name":"pump","coil":3}"#, "a coil is no number");
}

#[test]
fn a_node_takes_a_part_of_a_profile_changes_and_adds_to_it() {
    let more = "    only: [back]
    registers:
      - { name: flow, holding: 7, deadband: { abs: 1 } }
      - { name: own, input: 40 }
";
    check(&files(more, PROFILE), &[]);
    let found = registers(&files(more, PROFILE));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["back", "flow", "own"]);
    assert_eq!(
        found["flow"],
        r#"{"name":"flow","holding":7,"deadband":{"abs":1},"scale":0.1,"unit":"degC","kind":"i16"}"#
    );
    assert_eq!(found["own"], r#"{"name":"own","input":40}"#);
    let own = more.replace("[back]", "[back, own]");
    assert_eq!(registers(&files(&own, PROFILE)), found);
    let group = registers(&files("    only: [heat]\n", PROFILE));
    assert_eq!(group.keys().collect::<Vec<_>>(), ["back", "flow"]);
}

#[test]
fn what_is_wrong_in_a_profile_is_shown_at_its_place_there() {
    let wrong =
        PROFILE.replace("coil: 3", "coil: 3, scale: 2").replace("scale: 0.1 }", "scle: 0.1 }");
    check(
        &files("", &wrong),
        &[
            "profiles/boiler.yaml:6:29: error[unknown-setting]: `registers[1]` has no setting `scle`",
        ],
    );
    // What only reading it shows.
    check(
        &files("", &PROFILE.replace("coil: 3", "coil: 3, bit: 2")),
        &[
            "profiles/boiler.yaml:7:33: error[setting-value]: register `pump` has no use for `bit` (a coil is one bit)",
        ],
    );
    check(
        &files("", &PROFILE.replace("[flow, back]", "[flow, bak]")),
        &[
            "profiles/boiler.yaml:3:24: error[setting-value]: group `heat` has `bak`, and there is no such register (expected the `name` of a register)",
        ],
    );
    check(
        &files("", "registers: [\n"),
        &[
            "profiles/boiler.yaml:1:12: error[yaml-syntax]: file is not valid YAML (this `[` is not closed)",
        ],
    );
}

#[test]
fn a_profile_or_a_part_of_one_that_is_not_there_is_found() {
    let of = |profile: &str, more: &str| {
        format!("=== pipelines/x.yaml\n{}{more}", SOURCE.replace("boiler", profile))
    };
    check(
        &of("sdm360", ""),
        &["pipelines/x.yaml:8:14: error[unknown-profile]: there is no profile `sdm360`"],
    );
    check(
        &of("../x", ""),
        &["pipelines/x.yaml:8:14: error[unknown-profile]: there is no profile `../x`"],
    );
    check(
        &of("sdm630", "    only: [enregy]\n"),
        &[
            "pipelines/x.yaml:9:12: error[setting-value]: profile `sdm630` has neither a register nor a group `enregy`",
        ],
    );
    check(
        &of("{ a: 1 }", ""),
        &[
            "pipelines/x.yaml:8:14: error[setting-type]: `profile` has the wrong type (expected text, found a map)",
        ],
    );
    let neither = SOURCE.replace("    profile: boiler\n", "    only: [heat]\n");
    check(
        &format!("=== pipelines/x.yaml\n{neither}"),
        &[
            "pipelines/x.yaml:4:3: error[missing-setting]: modbus source needs `registers` (`registers` is missing)",
            "pipelines/x.yaml:8:11: error[setting-value]: `only` takes a part of a profile, and there is none (expected a `profile` beside it)",
        ],
    );
}

/// Several nodes of one profile, and a sink that writes what the profile allows.
#[test]
fn a_sink_writes_what_a_profile_lists_as_writable_and_nothing_else() {
    let sink = |profile: &str| {
        format!(
            "=== pipelines/x.yaml
connections: {{ bus: {{ type: modbus, url: 'tcp://10.0.0.5' }} }}
sources: {{ tick: {{ type: timer, every: 1h, payload: {{ setpoint: 50 }} }} }}
sinks:
  one: {{ from: tick, type: modbus, connection: bus, profile: {profile} }}
=== profiles/boiler.yaml
{PROFILE}"
        )
    };
    check(&sink("boiler"), &[]);
    check(
        &sink("sdm630"),
        &[
            "pipelines/x.yaml:4:62: error[setting-value]: profile `sdm630` has nothing to write (expected one with a list `writable`)",
        ],
    );
}

#[test]
fn the_users_own_profile_goes_before_the_one_that_is_built_in() {
    let of = |file: &str| {
        let pipeline = SOURCE.replace("boiler", "sdm630");
        format!("=== pipelines/x.yaml\n{pipeline}=== profiles/{file}.yaml\n{PROFILE}")
    };
    assert_eq!(registers(&of("sdm630")).len(), 3);
    assert!(registers(&of("other")).len() > 50);
}

#[test]
fn a_change_to_a_profile_replaces_its_nodes_and_no_others() {
    let fingerprints = |profile: &str| -> BTreeMap<String, u64> {
        let second = "  other: { type: modbus, connection: bus, every: 1s, profile: sdm120 }\n";
        let sink = "=== pipelines/y.yaml\nsinks: { out: { from: other, type: log } }\n";
        let files = files(second, profile).replace(sink, "");
        let files = files.replace("from: meter", "from: [meter, other]");
        let checked = lint::lint(draft(&files));
        let graph = checked.graph.unwrap_or_else(|| panic!("{:?}", checked.findings));
        graph.nodes.iter().map(|(name, spec)| (name.to_string(), spec.fingerprint)).collect()
    };
    let before = fingerprints(PROFILE);
    assert_eq!(before, fingerprints(&format!("# said\n{PROFILE}")));
    let after = fingerprints(&PROFILE.replace("input: 1,", "input: 2,"));
    let changed: Vec<&String> =
        before.keys().filter(|name| before[*name] != after[*name]).collect();
    assert_eq!(changed, ["x/meter"]);
}

#[test]
fn a_profile_is_watched_also_before_it_is_there() {
    let named = draft(&format!("=== pipelines/x.yaml\n{}", SOURCE.replace("boiler", "sdm630")));
    assert!(named.watched.concerns(std::path::Path::new("profiles/sdm630.yaml")));
    assert!(named.watched.folders.iter().any(|folder| folder.ends_with("profiles")));
    // What is compiled in is no file of the folder, so no copy of the folder has it.
    assert!(named.texts.iter().all(|(path, _)| path == "pipelines/x.yaml"));
    let own = draft(&files("", PROFILE));
    assert!(own.texts.iter().any(|(path, _)| path == "profiles/boiler.yaml"));
    assert_ne!(own.content_hash(), draft(&files("", &format!("{PROFILE}# said\n"))).content_hash());
}
