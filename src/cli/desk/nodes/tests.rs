use super::*;
use crate::config::{Types, example};

#[test]
fn what_stands_for_several_nodes_is_listed_and_described() {
    let types = Types::new(vec![example::plugin()]);
    let kinds = kinds::all(&types);
    let list = list(&kinds);
    assert!(list.contains("pair        pairs "), "{list}");
    let pairs: Vec<Kind> = kinds.into_iter().filter(|kind| kind.name == "pairs").collect();
    let text = describe(&pairs);
    assert!(text.starts_with("pair: "), "{text}");
    assert!(text.contains("  links  (list of map, required)\n"), "{text}");
    assert_eq!(as_json(&pairs[0])["section"], "pairs");
}
