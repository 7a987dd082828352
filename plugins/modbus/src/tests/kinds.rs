//! Every kind of number in every order, both ways, beside registers that `struct` and `int.to_bytes` of Python made.

use super::*;
use crate::{
    decode::decode,
    encode::{Encoded, encode},
    settings::RegisterSettings,
};

/// Kind, value, and the registers in the orders ABCD, CDAB, BADC and DCBA.
const TABLE: &str = include_str!("kinds.txt");
const ORDERS: [&str; 4] = ["ABCD", "CDAB", "BADC", "DCBA"];

#[test]
fn every_kind_is_read_and_written_in_every_order() {
    let mut kinds = std::collections::BTreeSet::new();
    for row in TABLE.lines() {
        let columns: Vec<&str> = row.split(" | ").collect();
        let [kind, value, ref registers @ ..] = columns[..] else { panic!("{row}") };
        kinds.insert(kind);
        let value: Value = serde_json::from_str(value).unwrap();
        for (order, registers) in ORDERS.into_iter().zip(registers) {
            let words = registers.split(' ').map(|word| u16::from_str_radix(word, 16).unwrap());
            let registers: Vec<u16> = words.collect();
            let settings = json!({ "name": "a", "holding": 0, "kind": kind, "order": order });
            let settings: RegisterSettings = serde_json::from_value(settings).unwrap();
            let field = settings.resolve("registers[0]").unwrap();
            let form = field.form.unwrap();
            assert_eq!(usize::from(field.block.count), registers.len(), "{row}");
            assert_eq!(decode(&registers, &form), Ok(value.clone()), "{order}: {row}");
            // A moment is only read.
            if kind != "unix_time" {
                let written = encode(&value, &form, None, field.block.count);
                assert_eq!(written, Ok(Encoded::Registers(registers)), "{order}: {row}");
            }
        }
    }
    assert_eq!(kinds.len(), 17, "{kinds:?}");
}
