//! Registers that can be read and are hardly meant: warnings about the list as a whole.

use forebay_sdk::Problem;

use super::{
    kind::Kind,
    register::{RegisterSettings, path, table_setting},
};
use crate::{
    block::Table,
    decode::Form,
    reading::Field,
    rules::{ONE_BASED_ADDRESS, REGISTER_OVERLAP},
};

/// Manuals often number registers from 40001. When all registers of a table have such an
/// address, the first gets a warning; more would only repeat it. A device that has registers
/// below, too, really counts this far.
pub fn counted_from_one(registers: &[RegisterSettings], table: Table) -> Option<Problem> {
    let first = match table {
        Table::Holding => Some(40_001),
        Table::Input => Some(30_001),
        Table::Discrete => Some(10_001),
        Table::Coil => None,
    };
    // In a model, addresses count from its beginning.
    let outside = |(_, register): &(usize, &RegisterSettings)| register.sunspec.is_none();
    let addresses = registers.iter().enumerate().filter(outside).flat_map(|(index, register)| {
        register.places().map(move |(table, address)| (index, table, address))
    });
    let addresses: Vec<(usize, u16)> = addresses
        .filter(|(_, of, _)| *of == table)
        .map(|(index, _, address)| (index, address))
        .collect();
    if is_sun_spec(registers, &addresses) {
        return None;
    }
    let (index, address) = *addresses.first()?;
    let other = of_another_table(table, &addresses);
    if other.is_some() {
        return other;
    }
    let first = first?;
    if !are_numbers(&addresses, first) {
        return None;
    }
    let setting = table_setting(table);
    let looks = match addresses.len() - 1 {
        0 => "looks like a number".to_owned(),
        more => format!("and {more} more look like numbers"),
    };
    let message =
        format!("`{setting}: {address}` {looks} of the manual; addresses here start at 0");
    // No other address is offered: devices that count this far are too many.
    let label = format!("should it be one, write `register: {address}`");
    let note = format!("`register: {address}` is `{setting}: {}`", address - first);
    let help = "SunSpec, SMA and E3/DC do count this far: `# forebay: allow one-based-address \
                (SunSpec)` in the line above";
    let setting = format!("{}.{setting}", path(index));
    let problem = Problem::new(setting, message, label).rule(&ONE_BASED_ADDRESS);
    Some(problem.warning().note(note).help(help))
}

/// Whether all addresses look like numbers of a manual from `first` on. Lists of a manual begin near that; devices
/// by the million have their registers at 30775 (SMA), 32080, 35100 or 40083 (SunSpec, E3/DC), and mean it.
fn are_numbers(addresses: &[(usize, u16)], first: u16) -> bool {
    /// In front of what is measured, SunSpec and E3/DC have some sixty registers that say what they are.
    const NEAR: u16 = 50;
    /// As many as a meter has. What SMA measures begins behind it.
    const METER: u16 = 400;
    let mut all = addresses.iter().map(|(_, address)| *address);
    let (Some(least), Some(most)) = (all.clone().min(), all.clone().max()) else { return false };
    let has_so_many = all.all(|address| (first..=first + 9998).contains(&address));
    let begins_there = match first {
        40_001 => least < first + NEAR,
        30_001 => least < first + NEAR || most < first + METER,
        _ => least < first + 1000,
    };
    has_so_many && begins_there
}

/// Whether these are the registers of a SunSpec device, or of one that is laid out as such (E3/DC), on the wire from
/// 40000 on: its texts stand where theirs do, or its numbers have scale factors.
fn is_sun_spec(registers: &[RegisterSettings], addresses: &[(usize, u16)]) -> bool {
    addresses.iter().any(|(index, address)| {
        let register = &registers[*index];
        let is_text = register.kind == Some(Kind::String) && (40_003..=40_066).contains(address);
        is_text || register.scale_by.is_some()
    })
}

