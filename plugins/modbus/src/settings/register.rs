//! One register of a source: what users write, and what it means.

use std::collections::HashMap;

use forebay_sdk::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    block::{Block, Table},
    decode::{Form, NumberKind, Order, Scaling, Sort},
    source::Field,
};

/// One value of a device, in one or more registers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterSettings {
    /// What the value is called in the message.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Address of a holding register (function 3), from 0. Of several registers, the first.
    /// Each register has exactly one of `holding`, `input`, `coil` and `discrete`.
    #[schemars(extend("errorMessage" = "addresses start at 0: number 40001 (or 400001) of a manual is `holding: 0`"))]
    pub holding: Option<u16>,
    /// Address of an input register (function 4), from 0. Of several registers, the first.
    #[schemars(extend("errorMessage" = "addresses start at 0: number 30001 (or 300001) of a manual is `input: 0`"))]
    pub input: Option<u16>,
    /// Address of a coil (function 1), from 0.
    #[schemars(extend("errorMessage" = "addresses start at 0: number 1 (or 00001) of a manual is `coil: 0`"))]
    pub coil: Option<u16>,
    /// Address of a discrete input (function 2), from 0.
    #[schemars(extend("errorMessage" = "addresses start at 0: number 10001 (or 100001) of a manual is `discrete: 0`"))]
    pub discrete: Option<u16>,
    /// What the registers hold. Default: `u16`; `bool` for coils, discrete inputs and with `bit`.
    pub kind: Option<Kind>,
    /// The order in which the device sends the bytes of the value, A being the most significant.
    #[serde(default)]
    pub order: Order,
    /// How many registers a `string` fills, 1 to 125. Two characters fit in one.
    #[schemars(range(min = 1, max = 125))]
    pub length: Option<u16>,
    /// Takes one bit of a register as `true` or `false`: 0 is the least significant, 15 the most.
    #[schemars(range(max = 15))]
    pub bit: Option<u8>,
    /// Multiplies the number. The result has at most 15 digits.
    pub scale: Option<f64>,
    /// Added to the number, after `scale`.
    pub offset: Option<f64>,
    /// The unit of the value, such as `kWh`. Stands in `meta.units` of each message.
    pub unit: Option<String>,
}

/// What registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A whole number from 0 to 65535, in one register.
    U16,
    /// A whole number from -32768 to 32767, in one register.
    I16,
    /// A whole number from 0 on, in two registers.
    U32,
    /// A whole number with a sign, in two registers.
    I32,
    /// A whole number from 0 on, in four registers.
    U64,
    /// A whole number with a sign, in four registers.
    I64,
    /// A floating-point number (IEEE 754), in two registers.
    F32,
    /// A floating-point number (IEEE 754), in four registers.
    F64,
    /// `true` or `false`: a coil, a discrete input, or one `bit` of a register.
    Bool,
    /// UTF-8 text, two characters in each register.
    String,
}

impl RegisterSettings {
    /// What the settings mean, or all that is wrong with them. `path` leads to the register.
    pub fn resolve(&self, path: &str) -> Result<Field, Vec<Problem>> {
        let mut problems = Vec::new();
        // Without a place, the rest is checked for what most registers are.
        let (table, start) = self.place(path, &mut problems).unwrap_or((Table::Holding, 0));
        let (form, count) = if table.holds_bits() {
            self.refuse_numbers(table, path, &mut problems);
            (None, 1)
        } else {
            self.register_form(table, path, &mut problems)
        };
        if u32::from(start) + u32::from(count) > 0x1_0000 {
            problems.push(Problem::new(
                format!("{path}.{}", table_setting(table)),
                format!("{} reaches beyond the last register", self.title()),
                format!(
                    "expected at most {} for {count} registers, found {start}",
                    65536 - u32::from(count)
                ),
            ));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Field { name: self.name.clone(), block: Block { table, start, count }, form })
    }

    /// The tables that are named, with the address in each.
    pub fn places(&self) -> impl Iterator<Item = (Table, u16)> {
        [
            (Table::Holding, self.holding),
            (Table::Input, self.input),
            (Table::Coil, self.coil),
            (Table::Discrete, self.discrete),
        ]
        .into_iter()
        .filter_map(|(table, address)| address.map(|address| (table, address)))
    }

    fn place(&self, path: &str, problems: &mut Vec<Problem>) -> Option<(Table, u16)> {
        let mut places = self.places();
        let (setting, wrong) = match (places.next(), places.next()) {
            (Some(place), None) => return Some(place),
            (_, Some((second, _))) => {
                (format!("{path}.{}", table_setting(second)), "stands in two tables")
            }
            (None, None) => (path.to_owned(), "has no address"),
        };
        problems.push(Problem::new(
            setting,
            format!("{} {wrong}", self.title()),
            "expected exactly one of `holding`, `input`, `coil` or `discrete`",
        ));
        None
    }

    /// Coils and discrete inputs are `true` or `false`, and nothing can be done to them.
    fn refuse_numbers(&self, table: Table, path: &str, problems: &mut Vec<Problem>) {
        let noun = table.noun();
        if !matches!(self.kind, None | Some(Kind::Bool)) {
            problems.push(Problem::new(
                format!("{path}.kind"),
                format!("{} is a {noun}, which is no number", self.title()),
                "expected `bool`",
            ));
        }
        self.refuse("bit", self.bit, &format!("a {noun} is one bit"), path, problems);
        self.refuse_length(path, problems);
        self.refuse_scaling(path, problems);
    }

