//! One register of a node: what users write, and what it means.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use forebay_sdk::{DeadbandSettings, Problem, rules::MISSING_SETTING};
use schemars::JsonSchema;
use serde::Deserialize;

use super::kind::{Kind, Nature};
use crate::{
    address::of_manual,
    block::{Block, Table},
    decode::{Encoding, Form, NumberKind, Order, Sort},
    reading::Field,
    refine::{Refine, Scaling},
};

/// One value of a device, in one or more registers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterSettings {
    /// What the value is called in the message.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Address of a holding register (function 3), from 0. Of several registers, the first.
    /// Each register has exactly one of `holding`, `input`, `coil`, `discrete` and `register`.
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
    /// The number of a manual that counts from 1 and puts the table in front: 1 to 9999 is a coil,
    /// 10001 a discrete input, 30001 an input register, 40001 a holding register; with six digits
    /// 100001, 300001 and 400001. `register: 40108` is `holding: 107`.
    #[schemars(range(min = 1, max = 465_536))]
    pub register: Option<u32>,
    /// SunSpec models, such as `[101, 102, 103]`, of which the device has one: where they stand is found
    /// by walking its map. `holding` then counts from the first register of the model, which holds its
    /// number. Registers of different models may have one name: the one that is there is read.
    #[schemars(length(min = 1))]
    pub sunspec: Option<Vec<u16>>,
    /// What the registers hold. Default: `u16`; `bool` for coils, discrete inputs and with `bit`.
    pub kind: Option<Kind>,
    /// The order in which the device sends the bytes of the value, A being the most significant.
    #[serde(default)]
    pub order: Order,
    /// How many registers a `string` or `bytes` fill, 1 to 125. Two characters fit in one.
    #[schemars(range(min = 1, max = 125))]
    pub length: Option<u16>,
    /// How a `string` is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// Takes one bit of a register as `true` or `false`: 0 is the least significant, 15 the most.
    #[schemars(range(max = 15))]
    pub bit: Option<u8>,
    /// Which half of the register a `u8` or `i8` is in. `low` unless given.
    pub byte: Option<Half>,
    /// Takes some bits of a whole number as one, such as `[4, 7]`: the least significant and the most.
    #[schemars(inner(range(max = 63)))]
    pub bits: Option<[u8; 2]>,
    /// Takes bits as a map of names to `true` or `false`, such as `{ running: 0, fault: 3 }`.
    #[schemars(length(min = 1), inner(range(max = 63)))]
    pub flags: Option<BTreeMap<String, u8>>,
    /// What whole numbers are called, such as `{ 0: stopped, 1: running }`.
    #[schemars(length(min = 1))]
    pub labels: Option<BTreeMap<String, String>>,
    /// What the device has in the place of a value that it does not have, such as `0x8000`: the bits of
    /// the registers, or the number before `scale`.
    pub absent: Option<Vec<i128>>,
    /// Multiplies the number. The result has at most 15 digits.
    pub scale: Option<f64>,
    /// Added to the number, after `scale`.
    pub offset: Option<f64>,
    /// The name of another register of this list, whose value is the power of ten by which the number is
    /// multiplied: a scale factor of SunSpec.
    pub scale_by: Option<String>,
    /// The least and the most that can be true, such as `[0, 500]`. What is beyond is `null`.
    pub valid: Option<[f64; 2]>,
    /// To how many digits behind the point the number is rounded, 0 to 15.
    #[schemars(range(max = 15))]
    pub round: Option<u8>,
    /// Leaves the value out of the message until it has moved. A message in which nothing has is not
    /// sent.
    pub deadband: Option<DeadbandSettings>,
    /// Leaves the value out of all messages: a scale factor that only others need.
    #[serde(default)]
    pub hidden: bool,
    /// The unit of the value, such as `kWh`. Stands in `meta.units` of each message.
    pub unit: Option<String>,
}

