//! Text to tree, within limits.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle};

use crate::{
    finding::{Finding, Span},
    mistakes, rules,
    tree::{Content, Entry, Scalar, Style, Yaml},
};

/// Bounds on one file. A file beyond them is refused with a finding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of text.
    pub size_bytes: usize,
    /// Lists and maps inside each other.
    pub depth: usize,
    /// Keys and values, those that aliases repeat included.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { size_bytes: 1 << 20, depth: 64, nodes: 100_000 }
    }
}

/// Reads one document. What is wrong goes to `findings`; a tree comes back when the text could be
/// read to its end. An empty text is an empty map.
pub fn parse(text: &str, file: u32, limits: Limits, findings: &mut Vec<Finding>) -> Option<Yaml> {
    let whole = Span::new(file, 0..0);
    if text.len() > limits.size_bytes {
        let message = "file is too long for a pipeline";
        let label = format!("{} bytes, at most {} are read", text.len(), limits.size_bytes);
        findings.push(Finding::error(&rules::YAML_TOO_BIG, whole, message, label));
        return None;
    }
    // A zero byte is no character of YAML, and says that this is no text at all.
    if let Some(at) = text.find('\0') {
        let span = Span::new(file, at..at + 1);
        findings.push(Finding::error(&rules::YAML_SYNTAX, span, "file is not text", "a zero byte"));
        return None;
    }
    let builder = Builder { text, file, limits, nodes: 0, anchors: HashMap::new(), findings };
    builder.build()
}

struct Builder<'a> {
    text: &'a str,
    file: u32,
    limits: Limits,
    nodes: usize,
    /// What each anchor names, by the parser's number for it.
    anchors: HashMap<usize, Yaml>,
    findings: &'a mut Vec<Finding>,
}

/// A list or map that is not closed yet.
struct Open {
    anchor: usize,
    start: usize,
    items: Items,
}

enum Items {
    List(Vec<Yaml>),
    Map { entries: Vec<Entry>, key: Option<(String, Span)> },
}

