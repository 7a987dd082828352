//! What is written in a file, as its author wrote it: not what it means.

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};

/// A file that holds a map or a list.
pub(super) struct File<'a> {
    pub(super) text: &'a str,
    /// Directives and the line `---`, when the author wrote them.
    pub(super) head: &'a str,
    pub(super) root: Node<'a>,
    /// In the order of the file. Emptied when each finds its place in the tree.
    pub(super) comments: Vec<Comment<'a>>,
    /// Comments around a root in brackets.
    pub(super) above: Vec<Comment<'a>>,
    pub(super) below: Vec<Comment<'a>>,
}

/// A comment, from its `#` to the end of its line.
#[derive(Clone)]
pub(super) struct Comment<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
    /// Whether nothing else stands on its line.
    pub(super) own_line: bool,
    /// In characters, from 0.
    pub(super) column: usize,
    /// The column of what it belongs to: its own, but for lines that were commented out at their very
    /// start.
    pub(super) depth: usize,
    /// Whether an empty line stands above it.
    pub(super) blank_above: bool,
}

/// A value.
pub(super) struct Node<'a> {
    /// Of a block of lines, where its header stands.
    pub(super) start: usize,
    pub(super) end: usize,
    /// With its `&`.
    pub(super) anchor: Option<&'a str>,
    pub(super) shape: Shape<'a>,
}

pub(super) enum Shape<'a> {
    /// On one line, or on several without marks for where they begin; also an alias.
    Inline(&'a str),
    Lines(Lines<'a>),
    Collection(Collection<'a>),
    /// Something in brackets on several lines, with its comments.
    AsWritten(&'a str),
}

impl Node<'_> {
    /// Whether it is a list or map in brackets.
    pub(super) fn is_in_brackets(&self) -> bool {
        match &self.shape {
            Shape::Collection(collection) => !collection.kind.is_block(),
            Shape::AsWritten(_) => true,
            Shape::Inline(_) | Shape::Lines(_) => false,
        }
    }

    /// Whether it is that, and its brackets stand on two lines.
    pub(super) fn is_on_several_lines(&self) -> bool {
        let Shape::Collection(collection) = &self.shape else { return false };
        matches!(collection.kind, Kind::FlowList { broken: true } | Kind::FlowMap { broken: true })
    }
}

/// A block of lines after `|` or `>`.
pub(super) struct Lines<'a> {
    /// `|` or `>`, and `+` or `-`.
    pub(super) header: String,
    /// Without the spaces that all of them begin with.
    pub(super) lines: Vec<&'a str>,
    /// Whether empty lines below it belong to it.
    pub(super) keeps: bool,
}

pub(super) struct Collection<'a> {
    pub(super) kind: Kind,
    /// In characters, from 0.
    pub(super) column: usize,
    pub(super) items: Vec<Item<'a>>,
    /// Comments behind the last item.
    pub(super) tail: Vec<Comment<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    Map,
    /// In brackets, on one line or on several.
    FlowList {
        broken: bool,
    },
    FlowMap {
        broken: bool,
    },
}

/// An item of a list, or a key with its value.
pub(super) struct Item<'a> {
    pub(super) key: Option<Node<'a>>,
    pub(super) value: Node<'a>,
    pub(super) blank_above: bool,
    /// Comments on lines of their own.
    pub(super) above: Vec<Comment<'a>>,
    /// The comment on its first line, or on its only one.
    pub(super) beside: Option<Comment<'a>>,
}

impl<'a> Item<'a> {
    pub(super) fn start(&self) -> usize {
        self.key.as_ref().unwrap_or(&self.value).start
    }

    pub(super) fn key_text(&self) -> &'a str {
        match self.key.as_ref().map(|key| &key.shape) {
            Some(Shape::Inline(text)) => text.trim_matches(['"', '\'']),
            _ => "",
        }
    }
}

impl Kind {
    pub(super) fn is_map(self) -> bool {
        matches!(self, Kind::Map | Kind::FlowMap { .. })
    }

    pub(super) fn is_block(self) -> bool {
        matches!(self, Kind::Map | Kind::List)
    }
}

/// A list or map that is not closed yet.
struct Open<'a> {
    node: Node<'a>,
    key: Option<Node<'a>>,
}

/// Reads a text that [`super::parse`] accepts. None when it holds neither a map nor a list, so that
/// there is nothing to lay out.
pub(super) fn read(text: &str) -> Option<File<'_>> {
    let options = granit_parser::options! {
        emit_anchor_events: true,
        max_buffered_comment_events: text.len(),
    };
    let mut file_head = "";
    let mut comments = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut root: Option<Node> = None;
    let mut events = Parser::new_from_str_with_options(text, options).peekable();
    // Where the last token ended.
    let mut behind = 0;
    while let Some(next) = events.next() {
        let (event, span) = next.ok()?;
        let range = span.byte_range().unwrap_or(behind..behind);
        let anchor = match events.peek() {
            Some(Ok((Event::Anchor(..), span))) => text.get(span.byte_range()?),
            _ => None,
        };
        let node = |shape| Node { start: range.start, end: range.end, anchor, shape };
        let value = match event {
            Event::DocumentStart(true, _) => {
                file_head = text.get(..range.end)?;
                comments.clear();
                behind = range.end;
                continue;
            }
            Event::Comment(..) => {
                let is_below_header = range.end < behind;
                comments.push(comment(text, range.clone())?);
                if !is_below_header {
                    behind = range.end;
                }
                continue;
            }
            Event::Scalar(value, ScalarStyle::Literal | ScalarStyle::Folded, ..) => {
                let start = text.get(behind..)?.find(['|', '>'])? + behind;
                Node { start, ..node(Shape::Lines(lines(text, start, &value)?)) }
            }
            Event::Scalar(..) | Event::Alias(_) => node(Shape::Inline(text.get(range.clone())?)),
            Event::SequenceStart(style, ..) => {
                let kind = match style {
                    StructureStyle::Flow => Kind::FlowList { broken: false },
                    _ => Kind::List,
                };
                open.push(Open { node: node(collection(text, kind, range.start)), key: None });
                behind = range.end.max(behind);
                continue;
            }
            Event::MappingStart(style, ..) => {
                let kind = match style {
                    StructureStyle::Flow => Kind::FlowMap { broken: false },
                    _ => Kind::Map,
                };
                open.push(Open { node: node(collection(text, kind, range.start)), key: None });
                behind = range.end.max(behind);
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => close(open.pop()?.node, range.end, text),
            _ => continue,
        };
        behind = value.end.max(behind);
        match open.last_mut() {
            None => root = Some(value),
            Some(parent) => put(parent, value, text),
        }
    }
    comments.sort_by_key(|comment: &Comment| comment.at);
    let root = root.filter(|root| matches!(root.shape, Shape::Collection(_)))?;
    Some(File { text, head: file_head, root, comments, above: Vec::new(), below: Vec::new() })
}

