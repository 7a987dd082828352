//! Boxes and lines for the terminal.
//!
//! Nodes stand in columns, each behind what it reads. A wire that passes a column without stopping
//! gets a row there like a box. Between two columns every wire has rows and a track of its own, so
//! lines cross and never lie upon each other.

use std::collections::{BTreeMap, BTreeSet};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::picture::Node;

/// A box, or the row in which a wire passes a column.
struct Block {
    /// Lines of text; none for a wire that passes.
    lines: Vec<String>,
    /// The wires that come in, one a row, from the first on.
    ins: Vec<Port>,
    /// The wires that go out, each with its row.
    outs: Vec<(Port, usize)>,
    height: usize,
    top: usize,
}

/// One output of one node: where a wire begins.
type Port = (usize, Option<String>);

/// Draws the nodes of one pipeline, which has no cycle. Ends in a line break.
pub(super) fn draw(nodes: &[Node]) -> String {
    let mut columns = columns(nodes);
    for at in 1..columns.len() {
        let (before, here) = columns.split_at_mut(at);
        order(&before[at - 1], &mut here[0]);
    }
    for at in 0..columns.len() {
        let (before, here) = columns.split_at_mut(at);
        place(before.last(), &mut here[0]);
    }
    paint(&columns)
}

/// Sorts nodes into columns, and adds a block wherever a wire passes one.
fn columns(nodes: &[Node]) -> Vec<Vec<Block>> {
    let depths = depths(nodes);
    // How far each wire goes.
    let mut reaches: BTreeMap<Port, usize> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for wire in &node.reads {
            let reach = reaches.entry((wire.from, wire.output.clone())).or_default();
            *reach = (*reach).max(depths[index]);
        }
    }
    let count = depths.iter().max().map_or(0, |deepest| deepest + 1);
    let mut columns: Vec<Vec<Block>> = (0..count).map(|_| Vec::new()).collect();
    for (index, node) in nodes.iter().enumerate() {
        let outs = reaches.keys().filter(|(from, _)| *from == index).cloned().collect();
        columns[depths[index]].push(Block::of(node, outs));
    }
    for (port, reach) in reaches {
        for passed in &mut columns[depths[port.0] + 1..reach] {
            passed.push(Block::passing(port.clone()));
        }
    }
    columns
}

/// The column of each node: one behind the last that it reads.
fn depths(nodes: &[Node]) -> Vec<usize> {
    let mut depths = vec![0; nodes.len()];
    // Each round settles at least one more node of a graph without cycles.
    for _ in 0..nodes.len() {
        for (index, node) in nodes.iter().enumerate() {
            let behind = node.reads.iter().map(|wire| depths[wire.from] + 1).max();
            depths[index] = behind.unwrap_or(0).min(nodes.len());
        }
    }
    depths
}

impl Block {
    fn of(node: &Node, outs: Vec<Port>) -> Block {
        let mut lines = vec![node.name.clone(), node.type_name.clone()];
        lines.extend(node.connection.as_ref().map(|name| format!("on {name}")));
        let ins =
            node.reads.iter().map(|wire| (wire.from, wire.output.clone())).collect::<Vec<_>>();
        let mut below = lines.len();
        let outs: Vec<(Port, usize)> = outs
            .into_iter()
            .map(|port| match port.1 {
                None => (port, 0),
                Some(_) => {
                    below += 1;
                    (port, below - 1)
                }
            })
            .collect();
        let height = below.max(ins.len()) + 2;
        Block { lines, ins, outs, height, top: 0 }
    }

    fn passing(port: Port) -> Block {
        let outs = vec![(port.clone(), 0)];
        Block { lines: Vec::new(), ins: vec![port], outs, height: 1, top: 0 }
    }

    fn is_passing(&self) -> bool {
        self.lines.is_empty()
    }

    /// The row of the picture in which a row of the block stands, behind its upper edge.
    fn row(&self, row: usize) -> usize {
        self.top + row + usize::from(!self.is_passing())
    }

    fn width(&self) -> usize {
        let labels = self.outs.iter().filter_map(|(port, _)| port.1.as_ref());
        let texts = self.lines.iter().chain(labels.filter(|_| !self.is_passing()));
        texts.map(|text| text.width() + 4).max().unwrap_or(0)
    }
}