/// `input: 40001`: the number of a holding register.
fn of_another_table(table: Table, addresses: &[(usize, u16)]) -> Option<Problem> {
    const NUMBERED: [(Table, u16); 3] =
        [(Table::Holding, 40_001), (Table::Input, 30_001), (Table::Discrete, 10_001)];
    // Registers with five figures that begin with 1 are common.
    let is_likely = |other: Table| other != table && (table.holds_bits() || !other.holds_bits());
    let (other, first) = NUMBERED
        .into_iter()
        .find(|(other, first)| is_likely(*other) && are_numbers(addresses, *first))?;
    let (index, address) = *addresses.first()?;
    let (setting, right) = (table_setting(table), table_setting(other));
    let article = if other == Table::Input { "an" } else { "a" };
    let message =
        format!("`{setting}: {address}` looks like the number of {article} {}", other.noun());
    let label = format!("should it be one, write `register: {address}`");
    let note =
        format!("`register: {address}` is `{right}: {}`; addresses start at 0", address - first);
    let help = "some devices do count this far: `# forebay: allow one-based-address (why)` in the line above";
    let setting = format!("{}.{setting}", path(index));
    let problem = Problem::new(setting, message, label).rule(&ONE_BASED_ADDRESS);
    Some(problem.warning().note(note).help(help))
}

/// Values that share registers: mostly an address that was copied, or a kind that is too wide.
pub fn overlaps(fields: &[(usize, Field)]) -> Vec<Problem> {
    // A word of flags is read as a number, and bit by bit.
    let is_part = |field: &Field| match &field.form {
        Some(Form::Bit { .. } | Form::Flags { .. }) => true,
        Some(Form::Number { kind, .. }) => kind.width < u32::from(kind.registers) * 16,
        _ => false,
    };
    let mut by_address: Vec<_> = fields.iter().filter(|(_, field)| !is_part(field)).collect();
    by_address.sort_by_key(|(index, field)| (&field.models, field.block, *index));
    let mut problems: Vec<(usize, Problem)> = Vec::new();
    // The one that reaches furthest so far.
    let mut last: Option<(usize, &Field)> = None;
    for (index, field) in by_address {
        if let Some((other_index, other)) = last
            && other.models == field.models
            && other.block.overlaps(field.block)
        {
            problems.extend(overlap((other_index, other), (*index, field)));
        }
        let reaches = |field: &Field| (field.models.clone(), field.block.table, field.block.end());
        if last.is_none_or(|(_, last)| reaches(field) >= reaches(last)) {
            last = Some((*index, field));
        }
    }
    problems.sort_by_key(|(index, _)| *index);
    problems.into_iter().map(|(_, problem)| problem).collect()
}

/// Two registers that share some, with the index of each. None when that may be meant: one number
/// scaled in two ways.
fn overlap(
    (first_index, first): (usize, &Field),
    (second_index, second): (usize, &Field),
) -> Option<(usize, Problem)> {
    let is_same = first.block == second.block;
    if is_same && (&first.form, &first.refine) != (&second.form, &second.refine) {
        return None;
    }
    // The one further down is at fault: it was copied, or added.
    let ((index, field), (other_index, other)) = if first_index < second_index {
        ((second_index, second), (first_index, first))
    } else {
        ((first_index, first), (second_index, second))
    };
    let message = if is_same {
        format!("`{}` and `{}` are the same {}", other.name, field.name, field.block)
    } else {
        format!("`{}` and `{}` share registers", other.name, field.name)
    };
    let label = if is_same {
        "another address, or one of the two is too many".to_owned()
    } else if field.block.start > other.block.start {
        // The other ends inside, or reaches into, this one.
        format!("expected {} or more", other.block.end())
    } else {
        format!("fills {}", field.block)
    };
    let table = table_setting(field.block.table);
    let problem = Problem::new(format!("{}.{table}", path(index)), message, label)
        .rule(&REGISTER_OVERLAP)
        .warning()
        .also(format!("{}.{table}", path(other_index)), format!("fills {}", other.block));
    Some((index, problem))
}