    fn register_form(
        &self,
        table: Table,
        path: &str,
        problems: &mut Vec<Problem>,
    ) -> (Option<Form>, u16) {
        let order = self.order;
        let kind = match (self.kind, self.bit) {
            (Some(kind), _) => kind,
            (None, Some(_)) => Kind::Bool,
            (None, None) => Kind::U16,
        };
        if kind != Kind::String {
            self.refuse_length(path, problems);
        }
        let Some(number) = kind.number() else {
            self.refuse_scaling(path, problems);
            return match kind {
                Kind::String => self.text_form(path, problems),
                _ => (self.bit_form(table, path, problems), 1),
            };
        };
        if self.bit.is_some() {
            self.refuse_scaling(path, problems);
            if number.registers > 1 {
                problems.push(Problem::new(
                    format!("{path}.kind"),
                    format!("{} takes a bit of more than one register", self.title()),
                    "expected `bool`: `bit` counts the 16 bits of one register",
                ));
            }
            return (self.bit_form(table, path, problems), 1);
        }
        let form = Form::Number { kind: number, order, scaling: self.scaling(path, problems) };
        (Some(form), number.registers)
    }

    fn bit_form(&self, table: Table, path: &str, problems: &mut Vec<Problem>) -> Option<Form> {
        if self.bit.is_none() {
            problems.push(Problem::new(
                format!("{path}.kind"),
                format!("{} is `bool` and does not say which bit", self.title()),
                format!("expected `bit` beside it, or a coil: a {} has 16 bits", table.noun()),
            ));
        }
        self.bit.map(|bit| Form::Bit { bit, order: self.order })
    }

    fn text_form(&self, path: &str, problems: &mut Vec<Problem>) -> (Option<Form>, u16) {
        self.refuse("bit", self.bit, "a `string` has no bits", path, problems);
        if matches!(self.order, Order::Cdab | Order::Dcba) {
            problems.push(Problem::new(
                format!("{path}.order"),
                format!("{} is text, whose registers are never reversed", self.title()),
                "expected `ABCD` or `BADC`",
            ));
        }
        if self.length.is_none() {
            problems.push(Problem::new(
                path,
                format!("{} does not say how long its text is", self.title()),
                "`length` is missing: the number of registers",
            ));
        }
        (Some(Form::Text { order: self.order }), self.length.unwrap_or(1))
    }

    fn scaling(&self, path: &str, problems: &mut Vec<Problem>) -> Option<Scaling> {
        let wrong = |setting: &str, expected: &str| {
            let message = format!("`{setting}` of `{}` makes no number", self.name);
            Problem::new(format!("{path}.{setting}"), message, expected)
        };
        if self.scale.is_some_and(|scale| !scale.is_normal()) {
            problems.push(wrong("scale", "expected a finite number other than 0"));
        }
        if self.offset.is_some_and(|offset| !offset.is_finite()) {
            problems.push(wrong("offset", "expected a finite number"));
        }
        let asked = self.scale.is_some() || self.offset.is_some();
        asked.then(|| Scaling {
            scale: self.scale.unwrap_or(1.0),
            offset: self.offset.unwrap_or(0.0),
        })
    }

    fn refuse_scaling(&self, path: &str, problems: &mut Vec<Problem>) {
        self.refuse("scale", self.scale, "only numbers are scaled", path, problems);
        self.refuse("offset", self.offset, "only numbers have an offset", path, problems);
    }

    fn refuse_length(&self, path: &str, problems: &mut Vec<Problem>) {
        let why = "only a `string` has a length; other kinds know theirs";
        self.refuse("length", self.length, why, path, problems);
    }

    fn refuse<T>(
        &self,
        setting: &str,
        value: Option<T>,
        why: &str,
        path: &str,
        problems: &mut Vec<Problem>,
    ) {
        if value.is_some() {
            let message = format!("{} has no use for `{setting}`", self.title());
            problems.push(Problem::new(format!("{path}.{setting}"), message, why));
        }
    }

    fn title(&self) -> String {
        format!("register `{}`", self.name)
    }
}

impl Kind {
    /// None for what is no number.
    fn number(self) -> Option<NumberKind> {
        let (registers, sort) = match self {
            Kind::U16 => (1, Sort::Unsigned),
            Kind::I16 => (1, Sort::Signed),
            Kind::U32 => (2, Sort::Unsigned),
            Kind::I32 => (2, Sort::Signed),
            Kind::U64 => (4, Sort::Unsigned),
            Kind::I64 => (4, Sort::Signed),
            Kind::F32 => (2, Sort::Float),
            Kind::F64 => (4, Sort::Float),
            Kind::Bool | Kind::String => return None,
        };
        Some(NumberKind { registers, sort })
    }
}

/// Names that are there twice.
pub fn unique_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Problem> {
    let mut first_of_name: HashMap<&str, usize> = HashMap::new();
    let mut problems = Vec::new();
    for (index, name) in names.enumerate() {
        let first = *first_of_name.entry(name).or_insert(index);
        if first != index {
            problems.push(
                Problem::new(
                    format!("{}.name", path(index)),
                    format!("two registers are named `{name}`"),
                    "expected another name",
                )
                .also(format!("{}.name", path(first)), "has this one"),
            );
        }
    }
    problems
}

/// Where a register stands in the settings.
pub fn path(index: usize) -> String {
    format!("registers[{index}]")
}

/// The setting that holds an address in the table.
pub fn table_setting(table: Table) -> &'static str {
    match table {
        Table::Holding => "holding",
        Table::Input => "input",
        Table::Coil => "coil",
        Table::Discrete => "discrete",
    }
}

/// The unit of a device when nobody says another.
pub(super) fn default_unit() -> u8 {
    1
}