/// Puts blocks in the order of what they read, so that few lines cross.
fn order(before: &[Block], here: &mut [Block]) {
    let outs: Vec<&Port> =
        before.iter().flat_map(|block| block.outs.iter().map(|(port, _)| port)).collect();
    let position = |port: &Port| outs.iter().position(|out| *out == port).unwrap_or(outs.len());
    here.sort_by_cached_key(|block| {
        let sum: usize = block.ins.iter().map(position).sum();
        sum * 1000 / block.ins.len().max(1)
    });
    for block in here {
        block.ins.sort_by_cached_key(position);
    }
}

/// Finds a row for each block: level with what it reads where there is room, and nowhere where the
/// wire of another block ends.
fn place(before: Option<&Vec<Block>>, here: &mut [Block]) {
    let mut taken: BTreeMap<usize, &Port> = BTreeMap::new();
    for block in before.into_iter().flatten() {
        taken.extend(block.outs.iter().map(|(port, row)| (block.row(*row), port)));
    }
    let mut free = 0;
    for block in here.iter_mut() {
        let edge = usize::from(!block.is_passing());
        let level = block.ins.first().and_then(|port| {
            let row = taken.iter().find(|(_, taken)| **taken == port).map(|(row, _)| *row);
            row.and_then(|row| row.checked_sub(edge))
        });
        block.top = level.unwrap_or(0).max(free);
        let clashes =
            |block: &Block| {
                block.ins.iter().enumerate().any(|(row, port)| {
                    taken.get(&block.row(row)).is_some_and(|other| *other != port)
                })
            };
        while clashes(block) {
            block.top += 1;
        }
        // Boxes stand close, wires do not.
        free = block.top + block.height + usize::from(block.is_passing());
    }
}

const UP: u8 = 1;
const DOWN: u8 = 2;
const LEFT: u8 = 4;
const RIGHT: u8 = 8;

/// A sheet of characters.
#[derive(Default)]
struct Sheet<'a>(BTreeMap<(usize, usize), Cell<'a>>);

enum Cell<'a> {
    /// The directions in which lines leave it, and the wire they belong to; None for a box.
    Lines(u8, Option<&'a Port>),
    /// One character with what is drawn upon it; two columns may be its own.
    Text(String),
}

impl<'a> Sheet<'a> {
    fn line(&mut self, row: usize, column: usize, directions: u8, wire: Option<&'a Port>) {
        let cell = self.0.entry((row, column)).or_insert(Cell::Lines(0, wire));
        match cell {
            // Where two wires cross, one passes below the other: a `┼` is always one wire.
            Cell::Lines(_, Some(other)) if wire.is_some_and(|wire| wire != *other) => {
                *cell = Cell::Text("│".to_owned());
            }
            Cell::Lines(lines, _) => *lines |= directions,
            Cell::Text(_) => (),
        }
    }

    fn across(&mut self, row: usize, from: usize, to: usize, wire: Option<&'a Port>) {
        for column in from..=to {
            let left = if column > from { LEFT } else { 0 };
            let right = if column < to { RIGHT } else { 0 };
            self.line(row, column, left | right, wire);
        }
    }

    fn down(&mut self, column: usize, from: usize, to: usize, wire: Option<&'a Port>) {
        for row in from..=to {
            let up = if row > from { UP } else { 0 };
            let down = if row < to { DOWN } else { 0 };
            self.line(row, column, up | down, wire);
        }
    }