fn collection<'a>(text: &str, kind: Kind, at: usize) -> Shape<'a> {
    let column = column(text, at);
    Shape::Collection(Collection { kind, column, items: Vec::new(), tail: Vec::new() })
}

fn close<'a>(mut node: Node<'a>, end: usize, text: &str) -> Node<'a> {
    let Shape::Collection(collection) = &mut node.shape else { return node };
    let is_broken = text.get(node.start..end).is_some_and(|written| written.contains('\n'));
    match &mut collection.kind {
        Kind::FlowList { broken } | Kind::FlowMap { broken } => {
            *broken = is_broken;
            node.end = end;
        }
        // The end event of a block stands at the next token, lines below what belongs to it.
        Kind::List | Kind::Map => {
            node.end = collection.items.last().map_or(node.end, |item| item.value.end);
        }
    }
    node
}

fn put<'a>(parent: &mut Open<'a>, value: Node<'a>, text: &str) {
    let Shape::Collection(collection) = &mut parent.node.shape else { return };
    if collection.kind.is_map() && parent.key.is_none() {
        parent.key = Some(value);
        return;
    }
    let key = parent.key.take();
    let start = key.as_ref().unwrap_or(&value).start;
    let blank_above = has_blank_above(text, start);
    collection.items.push(Item { key, value, blank_above, above: Vec::new(), beside: None });
}

fn comment<'a>(text: &'a str, range: std::ops::Range<usize>) -> Option<Comment<'a>> {
    let line_start = line_start(text, range.start);
    let column = column(text, range.start);
    Some(Comment {
        at: range.start,
        text: text.get(range.clone())?.trim_end(),
        own_line: text.get(line_start..range.start)?.trim().is_empty(),
        column,
        depth: if column == 0 { depth_at_the_start(text, range.start) } else { column },
        blank_above: has_blank_above(text, range.start),
    })
}

/// The depth of a comment in column 0: that of the setting in it, or of the line above when it
/// stands close to that and apart from what follows.
fn depth_at_the_start(text: &str, at: usize) -> usize {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let line = text[at..].lines().next().unwrap_or_default();
    let said = line.trim_start_matches('#');
    let key = said.trim_start().split([' ', ':']).next().unwrap_or_default();
    let is_key = !key.is_empty() && said.trim_start()[key.len()..].starts_with(':');
    if indent(said) > 1 && (is_key || key == "-") {
        return indent(said);
    }
    let is_comment = |line: &&str| line.starts_with('#');
    let follows = text[at..].lines().find(|line| !is_comment(line)).unwrap_or_default();
    let above = text[..at].lines().rev().find(|line| !is_comment(line)).unwrap_or_default();
    if follows.trim().is_empty() {
        indent(above) * usize::from(!above.trim().is_empty())
    } else {
        0
    }
}

/// The block of lines whose header stands at `at`.
fn lines<'a>(text: &'a str, at: usize, value: &str) -> Option<Lines<'a>> {
    let header_line = text.get(at..)?.lines().next()?;
    let written = header_line.split([' ', '\t']).next()?;
    let keeps = written.contains('+');
    let mut header: String = written.chars().filter(|c| !c.is_ascii_digit()).collect();
    let below = text.get(at + header_line.len()..)?.strip_prefix('\n').unwrap_or_default();
    let spaces = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let first = value.split('\n').enumerate().find(|(_, line)| !line.is_empty());
    let mut lines = Vec::new();
    if let Some((index, first)) = first {
        let indent = spaces(below.lines().nth(index)?).checked_sub(spaces(first))?;
        let is_inside = |line: &&str| spaces(line) >= indent || line.trim_matches(' ').is_empty();
        let inside = below.lines().take_while(is_inside);
        lines.extend(inside.map(|line| line.get(indent..).unwrap_or_default()));
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        if first.starts_with(' ') {
            header.insert(1, '2');
        }
    }
    if keeps {
        let line_breaks = value.len() - value.trim_end_matches('\n').len();
        let kept = line_breaks.saturating_sub(usize::from(first.is_some()));
        lines.extend(std::iter::repeat_n("", kept));
    }
    Some(Lines { header, lines, keeps })
}

pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().count()
}

fn has_blank_above(text: &str, at: usize) -> bool {
    let above = text[..line_start(text, at)].strip_suffix('\n');
    above.is_some_and(|above| above[line_start(above, above.len())..].trim().is_empty())
}
