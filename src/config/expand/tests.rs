//! What is taken apart reads as if its author had written the parts.

use crate::{
    config::{Draft, Types, example, load, tests::folder_of},
    lint::{self, report::Format},
};

fn draft(files: &str) -> Draft {
    let folder = folder_of(files);
    let types = Types::new(vec![example::plugin()]);
    load(folder.path(), &types, &|_| None).unwrap()
}

/// All nodes and connections with what they read and use.
#[track_caller]
fn check_graph(files: &str, expected: &[&str]) {
    let checked = lint::lint(draft(files));
    let found = lint::report::render(&checked.findings, &checked.texts, Format::Full, false);
    let graph = checked.graph.unwrap_or_else(|| panic!("{found}"));
    let mut lines: Vec<String> =
        graph.connections.iter().map(|(name, spec)| format!("{} {name}", spec.type_name)).collect();
    for (name, spec) in &graph.nodes {
        let mut line = format!("{} {name}", spec.type_name);
        for output in &spec.from {
            line += &format!(" < {} as {}", output.node, output.written);
        }
        if let Some(connection) = &spec.connection {
            line += &format!(" on {connection}");
        }
        lines.push(line);
    }
    assert_eq!(lines, expected, "{found}");
}

/// What lint says, in lines.
#[track_caller]
fn check(files: &str, expected: &[&str]) {
    let checked = lint::lint(draft(files));
    let found = lint::report::render(&checked.findings, &checked.texts, Format::Short, false);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{found}");
}

#[test]
fn a_section_of_its_own_makes_connections_and_nodes() {
    check_graph(
        "pairs:\n  p:\n    links:\n      - { as: a, to: x }\n      - { as: b, to: y }\n",
        &[
            "line x/p:line",
            "tap x/p:a-in on x/p:line",
            "end x/p:a-out < x/p:a-in as :a-in",
            "tap x/p:b-in on x/p:line",
            "end x/p:b-out < x/p:b-in as :b-in",
        ],
    );
    // A name is the pipeline's.
    let one = "pairs:\n  p: { links: [{ to: x }] }\n";
    check(&format!("=== pipelines/a.yaml\n{one}=== pipelines/b.yaml\n{one}"), &[]);
    check("pairs:\n", &["pipelines/x.yaml:1:1: error[empty-pipeline]: pipeline has no node"]);
}

#[test]
fn a_type_stands_for_several_and_is_read_by_its_name() {
    check_graph(
        "sources:\n  b: { type: beat, say: heat }\ntransforms:\n  \
         c: { type: chain, from: b, steps: [heat, heat, heat] }\n\
         sinks:\n  e: { type: end, from: [c, c.errors, c] }\n",
        &[
            "beat x/b",
            "pass x/c < x/c:1 as :1",
            "pass x/c:0 < x/b as b",
            "pass x/c:1 < x/c:0 as :0",
            "end x/e < x/c as c < x/c as c.errors",
        ],
    );
}

#[test]
fn nobody_else_can_name_a_part() {
    let pair = "pairs:\n  p: { links: [{ to: a }] }\n";
    check(
        &format!("{pair}sinks:\n  e: {{ type: end, from: 'p:0-in' }}\n"),
        &[
            "pipelines/x.yaml:4:25: error[unknown-node]: no node is named `p:0-in` (not found in this pipeline)",
        ],
    );
    check(
        &format!("{pair}sinks:\n  e: {{ type: end, from: ':0-in' }}\n"),
        &[
            "pipelines/x.yaml:4:25: error[unknown-node]: no node is named `:0-in` (not found in this pipeline)",
        ],
    );
    check(
        &format!(
            "{pair}sources:\n  t: {{ type: tap, to: x, connection: 'x/p:line' }}\nsinks:\n  e: {{ type: end, from: t }}\n"
        ),
        &[
            "pipelines/x.yaml:4:38: error[unknown-connection]: no connection is named `x/p:line` (not found in this folder)",
        ],
    );
    check(
        "sources:\n  'p:0': { type: beat }\n",
        &[
            "pipelines/x.yaml:2:3: error[bad-name]: `p:0` cannot be the name of a source (expected letters, digits, `-` and `_`)",
        ],
    );
}

#[test]
fn what_has_a_name_has_it_alone() {
    check(
        "pairs:\n  p: { links: [{ to: x }] }\nsources:\n  p: { type: beat }\nsinks:\n  e: { type: end, from: p }\n",
        &["pipelines/x.yaml:4:3: error[duplicate-node]: two nodes are called `p` (again here)"],
    );
    check(
        "pairs:\n  p:\n    links:\n      - { as: a, to: x }\n      - { as: a, to: y }\n",
        &[
            "pipelines/x.yaml:5:9: error[duplicate-node]: two nodes are called `p:a-in` (again here)",
            "pipelines/x.yaml:5:9: error[duplicate-node]: two nodes are called `p:a-out` (again here)",
        ],
    );
    check(
        "pairs:\n  p:\n    links:\n      - { as: a/b, to: x }\n",
        &[
            "pipelines/x.yaml:4:9: error[bad-name]: `a/b-in` cannot be the name of a part (expected letters, digits, `-` and `_`)",
        ],
    );
}

