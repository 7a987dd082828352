//! Writes the tree down: two spaces a level, `{ a: 1 }` and `[1, 2]`, tables in columns.

use super::tree::{Collection, Comment, File, Item, Kind, Lines, Node, Shape, line_start};

/// What the author of a kind of file expects of its layout.
pub struct Layout {
    /// Where a key of the map at a path stands: lower ranks first, equal ones as written. The path
    /// is made of the keys above.
    pub rank: fn(path: &[&str], key: &str) -> usize,
    /// Whether an empty line stands above a key of the map at a path, but for its first.
    pub apart: fn(path: &[&str], key: &str) -> bool,
    /// Whether a comment speaks of the line it stands on, or of the next when it stands alone. What
    /// stands on such a line stays on it.
    pub binds: fn(comment: &str) -> bool,
}

/// A table that would get wider stays as it is.
const WIDEST_TABLE: usize = 100;

pub(super) fn print<'a>(mut file: File<'a>, how: &'a Layout) -> String {
    let mut printer = Printer { out: String::new(), how, lines_go_on: false };
    if !file.head.is_empty() {
        printer.out += file.head;
        printer.out.push('\n');
    }
    if file.root.is_in_brackets() {
        printer.brackets(&file);
    } else if let Shape::Collection(root) = &mut file.root.shape {
        printer.opening(root);
        arrange(root, &mut Vec::new(), how);
        printer.block(root, 0, &mut Vec::new());
    }
    printer.out
}

/// Brings keys into their order. What stands above the first key of a list's item moves above
/// the item.
fn arrange<'a>(of: &mut Collection<'a>, path: &mut Vec<&'a str>, how: &Layout) {
    if of.kind.is_map() {
        of.items.sort_by_key(|item| (how.rank)(path, item.key_text()));
    }
    for item in &mut of.items {
        let key = item.key_text();
        let Shape::Collection(inner) = &mut item.value.shape else { continue };
        path.push(key);
        arrange(inner, path, how);
        path.pop();
        if of.kind == Kind::List && inner.kind.is_block() {
            item.above.extend(item.beside.take());
            if let Some(first) = inner.items.first_mut() {
                item.above.append(&mut first.above);
            }
        }
    }
}

struct Printer<'a> {
    out: String,
    how: &'a Layout,
    /// The last line belongs to a block that keeps the empty lines below it.
    lines_go_on: bool,
}

impl<'a> Printer<'a> {
    /// The comments at the top of the file stay there, whatever key comes first. Those right above
    /// a key belong to the key.
    fn opening(&mut self, root: &mut Collection<'a>) {
        let Some(first) = root.items.first_mut() else { return };
        let comments = &mut first.above;
        let is_key_apart = first.blank_above;
        let mut count = comments.len();
        if !is_key_apart {
            let starts_group = |comment: &Comment| comment.blank_above;
            let is_for_editors = |comment: &Comment| comment.text.contains("yaml-language-server");
            let group = comments.iter().rposition(starts_group).unwrap_or(0);
            let editors = comments.iter().rposition(is_for_editors).map_or(0, |at| at + 1);
            count = group.max(editors);
        }
        let of_the_key = comments.iter().position(|comment| (self.how.binds)(comment.text));
        count = count.min(of_the_key.unwrap_or(count));
        let rest = comments.split_off(count);
        let opening = std::mem::replace(comments, rest);
        let is_rest_apart = first.above.first().map_or(is_key_apart, |comment| comment.blank_above);
        for (index, comment) in opening.iter().enumerate() {
            if index > 0 && comment.blank_above {
                self.out.push('\n');
            }
            self.out += comment.text;
            self.out.push('\n');
        }
        if !opening.is_empty() && is_rest_apart {
            self.out.push('\n');
        }
    }

    /// A file that is one list or map in brackets.
    fn brackets(&mut self, file: &File<'a>) {
        self.comments(&file.above, 0);
        self.value(&file.root, 0, &mut Vec::new());
        let beside = file.below.first().filter(|comment| !comment.own_line);
        self.beside(beside);
        self.out.push('\n');
        self.comments(&file.below[usize::from(beside.is_some())..], 0);
    }

