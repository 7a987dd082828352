//! The numbers of manuals, which count from 1 and put the table in front. Pure.

use crate::block::Table;

/// The table and the address in it, from 0. None when no table has such a number.
pub fn of_manual(number: u32) -> Option<(Table, u16)> {
    let tables = [
        (1, 9_999, Table::Coil),
        (10_001, 19_999, Table::Discrete),
        (30_001, 39_999, Table::Input),
        (40_001, 49_999, Table::Holding),
        (100_001, 165_536, Table::Discrete),
        (300_001, 365_536, Table::Input),
        (400_001, 465_536, Table::Holding),
    ];
    let table = tables.into_iter().find(|(first, last, _)| (*first..=*last).contains(&number));
    table.and_then(|(first, _, table)| Some((table, u16::try_from(number - first).ok()?)))
}

/// Whether an address from 0 could be meant as a number of a manual, whose lists begin at 30001 and 40001, and with
/// 10001 those of single bits.
pub fn looks_like_number(table: Table, address: u16) -> bool {
    let is_near = |first| (first..first + 1000).contains(&address);
    if table.holds_bits() { is_near(10_001) } else { is_near(30_001) || is_near(40_001) }
}

/// How manuals number a register of a table: `30053`, and `410001` beyond the ten thousandth.
pub fn in_manuals(table: Table, address: u16) -> String {
    let first = match table {
        Table::Coil => 0,
        Table::Discrete => 1,
        Table::Input => 3,
        Table::Holding => 4,
    };
    let number = u32::from(address) + 1;
    match number {
        ..10_000 => format!("{first}{number:04}"),
        _ => format!("{first}{number:05}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_has_the_number_that_leads_to_it() {
        for table in [Table::Coil, Table::Discrete, Table::Input, Table::Holding] {
            for address in [0, 52, 9_997, 9_998, 9_999, 10_000, 65_535] {
                let number = in_manuals(table, address);
                let found = of_manual(number.parse().unwrap());
                // Coils beyond have no numbers of their own.
                if table != Table::Coil || address < 9_999 {
                    assert_eq!(found, Some((table, address)), "{number}");
                }
            }
        }
        assert_eq!(in_manuals(Table::Holding, 52), "40053");
        assert_eq!(in_manuals(Table::Coil, 0), "00001");
    }

    #[test]
    fn the_numbers_of_manuals_are_read_as_manuals_mean_them() {
        for (number, place) in [
            (1, Some((Table::Coil, 0))),
            (9999, Some((Table::Coil, 9998))),
            (10_001, Some((Table::Discrete, 0))),
            (30_053, Some((Table::Input, 52))),
            (40_108, Some((Table::Holding, 107))),
            (49_999, Some((Table::Holding, 9998))),
            (100_001, Some((Table::Discrete, 0))),
            (365_536, Some((Table::Input, 65_535))),
            (400_053, Some((Table::Holding, 52))),
            (465_536, Some((Table::Holding, 65_535))),
            (0, None),
            (10_000, None),
            (20_001, None),
            (50_000, None),
            (465_537, None),
        ] {
            assert_eq!(of_manual(number), place, "{number}");
        }
    }
}
