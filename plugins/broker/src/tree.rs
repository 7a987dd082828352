//! Who subscribed to what: a tree with a branch for each level of the filters.

use std::collections::BTreeMap;

use crate::topics::{group_of, pattern_of};

/// A session, by its number.
pub type SessionId = u64;

/// How the messages of one subscription come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// What tells the client by which subscription it came; 0 for nothing.
    pub identifier: u32,
    /// Others share it.
    pub is_shared: bool,
}

/// The subscriptions of all sessions.
#[derive(Debug, Default)]
pub struct Tree {
    root: Branch,
}

#[derive(Debug, Default)]
struct Branch {
    levels: BTreeMap<Box<str>, Branch>,
    alone: Vec<(SessionId, Terms)>,
    /// By the name of those who share it.
    shared: BTreeMap<Box<str>, Group>,
}

#[derive(Debug, Default)]
struct Group {
    members: Vec<(SessionId, Terms)>,
    turn: usize,
}

/// The memory that a subscription takes at most, in bytes: a branch for each of its levels.
pub fn size_bytes(filter: &str) -> usize {
    const BRANCH: usize = 256;
    const SUBSCRIPTION: usize = 192;
    SUBSCRIPTION + 2 * filter.len() + (filter.split('/').count()) * BRANCH
}

impl Tree {
    /// The terms of a subscription.
    pub fn terms(&self, filter: &str, session: SessionId) -> Option<Terms> {
        let mut branch = &self.root;
        for level in pattern_of(filter).split('/') {
            branch = branch.levels.get(level)?;
        }
        let members = match group_of(filter) {
            None => &branch.alone,
            Some(group) => &branch.shared.get(group)?.members,
        };
        members.iter().find(|(member, _)| *member == session).map(|(_, terms)| *terms)
    }

    /// Subscribes, or changes the terms of who has subscribed.
    pub fn insert(&mut self, filter: &str, session: SessionId, terms: Terms) {
        let mut branch = &mut self.root;
        for level in pattern_of(filter).split('/') {
            branch = branch.levels.entry(level.into()).or_default();
        }
        let members = match group_of(filter) {
            None => &mut branch.alone,
            Some(group) => &mut branch.shared.entry(group.into()).or_default().members,
        };
        match members.iter_mut().find(|(member, _)| *member == session) {
            Some((_, known)) => *known = terms,
            None => members.push((session, terms)),
        }
    }

    /// Ends a subscription.
    pub fn remove(&mut self, filter: &str, session: SessionId) {
        let levels: Vec<&str> = pattern_of(filter).split('/').collect();
        self.root.remove(&levels, group_of(filter), session);
    }

    /// Who gets a message of that topic, by which terms. Of those who share a filter one does: if
    /// possible one who `is_there`, each in turn. One with several filters is there several times.
    pub fn hits(
        &mut self,
        topic: &str,
        is_there: impl Fn(SessionId) -> bool,
        hits: &mut Vec<(SessionId, Terms)>,
    ) {
        let levels: Vec<&str> = topic.split('/').collect();
        let wildcards = !topic.starts_with('$');
        self.root.find(&levels, wildcards, &is_there, hits);
    }
}

impl Branch {
    fn is_bare(&self) -> bool {
        self.levels.is_empty() && self.alone.is_empty() && self.shared.is_empty()
    }

    fn remove(&mut self, levels: &[&str], group: Option<&str>, session: SessionId) {
        if let Some((first, rest)) = levels.split_first() {
            let Some(branch) = self.levels.get_mut(*first) else { return };
            branch.remove(rest, group, session);
            if branch.is_bare() {
                self.levels.remove(*first);
            }
            return;
        }
        let Some(group) = group else {
            self.alone.retain(|(member, _)| *member != session);
            self.alone.shrink_to_fit();
            return;
        };
        if let Some(members) = self.shared.get_mut(group).map(|group| &mut group.members) {
            members.retain(|(member, _)| *member != session);
            if members.is_empty() {
                self.shared.remove(group);
            }
        }
    }

    fn find(
        &mut self,
        levels: &[&str],
        wildcards: bool,
        is_there: &impl Fn(SessionId) -> bool,
        hits: &mut Vec<(SessionId, Terms)>,
    ) {
        // `sport/#` asks for `sport` too.
        if wildcards && let Some(rest) = self.levels.get_mut("#") {
            rest.collect(is_there, hits);
        }
        let Some((first, rest)) = levels.split_first() else { return self.collect(is_there, hits) };
        if let Some(branch) = self.levels.get_mut(*first) {
            branch.find(rest, true, is_there, hits);
        }
        if wildcards && let Some(branch) = self.levels.get_mut("+") {
            branch.find(rest, true, is_there, hits);
        }
    }

    fn collect(
        &mut self,
        is_there: &impl Fn(SessionId) -> bool,
        hits: &mut Vec<(SessionId, Terms)>,
    ) {
        hits.extend(&self.alone);
        for group in self.shared.values_mut() {
            hits.extend(group.next(is_there));
        }
    }
}

impl Group {
    fn next(&mut self, is_there: &impl Fn(SessionId) -> bool) -> Option<(SessionId, Terms)> {
        let count = self.members.len();
        let in_turn = |steps: usize| (self.turn + steps) % count;
        let there = (0..count).map(in_turn).find(|at| is_there(self.members[*at].0));
        let at = there.unwrap_or_else(|| in_turn(0));
        self.turn = at + 1;
        self.members.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::matches;

    const TERMS: Terms = Terms {
        qos: 1,
        no_local: false,
        retain_as_published: false,
        identifier: 0,
        is_shared: false,
    };

    fn hits(tree: &mut Tree, topic: &str) -> Vec<SessionId> {
        let mut hits = Vec::new();
        tree.hits(topic, |session| session != 9, &mut hits);
        hits.into_iter().map(|(session, _)| session).collect()
    }

    #[test]
    fn a_tree_finds_what_filters_match_and_nothing_is_left_of_it() {
        let filters =
            ["a", "a/b", "a/+", "a/#", "+", "+/b", "#", "$SYS/#", "$SYS/+", "/", "+/+", "/#", "//"];
        let topics = ["a", "a/b", "a/b/c", "b", "$SYS", "$SYS/x", "/", "//", "/a", "x/b"];
        let mut tree = Tree::default();
        for (filter, session) in filters.iter().zip(1..) {
            tree.insert(filter, session, TERMS);
        }
        for topic in topics {
            let mut found = hits(&mut tree, topic);
            found.sort_unstable();
            let expected: Vec<_> = filters
                .iter()
                .zip(1..)
                .filter(|(f, _)| matches(f, topic))
                .map(|(_, s)| s)
                .collect();
            assert_eq!(found, expected, "{topic}");
        }
        for (filter, session) in filters.iter().zip(1..) {
            tree.remove(filter, session);
        }
        assert!(tree.root.is_bare());
    }

    #[test]
    fn those_who_share_a_filter_take_turns_and_who_is_away_comes_last() {
        let mut tree = Tree::default();
        for session in [1, 9, 2] {
            tree.insert("$share/g/a/+", session, TERMS);
        }
        tree.insert("$share/h/a/+", 9, TERMS);
        let found: Vec<_> = (0..4).map(|_| hits(&mut tree, "a/b")).collect();
        assert_eq!(found, [[1, 9], [2, 9], [1, 9], [2, 9]]);
        tree.insert("$share/g/a/+", 1, Terms { qos: 0, ..TERMS });
        for session in [1, 9, 2] {
            tree.remove("$share/g/a/+", session);
        }
        tree.remove("$share/h/a/+", 9);
        assert!(tree.root.is_bare());
    }
}