/// Half of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// The less significant one.
    Low,
    /// The more significant one.
    High,
}

impl RegisterSettings {
    /// What the settings mean, or all that is wrong with them. `path` leads to the register.
    pub fn resolve(&self, path: &str) -> Result<Field, Vec<Problem>> {
        let mut wrong = Wrong { settings: self, path, problems: Vec::new() };
        // Without a place, the rest is checked for what most registers are.
        let place = self.place(&mut wrong);
        let (table, start) = place.unwrap_or((Table::Holding, 0));
        let (form, count) = if table.holds_bits() {
            wrong.refuse_of_bits(table);
            (None, 1)
        } else {
            self.form(table, &mut wrong)
        };
        if place.is_some() && u32::from(start) + u32::from(count) > 0x1_0000 {
            wrong.add(
                table_setting(table),
                format!("{} reaches beyond the last register", self.title()),
                format!(
                    "expected at most {} for {count} registers, found {start}",
                    65536 - u32::from(count)
                ),
            );
        }
        if self.sunspec.is_some() && place.is_some_and(|(table, _)| table != Table::Holding) {
            let message = format!("{} is in no SunSpec model", self.title());
            wrong.add(table_setting(table), message, "expected `holding`: models have no others");
        }
        let refine = self.refine(form.as_ref(), &mut wrong);
        let deadband = self.deadband.and_then(|deadband| match deadband.resolve() {
            Ok(sending) => Some(sending),
            Err(setting) => {
                let message = format!("`{setting}` of the deadband is no distance");
                wrong.add(&format!("deadband.{setting}"), message, "expected 0 or more");
                None
            }
        });
        if !wrong.problems.is_empty() {
            return Err(wrong.problems);
        }
        let block = Block { table, start, count };
        Ok(Field {
            name: self.name.clone(),
            block,
            models: self.sunspec.as_deref().map(Arc::from),
            missing: None,
            is_hidden: self.hidden,
            unit: self.unit.as_deref().map(Arc::from),
            form,
            refine,
            deadband,
        })
    }

    /// The tables that are named by their keys, with the address in each.
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

    fn place(&self, wrong: &mut Wrong) -> Option<(Table, u16)> {
        const EXPECTED: &str =
            "expected exactly one of `holding`, `input`, `coil`, `discrete` or `register`";
        let mut places = self.places();
        let first = places.next();
        if let Some((second, _)) = places.next() {
            wrong.add(
                table_setting(second),
                format!("{} stands in two tables", self.title()),
                EXPECTED,
            );
            return None;
        }
        match (first, self.register) {
            (Some(place), None) => Some(place),
            (None, Some(number)) => {
                let place = of_manual(number);
                if place.is_none() {
                    wrong.add(
                        "register",
                        format!("{} has a number that no table has", self.title()),
                        format!("expected such as 40001, 30001, 10001 or 1, found {number}"),
                    );
                }
                place
            }
            (Some(_), Some(_)) => {
                wrong.add("register", format!("{} stands in two tables", self.title()), EXPECTED);
                None
            }
            (None, None) => {
                wrong.add("", format!("{} has no address", self.title()), EXPECTED);
                None
            }
        }
    }