#[test]
fn a_mistake_is_shown_where_its_author_wrote_it() {
    // By the schema of the whole.
    check(
        "pairs:\n  p: { links: [{ to: x }], likns: 1 }\n",
        &["pipelines/x.yaml:2:28: error[unknown-setting]: pair `p` has no setting `likns`"],
    );
    check(
        "pairs:\n  p: { }\n",
        &[
            "pipelines/x.yaml:2:3: error[missing-setting]: pair `p` needs `links` (`links` is missing)",
        ],
    );
    check(
        "pairs:\n  p:\n",
        &[
            "pipelines/x.yaml:2:3: error[setting-type]: pair `p` has no settings (expected a map, found nothing)",
        ],
    );
    // By that of a part.
    check(
        "pairs:\n  p:\n    links:\n      - { to: x, volume: loud }\n      - { as: b, to: y, volum: 3 }\n",
        &[
            "pipelines/x.yaml:4:26: error[setting-type]: `volume` has the wrong type (expected a whole number, found \"loud\")",
            "pipelines/x.yaml:5:25: error[unknown-setting]: end sink `p:b-out` has no setting `volum`",
        ],
    );
    // What is missing has no place of its own.
    check(
        "pairs:\n  p:\n    links:\n      - { as: b }\n",
        &[
            "pipelines/x.yaml:4:9: error[missing-setting]: tap source `p:b-in` needs `to` (`to` is missing)",
        ],
    );
    // One mistake that several parts are made of is one.
    check(
        "pairs:\n  p:\n    links:\n      - &a { as: a, to: x, volume: loud }\n      - { <<: *a, as: b }\n",
        &[
            "pipelines/x.yaml:4:36: error[setting-type]: `volume` has the wrong type (expected a whole number, found \"loud\")",
        ],
    );
    check(
        "sources:\n  b: { type: beat }\ntransforms:\n  c: { type: chain, from: b, steps: [heat, beat] }\nsinks:\n  e: { type: end, from: c }\n",
        &[
            "pipelines/x.yaml:4:38: warning[unproduced-field]: nothing upstream of `c:0` gives a field `heat` (did you mean `beat`?)",
        ],
    );
}

#[test]
fn a_finding_about_a_part_shows_the_whole() {
    let checked =
        lint::lint(draft("pairs:\n  p:\n    links:\n      - to: x\n        alone: yes\n"));
    let found = lint::report::render(&checked.findings, &checked.texts, Format::Full, false);
    let expected = "
warning[unread-node]: nobody reads tap source `p:0-in`
 --> pipelines/x.yaml:4:9
  |
2 |   p:
3 |     links:
4 |       - to: x
  |         ^^^^^";
    assert_eq!(found.trim(), expected.trim(), "\n{found}");
}

#[test]
fn an_edit_is_of_what_somebody_wrote() {
    let edits = |text: &str| -> Vec<String> {
        let checked = lint::lint(draft(text));
        assert!(!checked.findings.is_empty());
        checked
            .findings
            .iter()
            .filter_map(|found| Some(found.edit.as_ref()?.text.clone()))
            .collect()
    };
    let link = |link: &str| format!("pairs:\n  p:\n    tap: tap\n    links: [{{ to: x{link} }}]\n");
    assert_eq!(edits(&link(", volum: 3")), ["volume"]);
    // The type was made of a text, and has no place of its own.
    assert_eq!(edits(&link("").replace("tap: tap", "tap: tpa")), <[String; 0]>::default());
    // A buffer may be nothing that a link can have.
    assert_eq!(edits(&link(", must_deliver: true")), <[String; 0]>::default());
}

#[test]
fn nothing_is_missed_where_a_whole_could_not_be_read() {
    check(
        "transforms:\n  c: { type: chain, from: b, setps: [] }\nsources:\n  b: { type: beat }\nsinks:\n  e: { type: end, from: c }\n",
        &[
            "pipelines/x.yaml:2:30: error[unknown-setting]: chain transform `c` has no setting `setps`",
        ],
    );
}

#[test]
fn a_connection_that_was_made_is_used_or_said_not_to_be() {
    check(
        "pairs:\n  p:\n    links: []\n",
        &["pipelines/x.yaml:3:5: warning[unused-connection]: connection `p:line` is not used"],
    );
}

#[test]
fn a_section_and_a_type_are_offered_to_who_misspells_them() {
    check(
        "pair:\n  p: { links: [{ to: x }] }\n",
        &["pipelines/x.yaml:1:1: error[unknown-section]: there is no section `pair`"],
    );
    check(
        "sources:\n  b: { type: chain }\n",
        &[
            "pipelines/x.yaml:2:14: error[unknown-type]: there is no source type `chain` (`chain` is a transform, not a source)",
        ],
    );
    check(
        "sources:\n  pairs: { p: { links: [] } }\n",
        &[
            "pipelines/x.yaml:2:3: error[unknown-section]: section `pairs` stands inside `sources` (expected no space in front)",
        ],
    );
    check(
        "pairs: [a]\n",
        &[
            "pipelines/x.yaml:1:8: error[setting-type]: `pairs` holds no pairs (expected names with settings, found a list)",
        ],
    );
}

#[test]
fn the_place_of_a_whole_does_not_restart_its_parts() {
    let fingerprints = |text: &str| -> Vec<u64> {
        let graph = lint::lint(draft(text)).graph.unwrap();
        graph.nodes.values().map(|spec| spec.fingerprint).collect()
    };
    let usual = fingerprints("pairs:\n  p: { links: [{ as: a, to: x }] }\n");
    assert_eq!(usual, fingerprints("# moved\npairs:\n  p:\n    links: [{ to: x, as: a }]\n"));
    assert_ne!(usual, fingerprints("pairs:\n  p: { links: [{ as: a, to: y }] }\n"));
}
