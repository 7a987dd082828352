//! A picture says what the files say.

use std::collections::BTreeSet;

use forebay_sdk::Role;

use super::{
    boxes, drawn,
    picture::{Connection, Node, Picture, Pipeline, Wire},
};

/// `a; b < a, a.errors on bus`: nodes, what they read, and the connection they use.
fn nodes(text: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for line in text.split(';').map(str::trim) {
        let (line, connection) = match line.split_once(" on ") {
            Some((line, connection)) => (line, Some(connection.to_owned())),
            None => (line, None),
        };
        let (name, from) = line.split_once(" < ").unwrap_or((line, ""));
        let wire = |text: &str| {
            let (node, output) = match text.split_once('.') {
                Some((node, output)) => (node, Some(output.to_owned())),
                None => (text, None),
            };
            Wire { from: nodes.iter().position(|other| other.name == node).unwrap(), output }
        };
        let reads: Vec<Wire> = from.split(", ").filter(|one| !one.is_empty()).map(wire).collect();
        let role = if reads.is_empty() { Role::Source } else { Role::Sink };
        let (name, type_name) = (name.to_owned(), "type".to_owned());
        nodes.push(Node { role, name, type_name, connection, reads });
    }
    nodes
}

fn picture() -> Picture {
    let pipelines = [("one", "a on bus; b < a, a.high on hall"), ("two", "c on hall")];
    let pipeline =
        |(name, text): (&str, &str)| Pipeline { name: name.to_owned(), nodes: nodes(text) };
    let connection =
        |name: &str| Connection { name: name.to_owned(), type_name: "kind".to_owned() };
    Picture {
        pipelines: pipelines.map(pipeline).into(),
        connections: ["bus", "hall"].map(connection).into(),
    }
}

#[test]
fn a_picture_for_the_terminal() {
    let expected = "\
one

  ┌────────┐     ┌─────────┐
  │ a      ├────▶│ b       │
  │ type   │ ┌──▶│ type    │
  │ on bus │ │   │ on hall │
  │   high ├─┘   └─────────┘
  └────────┘

two

  ┌─────────┐
  │ c       │
  │ type    │
  │ on hall │
  └─────────┘

connections

  bus   kind  one/a
  hall  kind  one/b, two/c
";
    assert_eq!(picture().text(), expected);
}

/// A character may take two columns, or none.
#[test]
fn wide_characters_do_not_break_the_boxes() {
    let expected = "
  ┌─────────┐     ┌──────┐
  │ 温度計  ├────▶│ cafe\u{301} │
  │ type    │ ┌──▶│ type │
  │ on バス │ │   └──────┘
  │      高 ├─┘
  └─────────┘
";
    let picture = boxes::draw(&nodes("温度計 on バス; cafe\u{301} < 温度計, 温度計.高"));
    assert_eq!(format!("\n{picture}"), expected);
}

#[test]
fn a_pipeline_without_nodes_says_so() {
    let empty = Pipeline { name: "empty".to_owned(), nodes: Vec::new() };
    let picture = Picture { pipelines: vec![empty], connections: Vec::new() };
    assert_eq!(picture.text(), "empty\n\n  no nodes\n\n");
}

#[test]
fn a_picture_for_mermaid() {
    let expected = r#"flowchart LR
  subgraph p0 ["one"]
    p0n0(["a<br>type"])
    p0n1[["b<br>type"]]
    p0n0 --> p0n1
    p0n0 -->|high| p0n1
  end
  subgraph p1 ["two"]
    p1n0(["c<br>type"])
  end
  c0[("bus<br>kind")]
  c1[("hall<br>kind")]
  c0 -.-> p0n0
  p0n1 -.-> c1
  c1 -.-> p1n0
"#;
    assert_eq!(picture().mermaid(), expected);
}

#[test]
fn a_picture_for_graphviz() {
    let expected = r#"digraph forebay {
  rankdir=LR
  node [shape=box, fontname=sans]
  edge [fontname=sans, fontsize=10]
  subgraph cluster_0 {
    label="one"
    p0n0 [label="a\ntype", style=rounded]
    p0n1 [label="b\ntype", peripheries=2]
    p0n0 -> p0n1
    p0n0 -> p0n1 [label="high"]
  }
  subgraph cluster_1 {
    label="two"
    p1n0 [label="c\ntype", style=rounded]
  }
  c0 [label="bus\nkind", shape=cylinder]
  c1 [label="hall\nkind", shape=cylinder]
  c0 -> p0n0 [style=dashed]
  p0n1 -> c1 [style=dashed]
  c1 -> p1n0 [style=dashed]
}
"#;
    assert_eq!(picture().dot(), expected);
}

#[test]
fn a_wire_that_passes_a_column_goes_round_its_boxes() {
    let expected = "
  ┌──────┐     ┌──────┐     ┌──────┐
  │ a    ├─┬──▶│ b    ├────▶│ c    │
  │ type │ │   │ type │ ┌──▶│ type │
  └──────┘ │   └──────┘ │   └──────┘
           └────────────┘
";
    assert_eq!(boxes::draw(&nodes("a; b < a; c < b, a")), expected[1..]);
}