    /// How its registers are read, and how many there are.
    fn form(&self, table: Table, wrong: &mut Wrong) -> (Option<Form>, u16) {
        let kind = match (self.kind, self.bit) {
            (Some(kind), _) => kind,
            (None, Some(_)) => Kind::Bool,
            (None, None) => Kind::U16,
        };
        let nature = kind.nature();
        if !matches!(nature, Nature::Text | Nature::Bytes) {
            wrong.refuse(
                "length",
                "only `string` and `bytes` have a length; other kinds know theirs",
            );
        }
        if nature != Nature::Text {
            wrong.refuse("encoding", "only a `string` is written in one");
        }
        if !matches!(kind, Kind::U8 | Kind::I8) {
            wrong.refuse("byte", "only a `u8` or an `i8` is half a register");
        }
        let is_whole = matches!(nature, Nature::Number(kind) if kind.sort != Sort::Float);
        if !is_whole {
            wrong.refuse("bits", "only whole numbers have bits to take");
            wrong.refuse("flags", "only whole numbers have bits with names");
        }
        match nature {
            Nature::Number(number) if self.bit.is_some() => {
                if number.registers > 1 {
                    wrong.add(
                        "kind",
                        format!("{} takes a bit of more than one register", self.title()),
                        "expected `bool`: `bit` counts the 16 bits of one register",
                    );
                }
                (self.bit_form(table, wrong), 1)
            }
            Nature::Number(number) => (Some(self.number_form(number, wrong)), number.registers),
            Nature::Time(clock) => {
                wrong.refuse("bit", "a moment has no bits");
                (Some(Form::Time { clock, order: self.order }), clock.registers())
            }
            Nature::Bool => (self.bit_form(table, wrong), 1),
            Nature::Text => {
                self.long_form(Form::Text { encoding: self.encoding, order: self.order }, wrong)
            }
            Nature::Bytes => self.long_form(Form::Bytes { order: self.order }, wrong),
        }
    }

    fn number_form(&self, mut kind: NumberKind, wrong: &mut Wrong) -> Form {
        let order = self.order;
        if self.byte == Some(Half::High) {
            kind.shift = 8;
        }
        let most = u32::from(kind.registers) * 16;
        if let Some(flags) = &self.flags {
            wrong.refuse("bits", "`flags` already say which bits are meant");
            for (name, bit) in flags.iter().filter(|(_, bit)| u32::from(**bit) >= most) {
                let message = format!("{} has no bit for `{name}`", self.title());
                wrong.add("flags", message, format!("expected at most {}, found {bit}", most - 1));
            }
            let flags = flags.iter().map(|(name, bit)| (name.clone(), *bit)).collect();
            return Form::Flags { flags, order };
        }
        if let Some([least, last]) = self.bits {
            if least > last || u32::from(last) >= most {
                let label = format!("expected two bits from 0 to {}, the smaller first", most - 1);
                wrong.add("bits", format!("{} has no such bits", self.title()), label);
            } else {
                (kind.shift, kind.width) = (least.into(), u32::from(last - least) + 1);
            }
        }
        Form::Number { kind, order }
    }

    fn bit_form(&self, table: Table, wrong: &mut Wrong) -> Option<Form> {
        wrong.refuse("bits", "`bit` takes one");
        wrong.refuse("flags", "`bit` takes one");
        if self.bit.is_none() {
            wrong.add(
                "kind",
                format!("{} is `bool` and does not say which bit", self.title()),
                format!("expected `bit` beside it, or a coil: a {} has 16 bits", table.noun()),
            );
        }
        self.bit.map(|bit| Form::Bit { bit, order: self.order })
    }

    /// Of text and bytes.
    fn long_form(&self, form: Form, wrong: &mut Wrong) -> (Option<Form>, u16) {
        let is_text = matches!(form, Form::Text { .. });
        let (noun, what) = if is_text { ("text", "text is") } else { ("bytes", "bytes are") };
        wrong
            .refuse("bit", if is_text { "a `string` has no bits" } else { "`bytes` have no bits" });
        if matches!(self.order, Order::Cdab | Order::Dcba) {
            let message = format!("{} is {noun}, whose registers are never reversed", self.title());
            wrong.add("order", message, "expected `ABCD` or `BADC`");
        }
        if self.length.is_none() {
            let message = format!("{} does not say how long its {what}", self.title());
            wrong.add("", message, "`length` is missing: the number of registers");
        }
        (Some(form), self.length.unwrap_or(1))
    }