    /// A list or map whose items stand below each other.
    fn block(&mut self, of: &Collection<'a>, indent: usize, path: &mut Vec<&'a str>) {
        let tables = tables(of);
        for (index, item) in of.items.iter().enumerate() {
            let first = item.above.first();
            let is_apart = first.map_or(item.blank_above, |comment| comment.blank_above)
                || of.kind.is_map() && (self.how.apart)(path, item.key_text());
            if index > 0 && is_apart {
                self.blank_line();
            }
            for (index, comment) in item.above.iter().enumerate() {
                if index > 0 && comment.blank_above {
                    self.blank_line();
                }
                self.own_line(comment, indent);
            }
            if !item.above.is_empty() && item.blank_above {
                self.blank_line();
            }
            self.start_line(indent);
            match &tables[index] {
                Some(row) => {
                    self.out += "- ";
                    self.out += row;
                    self.beside(item.beside.as_ref());
                    self.out.push('\n');
                }
                None => self.item(item, indent, path),
            }
        }
        self.comments(&of.tail, indent);
    }

    /// From the key or the dash to the end of the line of the value's last part.
    fn item(&mut self, item: &Item<'a>, indent: usize, path: &mut Vec<&'a str>) {
        match &item.key {
            Some(key) => self.key(key),
            None => self.out.push('-'),
        }
        path.push(item.key_text());
        match &item.value.shape {
            Shape::Collection(inner) if inner.kind.is_block() => {
                self.anchor(&item.value);
                if item.key.is_none() && item.value.anchor.is_none() {
                    // The first item stands behind the dash, and the others below it.
                    self.out.push(' ');
                } else {
                    self.beside(item.beside.as_ref());
                    self.out.push('\n');
                }
                self.block(inner, indent + 2, path);
            }
            Shape::Lines(block) => {
                self.anchor(&item.value);
                self.out.push(' ');
                self.out += &block.header;
                self.beside(item.beside.as_ref());
                self.out.push('\n');
                self.lines(block, indent + 2);
            }
            _ => {
                self.value_behind(&item.value, indent, path);
                self.beside(item.beside.as_ref());
                self.out.push('\n');
            }
        }
        path.pop();
    }

    fn key(&mut self, key: &Node<'a>) {
        if let Some(anchor) = key.anchor {
            self.out += anchor;
            self.out.push(' ');
        }
        if let Shape::Inline(text) = key.shape {
            self.out += text;
            // Behind an alias, the colon would be part of its name.
            if text.starts_with('*') {
                self.out.push(' ');
            }
        }
        self.out.push(':');
    }

    fn anchor(&mut self, node: &Node<'a>) {
        if let Some(anchor) = node.anchor {
            self.out.push(' ');
            self.out += anchor;
        }
    }

    fn value_behind(&mut self, node: &Node<'a>, indent: usize, path: &mut Vec<&'a str>) {
        self.anchor(node);
        if !matches!(node.shape, Shape::Inline("")) {
            self.out.push(' ');
        }
        self.value(node, indent, path);
    }

    /// A scalar or something in brackets.
    fn value(&mut self, node: &Node<'a>, indent: usize, path: &mut Vec<&'a str>) {
        match &node.shape {
            Shape::Inline(text) => self.inline(text, indent + 2),
            Shape::Collection(inner) => match inner.kind {
                Kind::FlowList { broken: true } => self.broken(inner, ['[', ']'], indent, path),
                Kind::FlowMap { broken: true } => self.broken(inner, ['{', '}'], indent, path),
                _ => self.out += &one_line(inner),
            },
            Shape::AsWritten(text) => self.as_written(text, indent),
            Shape::Lines(_) => (),
        }
    }