#[test]
fn errors_of_many_nodes_are_told_where_their_wires_would_not_fit() {
    let mut text = "node-0".to_owned();
    for node in 1..6 {
        text += &format!("; node-{node} < node-{}", node - 1);
    }
    let errors: Vec<String> = (0..6).map(|node| format!("node-{node}.errors")).collect();
    let nodes = nodes(&format!("{text}; all < {}", errors.join(", ")));
    let expected = "
  ┌────────┐   ┌────────┐   ┌────────┐   ┌────────┐   ┌────────┐   ┌────────┐
  │ node-0 ├──▶│ node-1 ├──▶│ node-2 ├──▶│ node-3 ├──▶│ node-4 ├──▶│ node-5 │
  │ type   │   │ type   │   │ type   │   │ type   │   │ type   │   │ type   │
  └────────┘   └────────┘   └────────┘   └────────┘   └────────┘   └────────┘

  all (type) reads the errors of node-0, node-1, node-2, node-3, node-4, node-5
";
    assert_eq!(drawn(&nodes), expected[1..]);
}

/// Each node with what the lines of the picture lead to from its outputs.
fn followed(picture: &str, nodes: &[Node]) -> BTreeSet<(String, String, String)> {
    let rows: Vec<Vec<char>> = picture.lines().map(|line| line.chars().collect()).collect();
    let at =
        |row: usize, column: usize| *rows.get(row).and_then(|row| row.get(column)).unwrap_or(&' ');
    // A box by the place of its name: its first row, its left and right edge.
    let find = |name: &str| {
        let wanted: Vec<char> = format!("│ {name} ").chars().collect();
        let place = rows.iter().enumerate().find_map(|(row, text)| {
            let place = text.windows(wanted.len()).position(|part| part == wanted.as_slice());
            place.map(|left| (row, left))
        });
        let (row, left) = place.unwrap_or_else(|| panic!("no {name} in\n{picture}"));
        let right = (left + 1..).find(|column| at(row - 1, *column) == '┐').unwrap();
        let bottom = (row..).find(|row| at(*row, left) == '└').unwrap();
        (row..bottom, left, right)
    };
    let boxes: Vec<_> = nodes.iter().map(|node| find(&node.name)).collect();
    let mut found = BTreeSet::new();
    for (node, (inside, _, right)) in nodes.iter().zip(&boxes) {
        for row in inside.clone().filter(|row| at(*row, *right) == '├') {
            let label: String = rows[row][..*right].iter().collect();
            let last = label.trim_end().rsplit([' ', '│']).next().unwrap();
            let label = if row == inside.start { String::new() } else { last.to_owned() };
            // Cells that a line enters, and the direction it goes: rows, then columns.
            let mut ahead: Vec<(usize, usize, i32, i32)> = vec![(row, right + 1, 0, 1)];
            let mut seen = BTreeSet::new();
            while let Some(step) = ahead.pop() {
                if !seen.insert(step) {
                    continue;
                }
                let (row, column, down, across) = step;
                let ways: &[(i32, i32)] = match at(row, column) {
                    '▶' => {
                        let target = boxes.iter().position(|(inside, left, _)| {
                            *left == column + 1 && inside.contains(&row)
                        });
                        let target = nodes[target.unwrap()].name.clone();
                        found.insert((node.name.clone(), label.clone(), target));
                        continue;
                    }
                    // One wire passes below another.
                    '│' if across != 0 => &[(0, 1)],
                    '│' => &[(1, 0), (-1, 0)],
                    '─' => &[(0, 1)],
                    '┐' => &[(1, 0)],
                    '┘' => &[(-1, 0)],
                    '┌' | '└' => &[(0, 1)],
                    '┤' => &[(1, 0), (-1, 0)],
                    '├' => &[(0, 1), (1, 0), (-1, 0)],
                    '┬' => &[(0, 1), (1, 0)],
                    '┴' => &[(0, 1), (-1, 0)],
                    '┼' => &[(0, 1), (1, 0), (-1, 0)],
                    other => panic!("a line of {} ends in `{other}`\n{picture}", node.name),
                };
                let back = (-down, -across);
                for (down, across) in ways.iter().filter(|way| **way != back) {
                    let row = row.checked_add_signed(*down as isize).unwrap();
                    ahead.push((
                        row,
                        column.checked_add_signed(*across as isize).unwrap(),
                        *down,
                        *across,
                    ));
                }
            }
        }
    }
    found
}

#[test]
fn whoever_follows_a_line_arrives_where_it_leads() {
    for seed in 0..2000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(2..11);
        let mut text = "n0".to_owned();
        for node in 1..count {
            let inputs: BTreeSet<String> = (0..random.usize(0..4))
                .map(|_| {
                    let output = ["", "", ".errors", ".high"][random.usize(..4)];
                    format!("n{}{output}", random.usize(..node))
                })
                .collect();
            let inputs: Vec<String> = inputs.into_iter().collect();
            let reads = if inputs.is_empty() { "" } else { " < " };
            text += &format!("; n{node}{reads}{}", inputs.join(", "));
        }
        let nodes = nodes(&text);
        let drawn = boxes::draw(&nodes);
        let wires = nodes.iter().flat_map(|node| node.reads.iter().map(move |wire| (node, wire)));
        let wires: BTreeSet<(String, String, String)> = wires
            .map(|(node, wire)| {
                let output = wire.output.clone().unwrap_or_default();
                (nodes[wire.from].name.clone(), output, node.name.clone())
            })
            .collect();
        assert_eq!(followed(&drawn, &nodes), wires, "seed {seed}: {text}\n{drawn}");
    }
}