    /// What is done to a number. Everything is refused for what is none.
    fn refine(&self, form: Option<&Form>, wrong: &mut Wrong) -> Refine {
        let Some(Form::Number { kind, .. }) = form else {
            for setting in ["scale", "offset", "scale_by", "valid", "round"] {
                let why = if setting == "offset" {
                    "only numbers have an offset"
                } else {
                    "only numbers have it"
                };
                wrong.refuse(
                    setting,
                    if setting == "scale" { "only numbers are scaled" } else { why },
                );
            }
            wrong.refuse("labels", "only whole numbers have labels");
            if !matches!(form, Some(Form::Flags { .. })) {
                wrong.refuse("absent", "only numbers have a value that means none");
            }
            return Refine { absent: self.absent.clone().unwrap_or_default(), ..Refine::default() };
        };
        if kind.sort == Sort::Float {
            wrong.refuse("labels", "only whole numbers have labels");
        }
        if self.labels.is_some() {
            for setting in ["scale", "offset", "scale_by", "valid", "round"] {
                wrong.refuse(setting, "`labels` make a text of the number");
            }
        }
        if let Some([least, most]) = self.valid
            && (least.is_nan() || most.is_nan() || least > most)
        {
            let message = format!("no value of {} would be valid", self.title());
            wrong.add("valid", message, "expected the least and the most, such as `[0, 500]`");
        }
        let absent = self.absent.clone().unwrap_or_default();
        Refine {
            absent,
            scaling: self.scaling(wrong),
            scale_by: self.scale_by.clone(),
            valid: self.valid,
            round: self.round,
            labels: self.labels.as_ref().map(|labels| Arc::new(self.numbered(labels, wrong))),
        }
    }

    /// Labels by their numbers.
    fn numbered(
        &self,
        labels: &BTreeMap<String, String>,
        wrong: &mut Wrong,
    ) -> BTreeMap<i64, String> {
        let mut numbered = BTreeMap::new();
        for (number, label) in labels {
            let parsed = match number.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16),
                None => number.parse(),
            };
            match parsed {
                Ok(number) => _ = numbered.insert(number, label.clone()),
                Err(_) => {
                    let message = format!("{} has a label for what is no number", self.title());
                    let label = format!("expected a whole number in front of it, found `{number}`");
                    wrong.add("labels", message, label);
                }
            }
        }
        numbered
    }

    fn scaling(&self, wrong: &mut Wrong) -> Option<Scaling> {
        for (setting, is_wrong, expected) in [
            (
                "scale",
                self.scale.is_some_and(|scale| !scale.is_normal()),
                "expected a finite number other than 0",
            ),
            (
                "offset",
                self.offset.is_some_and(|offset| !offset.is_finite()),
                "expected a finite number",
            ),
        ] {
            if is_wrong {
                let message = format!("`{setting}` of `{}` makes no number", self.name);
                wrong.add(setting, message, expected);
            }
        }
        let asked = self.scale.is_some() || self.offset.is_some();
        asked.then(|| Scaling {
            scale: self.scale.unwrap_or(1.0),
            offset: self.offset.unwrap_or(0.0),
        })
    }

    fn is_given(&self, setting: &str) -> bool {
        match setting {
            "length" => self.length.is_some(),
            "encoding" => self.encoding != Encoding::default(),
            "bit" => self.bit.is_some(),
            "byte" => self.byte.is_some(),
            "bits" => self.bits.is_some(),
            "flags" => self.flags.is_some(),
            "labels" => self.labels.is_some(),
            "absent" => self.absent.is_some(),
            "scale" => self.scale.is_some(),
            "offset" => self.offset.is_some(),
            "scale_by" => self.scale_by.is_some(),
            "valid" => self.valid.is_some(),
            "round" => self.round.is_some(),
            _ => false,
        }
    }

    fn title(&self) -> String {
        format!("register `{}`", self.name)
    }
}

/// What is wrong with one register, so far.
struct Wrong<'a> {
    settings: &'a RegisterSettings,
    path: &'a str,
    problems: Vec<Problem>,
}