    /// Something in brackets whose lines stay what they are. They move together, with those furthest
    /// to the left below the key, or one level further in.
    fn as_written(&mut self, text: &str, indent: usize) {
        let depth = |line: &str| line.len() - line.trim_start().len();
        let below = || text.lines().skip(1).filter(|line| !line.trim().is_empty());
        let least = below().map(depth).min().unwrap_or(0);
        let closes = |line: &str| line.trim_start().starts_with([']', '}']);
        let is_closing = below().filter(|line| depth(line) == least).all(closes);
        let indent = if is_closing { indent } else { indent + 2 };
        for (index, line) in text.lines().enumerate() {
            if index > 0 {
                self.out.push('\n');
            }
            if index > 0 && !line.trim().is_empty() {
                self.out += &" ".repeat(indent + depth(line) - least);
            }
            self.out += line.trim();
        }
    }

    /// Where a text in quotes, or one without, goes on in the next line does not matter.
    fn inline(&mut self, text: &str, indent: usize) {
        for (index, line) in text.split('\n').enumerate() {
            match (index, line.trim_start()) {
                (0, _) => self.out += line,
                (_, "") => self.out.push('\n'),
                (_, line) => {
                    self.out.push('\n');
                    self.out += &" ".repeat(indent);
                    self.out += line;
                }
            }
        }
    }

    fn lines(&mut self, block: &Lines<'a>, indent: usize) {
        for line in &block.lines {
            if !line.is_empty() {
                self.out += &" ".repeat(indent);
                self.out += line;
            }
            self.out.push('\n');
        }
        self.lines_go_on = block.keeps;
    }

    /// In brackets, one item a line.
    fn broken(
        &mut self,
        of: &Collection<'a>,
        brackets: [char; 2],
        indent: usize,
        path: &mut Vec<&'a str>,
    ) {
        self.out.push(brackets[0]);
        self.out.push('\n');
        for item in &of.items {
            for comment in &item.above {
                self.own_line(comment, indent + 2);
            }
            self.out += &" ".repeat(indent + 2);
            path.push(item.key_text());
            match &item.key {
                Some(key) => {
                    self.key(key);
                    self.value_behind(&item.value, indent + 2, path);
                }
                None => {
                    if let Some(anchor) = item.value.anchor {
                        self.out += anchor;
                        self.out.push(' ');
                    }
                    self.value(&item.value, indent + 2, path);
                }
            }
            path.pop();
            self.out.push(',');
            self.beside(item.beside.as_ref());
            self.out.push('\n');
        }
        of.tail.iter().for_each(|comment| self.own_line(comment, indent + 2));
        self.out += &" ".repeat(indent);
        self.out.push(brackets[1]);
    }

    /// Stays in its column where there is room.
    fn beside(&mut self, comment: Option<&Comment<'a>>) {
        let Some(comment) = comment else { return };
        let line = &self.out[line_start(&self.out, self.out.len())..];
        let gap = comment.column.saturating_sub(line.chars().count()).max(2);
        self.out += &" ".repeat(gap);
        self.out += comment.text;
    }