    fn write(&mut self, row: usize, column: usize, text: &str) {
        let mut column = column;
        for character in text.chars() {
            match character.width().unwrap_or(0) {
                // It is drawn upon the one before.
                0 => {
                    let before = column.checked_sub(1).and_then(|at| self.0.get_mut(&(row, at)));
                    if let Some(Cell::Text(text)) = before {
                        text.push(character);
                    }
                }
                width => {
                    self.0.insert((row, column), Cell::Text(character.to_string()));
                    column += width;
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let (mut row, mut column) = (0, 0);
        for (&(cell_row, cell_column), cell) in &self.0 {
            while row < cell_row {
                text.push('\n');
                (row, column) = (row + 1, 0);
            }
            text += &" ".repeat(cell_column.saturating_sub(column));
            match cell {
                Cell::Text(one) => {
                    text += one;
                    column = cell_column + one.width().max(1);
                }
                Cell::Lines(lines, _) => {
                    text.push(drawn(*lines));
                    column = cell_column + 1;
                }
            }
        }
        text.push('\n');
        text
    }
}

fn drawn(lines: u8) -> char {
    const UP_DOWN: u8 = UP | DOWN;
    const LEFT_RIGHT: u8 = LEFT | RIGHT;
    match (lines & UP_DOWN, lines & LEFT_RIGHT) {
        (0, _) => '─',
        (_, 0) => '│',
        (DOWN, RIGHT) => '┌',
        (DOWN, LEFT) => '┐',
        (UP, RIGHT) => '└',
        (UP, LEFT) => '┘',
        (DOWN, _) => '┬',
        (UP, _) => '┴',
        (_, RIGHT) => '├',
        (_, LEFT) => '┤',
        _ => '┼',
    }
}

fn paint(columns: &[Vec<Block>]) -> String {
    let mut sheet = Sheet::default();
    let mut left = 2;
    for (index, column) in columns.iter().enumerate() {
        let width = column.iter().map(Block::width).max().unwrap_or(0);
        let right = left + width - 1;
        for block in column {
            paint_block(&mut sheet, block, left, right);
        }
        left = match columns.get(index + 1) {
            Some(next) => paint_wires(&mut sheet, column, next, right),
            None => right,
        };
    }
    sheet.text()
}

fn paint_block<'a>(sheet: &mut Sheet<'a>, block: &'a Block, left: usize, right: usize) {
    let bottom = block.top + block.height - 1;
    if block.is_passing() {
        return sheet.across(block.top, left, right, block.ins.first());
    }
    sheet.across(block.top, left, right, None);
    sheet.across(bottom, left, right, None);
    sheet.down(left, block.top, bottom, None);
    sheet.down(right, block.top, bottom, None);
    for (row, line) in block.lines.iter().enumerate() {
        sheet.write(block.row(row), left + 2, line);
    }
    for ((_, output), row) in &block.outs {
        let label = output.as_deref().unwrap_or_default();
        sheet.write(block.row(*row), right - 1 - label.width(), label);
        sheet.line(block.row(*row), right, RIGHT, None);
    }
}

/// Draws the wires between two columns; returns where the second begins.
fn paint_wires<'a>(sheet: &mut Sheet<'a>, from: &'a [Block], to: &[Block], edge: usize) -> usize {
    struct Run<'a> {
        port: &'a Port,
        start: usize,
        ends: BTreeSet<usize>,
    }
    let ends = |port: &Port| {
        let rows = to.iter().flat_map(|block| {
            let rows = block.ins.iter().enumerate().filter(|(_, end)| *end == port);
            rows.map(|(row, _)| block.row(row))
        });
        rows.collect::<BTreeSet<usize>>()
    };
    let outs =
        from.iter().flat_map(|block| block.outs.iter().map(|(port, row)| (port, block.row(*row))));
    let mut runs: Vec<Run> =
        outs.map(|(port, start)| Run { port, start, ends: ends(port) }).collect();
    runs.retain(|run| !run.ends.is_empty());
    // Of those that lead down, the lowest turns first; of those that lead up, the highest.
    runs.sort_by_key(|run| {
        let leads_down = run.ends.last() > Some(&run.start);
        if leads_down { (1, usize::MAX - run.start) } else { (0, run.start) }
    });
    let is_bent = |run: &&Run| run.ends.iter().any(|end| *end != run.start);
    let bent: Vec<&Port> = runs.iter().filter(is_bent).map(|run| run.port).collect();
    let next = edge + 2 * bent.len() + 4;
    for run in &runs {
        let track = bent.iter().position(|port| *port == run.port);
        let track = track.map_or(next - 2, |track| edge + 2 + 2 * track);
        let wire = Some(run.port);
        sheet.across(run.start, edge + 1, track, wire);
        sheet.line(run.start, edge, RIGHT, wire);
        sheet.line(run.start, edge + 1, LEFT, wire);
        let rows = run.ends.iter().chain([&run.start]);
        let (top, bottom) = (rows.clone().min(), rows.max());
        if let (Some(top), Some(bottom)) = (top, bottom) {
            sheet.down(track, *top, *bottom, wire);
        }
        for end in &run.ends {
            sheet.across(*end, track, next - 1, wire);
            // The line goes on into the wire that passes.
            sheet.line(*end, next - 1, RIGHT, wire);
        }
    }
    for block in to {
        if !block.is_passing() {
            for row in 0..block.ins.len() {
                sheet.write(block.row(row), next - 1, "▶");
            }
        }
    }
    next
}