impl Wrong<'_> {
    /// `setting` is one of the register, or empty for the register.
    fn add(&mut self, setting: &str, message: impl Into<String>, label: impl Into<String>) {
        let dot = if setting.is_empty() { "" } else { "." };
        let place = format!("{}{dot}{setting}", self.path);
        self.problems.push(Problem::new(place, message, label));
    }

    /// Refuses a setting that is given.
    fn refuse(&mut self, setting: &str, why: &str) {
        let message = format!("{} has no use for `{setting}`", self.settings.title());
        let place = format!("{}.{setting}", self.path);
        let is_said = self.problems.iter().any(|problem| problem.setting == place);
        if self.settings.is_given(setting) && !is_said {
            self.add(setting, message, why);
        }
    }

    /// Coils and discrete inputs are `true` or `false`, and nothing can be done to them.
    fn refuse_of_bits(&mut self, table: Table) {
        let noun = table.noun();
        if !matches!(self.settings.kind, None | Some(Kind::Bool)) {
            let message = format!("{} is a {noun}, which is no number", self.settings.title());
            self.add("kind", message, "expected `bool`");
        }
        self.refuse("bit", &format!("a {noun} is one bit"));
        self.refuse("length", "only `string` and `bytes` have a length; other kinds know theirs");
        for setting in ["encoding", "byte", "bits", "flags"] {
            self.refuse(setting, &format!("a {noun} is one bit"));
        }
    }
}

/// The SunSpec models that a register is in, if any.
pub type Models<'a> = Option<&'a [u16]>;

/// Names that are there twice, but for those of SunSpec models of which a device has one.
pub fn unique_names<'a>(names: impl Iterator<Item = (&'a str, Models<'a>)>) -> Vec<Problem> {
    let mut of_name: HashMap<&str, Vec<(usize, Models<'_>)>> = HashMap::new();
    let mut problems = Vec::new();
    for (index, (name, models)) in names.enumerate() {
        let others = of_name.entry(name).or_default();
        let clashes = |other: Models<'_>| match (models, other) {
            (Some(models), Some(other)) => models.iter().any(|model| other.contains(model)),
            _ => true,
        };
        if let Some((first, _)) = others.iter().find(|(_, other)| clashes(*other)) {
            problems.push(
                Problem::new(
                    format!("{}.name", path(index)),
                    format!("two registers are named `{name}`"),
                    "expected another name",
                )
                .also(format!("{}.name", path(*first)), "has this one"),
            );
        }
        others.push((index, models));
    }
    problems
}

/// A node that says nothing of what is read or written, or that takes a part of no profile.
pub fn no_registers<T>(
    role: &str,
    registers: &[T],
    only: Option<&[String]>,
    profile: Option<&str>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    if profile.is_some() {
        return problems;
    }
    if registers.is_empty() {
        let message = format!("modbus {role} needs `registers`");
        let problem = Problem::new("", message, "`registers` is missing").rule(&MISSING_SETTING);
        problems
            .push(problem.help("a `profile` has them ready: `forebay nodes modbus` lists those"));
    }
    if only.is_some() {
        let label = "expected a `profile` beside it";
        problems.push(Problem::new(
            "only",
            "`only` takes a part of a profile, and there is none",
            label,
        ));
    }
    problems
}

/// Scale factors that are not in the list.
pub fn scale_factors(registers: &[RegisterSettings]) -> Vec<Problem> {
    let is_there = |name: &str| registers.iter().any(|register| register.name == name);
    let wanted = registers.iter().enumerate();
    let wanted =
        wanted.filter_map(|(index, register)| Some((index, register.scale_by.as_deref()?)));
    wanted
        .filter(|(_, name)| !is_there(name))
        .map(|(index, name)| {
            Problem::new(
                format!("{}.scale_by", path(index)),
                format!("there is no register `{name}`"),
                "expected the `name` of another register of this list",
            )
        })
        .collect()
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
