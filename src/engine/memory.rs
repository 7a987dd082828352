//! The memory that the system lets the program have, and what of it the queues may take.
//!
//! A container that takes more is ended by the system, and what is in memory is lost. So the bounds of all queues
//! together stay below half of that limit; the other half is for the program and what its nodes keep.

use std::{fs, path::Path};

use forebay_sdk::Role;

use crate::config::{Graph, NodeSpec, Store};

/// What a queue may take even where there is hardly anything.
const LEAST_BYTES: u64 = 64 << 10;

/// How many bytes of memory this process may take, where a container or a service has a limit.
pub fn limit() -> Option<u64> {
    limit_in(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The same of a tree of control groups, and the groups of a process. In a container the tree may begin at its own.
fn limit_in(tree: &Path, groups: &str) -> Option<u64> {
    let places = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => Some((tree.to_owned(), path, "memory.max")),
            "memory" => Some((tree.join("memory"), path, "memory.limit_in_bytes")),
            _ => None,
        }
    });
    let files = places.flat_map(|(root, path, file)| {
        let own = root.join(path.trim_start_matches('/')).join(file);
        [own, root.join(file)]
    });
    // Without a limit it says `max`, or in the older tree more than any machine has.
    let read = files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    read.filter(|bytes| *bytes < 1 << 50).min()
}

/// Makes the bounds of the queues in memory smaller, all by the same part, until together they take no more than half
/// of the limit. Tells how much that is of what they would take.
pub fn fit(graph: &mut Graph, limit: u64) -> Option<f64> {
    let has_queue = |spec: &&mut NodeSpec| {
        spec.role != Role::Source && spec.common.buffer.store == Store::Memory
    };
    let mut queues: Vec<_> = graph.nodes.values_mut().filter(has_queue).collect();
    let wanted: u64 = queues.iter().map(|spec| spec.common.buffer.max_bytes).sum();
    let part = (limit / 2) as f64 / wanted as f64;
    if part >= 1.0 {
        return None;
    }
    for spec in &mut queues {
        let bytes = &mut spec.common.buffer.max_bytes;
        *bytes = ((*bytes as f64 * part) as u64).max(LEAST_BYTES.min(*bytes));
    }
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the limit of a process in these groups, where the tree has these files.
    #[track_caller]
    fn check(groups: &str, files: &[(&str, &str)], expected: Option<u64>) {
        let tree = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        assert_eq!(limit_in(tree.path(), groups), expected);
    }

    #[test]
    fn the_limit_of_a_container_is_that_of_the_root_it_sees() {
        check("0::/\n", &[("memory.max", "67108864\n")], Some(64 << 20));
    }

    #[test]
    fn the_limit_of_a_service_is_that_of_its_group() {
        let own = ("system.slice/forebay.service/memory.max", "33554432\n");
        check("0::/system.slice/forebay.service\n", &[own], Some(32 << 20));
    }

    #[test]
    fn the_older_tree_has_a_branch_for_memory() {
        let groups = "5:devices:/docker/1\n4:memory:/docker/1\n0::/\n";
        check(groups, &[("memory/memory.limit_in_bytes", "67108864\n")], Some(64 << 20));
    }

    #[test]
    fn no_limit_is_none() {
        check("0::/\n", &[("memory.max", "max\n")], None);
        check("4:memory:/\n", &[("memory/memory.limit_in_bytes", "9223372036854771712\n")], None);
        check("0::/\n", &[], None);
        check("", &[], None);
        check("nonsense\n0::\n", &[], None);
    }
}
