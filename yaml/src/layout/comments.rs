//! Finds the place of each comment in the tree: above an item, beside it, or behind the last one.

use std::{collections::VecDeque, mem};

use super::tree::{Collection, Comment, File, Node, Shape};

/// The texts of comments in an order of their own, to see that none is lost.
pub(super) fn sorted(comments: &[Comment<'_>]) -> Vec<String> {
    let mut texts: Vec<String> = comments.iter().map(|comment| comment.text.to_owned()).collect();
    texts.sort();
    texts
}

/// Moves the comments of a file into its tree. Some bind: they speak of the line they stand on, or
/// of the next.
pub(super) fn attach(file: &mut File<'_>, binds: fn(&str) -> bool) {
    let comments = mem::take(&mut file.comments).into();
    let mut waiting = Waiting { text: file.text, comments, binds };
    let (start, end) = (file.root.start, file.root.end);
    if file.root.is_in_brackets() {
        file.above.extend(std::iter::from_fn(|| waiting.before(start)));
        if file.above.iter().any(|comment| binds(comment.text)) || waiting.is_bound(&file.root) {
            waiting.keep_as_written(&mut file.root);
        }
    }
    match &mut file.root.shape {
        Shape::Collection(root) if root.kind.is_block() => {
            waiting.collection(root, file.text.len(), None);
            root.tail.extend(waiting.comments);
        }
        Shape::Collection(root) => {
            waiting.collection(root, end, None);
            file.below.extend(waiting.comments);
        }
        _ => file.below.extend(waiting.comments),
    }
}

struct Waiting<'a> {
    text: &'a str,
    comments: VecDeque<Comment<'a>>,
    binds: fn(&str) -> bool,
}

impl<'a> Waiting<'a> {
    /// Comments in and behind a list or map, before the token at `until`. `outside` is the column
    /// of what follows; None at the end of the file.
    fn collection(&mut self, of: &mut Collection<'a>, until: usize, outside: Option<usize>) {
        let (column, binds) = (of.column, self.binds);
        let starts: Vec<usize> = of.items.iter().skip(1).map(|item| item.start()).collect();
        for (index, item) in of.items.iter_mut().enumerate() {
            while let Some(comment) = self.before(item.start()) {
                item.above.push(comment);
            }
            // Between a key and its value.
            if let Some(key) = &item.key {
                item.beside = self.on_the_line_of(key.end, item.value.start);
            }
            if item.value.is_on_several_lines() {
                // Its own line ends behind the bracket then.
                item.above.extend(item.beside.take());
            }
            if !matches!(&item.value.shape, Shape::Collection(inner) if inner.kind.is_block()) {
                while let Some(comment) = self.before(item.value.start) {
                    item.above.push(comment);
                }
            }
            let is_bound = item.above.iter().any(|comment| (self.binds)(comment.text));
            if is_bound || self.is_bound(&item.value) {
                self.keep_as_written(&mut item.value);
            }
            let next = starts.get(index).copied();
            let follows = if next.is_some() { Some(column) } else { outside };
            let next = next.unwrap_or(until);
            self.inside(&mut item.value, next, follows);
            if item.beside.is_none() {
                let line = match item.value.shape {
                    Shape::Lines(_) => item.value.start,
                    _ => item.value.end,
                };
                item.beside = self.on_the_line_of(line, next);
            }
        }
        let is_block = of.kind.is_block();
        let is_tail = |comment: &Comment| {
            let is_further_in = outside.is_none_or(|outside| comment.depth > outside);
            // What speaks of the next line goes where that goes.
            let is_here = outside.is_none() || !binds(comment.text);
            !is_block || comment.own_line && comment.depth >= column && is_further_in && is_here
        };
        while self.comments.front().is_some_and(is_tail)
            && let Some(comment) = self.before(until)
        {
            of.tail.push(comment);
        }
    }

    fn inside(&mut self, node: &mut Node<'a>, next: usize, follows: Option<usize>) {
        let Shape::Collection(inner) = &mut node.shape else { return };
        match inner.kind.is_block() {
            true => self.collection(inner, next, follows),
            false => self.collection(inner, node.end, None),
        }
    }

    /// Whether a comment that binds stands on one of the lines of a value.
    fn is_bound(&self, node: &Node<'a>) -> bool {
        let until = self.text[node.end..].find('\n').map_or(self.text.len(), |at| node.end + at);
        let here = self.comments.iter().take_while(|comment| comment.at < until);
        here.into_iter().any(|comment| (self.binds)(comment.text))
    }

    /// What stands on a line stays on it.
    fn keep_as_written(&mut self, node: &mut Node<'a>) {
        if !node.is_on_several_lines() {
            return;
        }
        node.shape = Shape::AsWritten(&self.text[node.start..node.end]);
        self.comments.retain(|comment| !(node.start..node.end).contains(&comment.at));
    }

    fn before(&mut self, at: usize) -> Option<Comment<'a>> {
        match self.comments.front() {
            Some(comment) if comment.at < at => self.comments.pop_front(),
            _ => None,
        }
    }

    fn on_the_line_of(&mut self, end: usize, next: usize) -> Option<Comment<'a>> {
        let comment = self.comments.front()?;
        let between = self.text.get(end..comment.at)?;
        match comment.own_line || between.contains('\n') {
            true => None,
            false => self.before(next),
        }
    }
}
