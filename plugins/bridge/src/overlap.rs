//! Whether two filters ask for a topic in common.

use forebay_sdk::Filter;

/// Whether some topic fits both.
pub fn overlap(one: &Filter, other: &Filter) -> bool {
    let (one, other) = (one.as_str(), other.as_str());
    // A wildcard at the beginning leaves out the broker's own topics.
    let is_own = |text: &str| text.starts_with('$');
    if is_own(one) != is_own(other) && (is_own(one) || is_own(other)) {
        return false;
    }
    let one: Vec<&str> = one.split('/').collect();
    let other: Vec<&str> = other.split('/').collect();
    levels_overlap(&one, &other)
}

fn levels_overlap(one: &[&str], other: &[&str]) -> bool {
    match (one, other) {
        // `a/#` asks for `a` too.
        (["#", ..], _) | (_, ["#", ..]) | ([], []) => true,
        ([], _) | (_, []) => false,
        ([first, one @ ..], [second, other @ ..]) => {
            let fits = first == second || *first == "+" || *second == "+";
            fits && levels_overlap(one, other)
        }
    }
}