impl Builder<'_> {
    fn build(mut self) -> Option<Yaml> {
        let options = granit_parser::options! {
            flow_nesting_limit: self.limits.depth,
            block_nesting_limit: self.limits.depth,
            emit_comments: false,
        };
        let mut open: Vec<Open> = Vec::new();
        let mut root = None;
        let mut documents = 0;
        for next in Parser::new_from_str_with_options(self.text, options) {
            let (event, span) = match next {
                Ok(next) => next,
                Err(error) => {
                    let at = error.marker().byte_offset().unwrap_or(self.text.len());
                    self.syntax_error(at, &error.info());
                    return None;
                }
            };
            let range = span.byte_range().unwrap_or(0..0);
            let span = Span::new(self.file, range.clone());
            let (value, anchor) = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), span);
                    (self.scalar(&text, style, range), anchor)
                }
                Event::Alias(id) => match self.anchors.get(&id) {
                    Some(value) => {
                        let value = value.clone();
                        self.nodes += count(&value);
                        (value, 0)
                    }
                    None => {
                        self.syntax_error(range.start, "an anchor that contains itself");
                        return None;
                    }
                },
                Event::SequenceStart(_, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), span);
                    let items = Items::List(Vec::new());
                    open.push(Open { anchor, start: range.start, items });
                    continue;
                }
                Event::MappingStart(_, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), span);
                    let items = Items::Map { entries: Vec::new(), key: None };
                    open.push(Open { anchor, start: range.start, items });
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let closed = open.pop().expect("the parser closes only what it opened");
                    let anchor = closed.anchor;
                    (self.close(closed, range.end), anchor)
                }
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        let message = "file holds more than one document";
                        let label = "one file holds one pipeline";
                        self.findings.push(Finding::error(
                            &rules::YAML_SYNTAX,
                            span,
                            message,
                            label,
                        ));
                        return None;
                    }
                    continue;
                }
                _ => continue,
            };
            self.nodes += 1;
            if self.nodes > self.limits.nodes {
                let message = "file has too many values";
                let label = format!("more than {} with this alias or value", self.limits.nodes);
                self.findings.push(Finding::error(&rules::YAML_TOO_BIG, span, message, label));
                return None;
            }
            if anchor != 0 {
                self.anchors.insert(anchor, value.clone());
            }
            let depth = open.len();
            match open.last_mut() {
                None => root = Some(value),
                Some(_) if depth == 1 => self.put(open.last_mut()?, value, span, true)?,
                Some(parent) => self.put(parent, value, span, false)?,
            }
        }
        let empty = Yaml::empty_map(Span::new(self.file, 0..0));
        Some(root.filter(|root| !root.is_null()).unwrap_or(empty))
    }

    fn scalar(&self, text: &str, style: ScalarStyle, range: std::ops::Range<usize>) -> Yaml {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal => Style::Literal,
            _ => Style::Folded,
        };
        // A block's span runs on to the next key; its text ends at its last line that says something.
        let written = self.text.get(range.clone()).unwrap_or_default();
        let end = range.start + written.trim_end().len();
        let span = Span::new(self.file, range.start..end.max(range.start));
        let scalar = Scalar::new(text, style);
        Yaml { span, content: Content::Scalar(scalar) }
    }

    /// Adds a value to the list or map that is open. None when it cannot be a key.
    fn put(
        &mut self,
        parent: &mut Open,
        value: Yaml,
        written: Span,
        is_section: bool,
    ) -> Option<()> {
        match &mut parent.items {
            Items::List(items) => items.push(value),
            Items::Map { key: key @ None, .. } => {
                let Content::Scalar(scalar) = value.content else {
                    let message = "a list or map cannot be a key";
                    let label = "expected a word";
                    self.findings.push(Finding::error(
                        &rules::YAML_SYNTAX,
                        value.span,
                        message,
                        label,
                    ));
                    return None;
                };
                *key = Some((scalar.text, written));
            }
            Items::Map { entries, key: key @ Some(_) } => {
                let (key, key_span) = key.take().expect("matched above");
                match entries.iter_mut().find(|entry| entry.key == key) {
                    Some(first) => {
                        let message = format!("`{key}` stands twice");
                        let finding =
                            Finding::error(&rules::DUPLICATE_KEY, key_span, message, "again here")
                                .context(first.key_span, "first here");
                        self.findings.push(match is_section {
                            true => finding.help("put what stands below both below one of them"),
                            false => finding,
                        });
                        // What stands below a section is known, so that nobody misses it.
                        if let (true, Content::Map(known), Content::Map(more)) =
                            (is_section, &mut first.value.content, value.content)
                        {
                            let is_new = |entry: &Entry| known.iter().all(|e| e.key != entry.key);
                            let more: Vec<Entry> = more.into_iter().filter(is_new).collect();
                            known.extend(more);
                        }
                    }
                    None => entries.push(Entry { key, key_span, value }),
                }
            }
        }
        Some(())
    }

    fn close(&mut self, open: Open, end: usize) -> Yaml {
        let (content, last) = match open.items {
            Items::List(items) => {
                let last = items.last().map(|item| item.span);
                (Content::List(items), last)
            }
            Items::Map { entries, .. } => {
                let last = entries.last().map(|entry| entry.value.span);
                (Content::Map(self.merge(entries)), last)
            }
        };
        // The end event of a block stands at the next token, lines below what belongs to it.
        let bracketed = self.text[..end.min(self.text.len())].ends_with([']', '}']);
        let end = match last {
            Some(last) if !bracketed && last.end as usize > open.start => last.end as usize,
            _ => end,
        };
        let span = Span::new(self.file, open.start..end.max(open.start));
        Yaml { span, content }
    }

    /// Fills in `<<: *base`, as YAML 1.1 and its users know it. Keys that stand in the map win.
    fn merge(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let (merges, mut entries): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| entry.key == "<<");
        for merge in merges {
            let bases = match merge.value.content {
                Content::List(items) => items,
                _ => vec![merge.value],
            };
            for base in bases {
                let Content::Map(inherited) = base.content else {
                    let message = "`<<` takes in a map";
                    let label = "expected an alias of a map, such as `*base`";
                    let finding =
                        Finding::error(&rules::YAML_SYNTAX, merge.key_span, message, label);
                    self.findings.push(finding);
                    continue;
                };
                for entry in inherited {
                    if entries.iter().all(|own| own.key != entry.key) {
                        entries.push(entry);
                    }
                }
            }
        }
        entries
    }

    fn refuse_tag(&mut self, tagged: bool, span: Span) {
        if tagged {
            let message = "tags have no meaning here";
            let label = "write the value without `!`, or in quotes if it belongs there";
            self.findings.push(Finding::error(&rules::YAML_SYNTAX, span, message, label));
        }
    }

    fn syntax_error(&mut self, at: usize, said: &str) {
        let mistake = mistakes::find(self.text, at, said);
        let span = Span::new(self.file, mistake.place);
        let finding =
            Finding::error(&rules::YAML_SYNTAX, span, "file is not valid YAML", mistake.label);
        self.findings.push(match mistake.instead {
            Some((place, text)) => {
                finding.edit("this would be right", Span::new(self.file, place), text)
            }
            None => finding,
        });
    }
}

fn count(value: &Yaml) -> usize {
    1 + match &value.content {
        Content::Scalar(_) => 0,
        Content::List(items) => items.iter().map(count).sum(),
        Content::Map(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
    }
}
