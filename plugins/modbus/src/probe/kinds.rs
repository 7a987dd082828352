//! Any kind of number or moment in every order, side by side. Pure.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::guess::{ORDERS, Seen, shown};
use crate::{
    decode::{Form, Order, decode},
    settings::{Kind, Nature},
};

/// A kind that is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// As in settings: `u64`.
    pub name: String,
    /// How it is read, with what tells these ways apart.
    forms: Vec<(String, Form)>,
    registers: usize,
}

/// In the order in which they are listed.
const NAMES: [&str; 18] = [
    "u8",
    "i8",
    "u16",
    "i16",
    "sm16",
    "bcd16",
    "f16",
    "u32",
    "i32",
    "sm32",
    "bcd32",
    "f32",
    "unix_time",
    "u48",
    "i48",
    "u64",
    "i64",
    "f64",
];
/// These are wide, and seldom what is meant.
const WIDE: [&str; 2] = ["bcd64", "packed_time"];
/// Beside the address.
const COLUMNS: usize = 68;

/// Reads `u64,f64`, or `all`.
pub fn parse(text: &str) -> Result<Vec<Shown>, String> {
    let names = || NAMES.into_iter().chain(WIDE);
    if text == "all" {
        return Ok(names().filter_map(Shown::of).collect());
    }
    let known = |name: &str| {
        let name = name.trim();
        let found = names().find(|known| *known == name).and_then(Shown::of);
        found.ok_or_else(|| {
            let names: Vec<&str> = names().collect();
            format!("`{name}` is none; expected `all`, or of {}", names.join(", "))
        })
    };
    text.split(',').map(known).collect()
}

impl Shown {
    /// The kind with this name.
    pub fn of(name: &str) -> Option<Shown> {
        let kind: Kind = serde_json::from_value(name.into()).ok()?;
        let (registers, form): (usize, Box<dyn Fn(Order) -> Form>) = match kind.nature() {
            Nature::Number(kind) => {
                (kind.registers.into(), Box::new(move |order| Form::Number { kind, order }))
            }
            Nature::Time(clock) => {
                (clock.registers().into(), Box::new(move |order| Form::Time { clock, order }))
            }
            Nature::Bool | Nature::Text | Nature::Bytes => return None,
        };
        let orders = match registers {
            // The others are the same.
            1 => vec![Order::Abcd, Order::Badc],
            _ => ORDERS.to_vec(),
        };
        let form = |order: Order| {
            let label = match (name, order) {
                ("u8" | "i8", Order::Abcd) => "low".to_owned(),
                ("u8" | "i8", _) => "high".to_owned(),
                _ => order_name(order),
            };
            (label, form(order))
        };
        let forms = orders.into_iter().map(form).collect();
        Some(Shown { name: name.to_owned(), forms, registers })
    }

    /// A table, or several where one would be too wide, with a row for each place at which the kind can stand.
    pub fn table(&self, text: &mut String, seen: &[Seen]) {
        self.table_of(text, seen, |_| true);
    }

    /// A table of those rows in which a value is below zero.
    pub fn table_below_zero(&self, text: &mut String, seen: &[Seen]) {
        self.table_of(text, seen, |cells| cells.iter().any(|cell| cell.starts_with('-')));
    }

    fn table_of(&self, text: &mut String, seen: &[Seen], is_shown: impl Fn(&[String]) -> bool) {
        let rows: Vec<(u16, Vec<String>)> = (0..seen.len())
            .filter_map(|at| Some((seen[at].address, self.cells(&seen[at..])?)))
            .filter(|(_, cells)| is_shown(cells))
            .collect();
        let widest =
            rows.iter().flat_map(|(_, cells)| cells).map(|cell| cell.chars().count()).max();
        let Some(widest) = widest else { return };
        let width = widest.max(4);
        let ways: Vec<usize> = (0..self.forms.len()).collect();
        // All in one table, or two and two.
        let in_a_row = if ways.len() * (width + 1) <= COLUMNS { ways.len() } else { 2 };
        for ways in ways.chunks(in_a_row) {
            let margin = self.name.len().max(5);
            let _ = write!(text, "\n  {:>margin$}", self.name);
            for way in ways {
                let _ = write!(text, " {:>width$}", self.forms[*way].0);
            }
            text.push('\n');
            for (address, cells) in &rows {
                let _ = write!(text, "  {address:>margin$}");
                for way in ways {
                    let _ = write!(text, " {:>width$}", cells[*way]);
                }
                text.push('\n');
            }
        }
    }

    /// The values at the first of these registers, by the way they are read. None where too few follow.
    pub fn values(&self, seen: &[Seen]) -> Option<Map<String, Value>> {
        let registers = self.registers_at(seen)?;
        let value = |(label, form): &(String, Form)| {
            (label.clone(), decode(&registers, form).unwrap_or(Value::Null))
        };
        Some(self.forms.iter().map(value).collect())
    }

    fn cells(&self, seen: &[Seen]) -> Option<Vec<String>> {
        let registers = self.registers_at(seen)?;
        let cell = |(_, form): &(String, Form)| match decode(&registers, form) {
            Ok(Value::String(text)) => text,
            Ok(Value::Number(number)) if number.is_f64() => {
                number.as_f64().map(shown).unwrap_or_default()
            }
            Ok(value) => value.to_string(),
            Err(_) => "-".to_owned(),
        };
        Some(self.forms.iter().map(cell).collect())
    }

    fn registers_at(&self, seen: &[Seen]) -> Option<Vec<u16>> {
        let run = seen.get(..self.registers)?;
        let follows = |pair: &[Seen]| u32::from(pair[1].address) == u32::from(pair[0].address) + 1;
        run.windows(2).all(follows).then(|| run.iter().map(|one| one.first).collect())
    }
}

/// As settings have it.
pub fn order_name(order: Order) -> String {
    format!("{order:?}").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(registers: &[u16]) -> Vec<Seen> {
        let one = |(address, first)| Seen { address, first, second: None };
        (40..).zip(registers.iter().copied()).map(one).collect()
    }

    #[track_caller]
    fn check(kind: &str, registers: &[u16], expected: &str) {
        let mut text = String::new();
        for shown in parse(kind).unwrap() {
            shown.table(&mut text, &seen(registers));
        }
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_kind_is_shown_in_every_order() {
        check(
            "i32",
            &[0xFFFF, 0xFF38, 1],
            "
    i32      ABCD      CDAB      BADC      DCBA
     40      -200 -13041665    -50945 956301311
     41 -13107199    130872 956236032  16791807
",
        );
        check("u8", &[0x1234], "\n     u8  low high\n     40   52   18\n");
        check("bcd16", &[0x123A], "\n  bcd16 ABCD BADC\n     40    -    -\n");
    }

    #[test]
    fn what_is_no_kind_says_which_there_are() {
        assert_eq!(parse("u64, f64").unwrap().len(), 2);
        assert_eq!(parse("all").unwrap().len(), 20);
        for wrong in ["u63", "string", "", "u64,"] {
            assert!(parse(wrong).unwrap_err().contains("expected `all`, or of u8, i8"), "{wrong}");
        }
    }
}