    /// Comments with nothing below that they belong to.
    fn comments(&mut self, comments: &[Comment<'a>], indent: usize) {
        for comment in comments {
            if comment.blank_above && !self.out.is_empty() {
                self.blank_line();
            }
            self.own_line(comment, indent);
        }
    }

    /// A line that was commented out at its very start stays there: so it is right again when the
    /// mark is taken away.
    fn own_line(&mut self, comment: &Comment<'a>, indent: usize) {
        let is_at_the_start = comment.column == 0 && comment.depth > 0;
        self.start_line(if is_at_the_start { 0 } else { indent });
        self.out += comment.text;
        self.out.push('\n');
    }

    /// The first line of a list's item stands behind its dash already.
    fn start_line(&mut self, indent: usize) {
        if self.out.is_empty() || self.out.ends_with('\n') {
            self.out += &" ".repeat(indent);
        }
        self.lines_go_on = false;
    }

    fn blank_line(&mut self) {
        if !self.lines_go_on {
            self.out.push('\n');
        }
    }
}

/// `{ a: 1, b: 2 }` or `[1, 2]`.
fn one_line(of: &Collection<'_>) -> String {
    let cells: Vec<String> = of.items.iter().map(cell).collect();
    match (of.kind.is_map(), cells.is_empty()) {
        (true, true) => "{}".to_owned(),
        (true, false) => format!("{{ {} }}", cells.join(", ")),
        (false, _) => format!("[{}]", cells.join(", ")),
    }
}

fn cell(item: &Item<'_>) -> String {
    let key = item.key.as_ref().map(|key| match (key.anchor, &key.shape) {
        (Some(anchor), Shape::Inline(text)) => format!("{anchor} {text}:"),
        (None, Shape::Inline(text)) if text.starts_with('*') => format!("{text} :"),
        (None, Shape::Inline(text)) => format!("{text}:"),
        _ => ":".to_owned(),
    });
    let value = match &item.value.shape {
        Shape::Inline(text) => (*text).to_owned(),
        Shape::Collection(inner) => one_line(inner),
        Shape::Lines(_) | Shape::AsWritten(_) => String::new(),
    };
    let anchor = item.value.anchor.map(str::to_owned);
    let parts = [key, anchor, Some(value).filter(|value| !value.is_empty())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The lines of items that are maps on one line each: a table, whose columns stand below each other
/// as far as all rows have the same keys.
fn tables(of: &Collection<'_>) -> Vec<Option<String>> {
    let mut lines: Vec<Option<String>> = of.items.iter().map(|_| None).collect();
    if of.kind != Kind::List {
        return lines;
    }
    let mut from = 0;
    while from < of.items.len() {
        let ends = |(_, item): &(usize, &Item)| item.blank_above || row(item).is_none();
        let after = of.items.iter().enumerate().skip(from + 1).find(ends);
        let to = after.map_or(of.items.len(), |(index, _)| index);
        let rows: Option<Vec<Vec<String>>> = of.items[from..to].iter().map(row).collect();
        if let Some(rows) = rows {
            let keys: Vec<Vec<&str>> = of.items[from..to].iter().map(keys).collect();
            for (line, text) in lines[from..to].iter_mut().zip(table(&rows, &keys)) {
                *line = Some(text);
            }
        }
        from = to;
    }
    lines
}

/// The cells of an item that is a map on one line.
fn row(item: &Item<'_>) -> Option<Vec<String>> {
    match &item.value.shape {
        Shape::Collection(inner)
            if inner.kind == (Kind::FlowMap { broken: false })
                && item.value.anchor.is_none()
                && !inner.items.is_empty() =>
        {
            Some(inner.items.iter().map(cell).collect())
        }
        _ => None,
    }
}

fn keys<'a>(item: &Item<'a>) -> Vec<&'a str> {
    match &item.value.shape {
        Shape::Collection(inner) => inner.items.iter().map(Item::key_text).collect(),
        _ => Vec::new(),
    }
}

fn table(rows: &[Vec<String>], keys: &[Vec<&str>]) -> Vec<String> {
    let longest = keys.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = Vec::new();
    for column in 1..longest {
        let mut here = keys.iter().filter_map(|keys| keys.get(column));
        let first = here.next();
        if !here.all(|key| Some(key) == first) {
            break;
        }
        let before = rows.iter().filter(|row| row.len() > column).map(|row| &row[column - 1]);
        widths.push(before.map(|cell| cell.chars().count()).max().unwrap_or(0));
    }
    let line = |widths: &[usize], cells: &Vec<String>| {
        let mut line = "{ ".to_owned();
        for (index, cell) in cells.iter().enumerate() {
            line += cell;
            if index + 1 < cells.len() {
                let width = widths.get(index).copied().unwrap_or(0);
                line += ", ";
                line += &" ".repeat(width.saturating_sub(cell.chars().count()));
            }
        }
        line + " }"
    };
    let lines: Vec<String> = rows.iter().map(|cells| line(&widths, cells)).collect();
    match lines.iter().all(|line| line.chars().count() <= WIDEST_TABLE) {
        true => lines,
        false => rows.iter().map(|cells| line(&[], cells)).collect(),
    }
}
