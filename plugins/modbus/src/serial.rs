//! A serial line, and how long requests take on it.

use std::{path::Path, time::Duration};

use forebay_sdk::{
    Period,
    world::{self, Parity, Rs485, Rts},
};

use crate::block::Block;

/// A serial line (Modbus RTU). Of one behind a gateway we know what its user tells us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialLine {
    /// Bits per second.
    pub baud: u32,
    /// Between 8 data bits and the stop bits.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// How the driver switches between sending and hearing, where that is not the adapter's to do.
    pub rs485: Option<Rs485>,
}

/// Few devices begin to answer sooner.
pub const TURN_AROUND: Duration = Duration::from_millis(5);
/// Unit, function, address, count and checksum.
const REQUEST_BYTES: u32 = 8;
/// Unit, function, length and checksum, around the values.
const ANSWER_BYTES: u32 = 5;
/// Above this rate the standard has a fixed silence between frames.
const FASTEST_WITH_OWN_SILENCE: u32 = 19_200;
const SHORTEST_SILENCE: Duration = Duration::from_micros(1750);

const EXPECTED: &str = "expected such as `?baud=9600&parity=even&stop=1` behind the address";
/// Drivers take no more.
const LONGEST_TURN: Duration = Duration::from_millis(100);

impl SerialLine {
    /// Reads `baud=9600&parity=even&stop=1`; says what would be right when it cannot. Parity is
    /// `none` and there is one stop bit unless given, as most devices leave the factory.
    pub fn parse(query: &str) -> Result<SerialLine, String> {
        let mut line = SerialLine { baud: 0, parity: Parity::None, stop_bits: 1, rs485: None };
        let (mut rts, mut before, mut after) = (None, None, None);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').ok_or(EXPECTED)?;
            match name {
                "baud" => {
                    let baud = value.parse().ok().filter(|baud| (300..=921_600).contains(baud));
                    line.baud = baud.ok_or("expected `baud` from 300 to 921600")?;
                }
                "parity" => {
                    line.parity = match value {
                        "none" | "N" => Parity::None,
                        "even" | "E" => Parity::Even,
                        "odd" | "O" => Parity::Odd,
                        _ => return Err("expected `parity` none, even or odd".to_owned()),
                    }
                }
                "stop" => {
                    line.stop_bits = match value {
                        "1" => 1,
                        "2" => 2,
                        _ => return Err("expected `stop` 1 or 2".to_owned()),
                    }
                }
                "rts" => {
                    rts = match value {
                        "high" => Some(Rts::High),
                        "low" => Some(Rts::Low),
                        _ => {
                            return Err("expected `rts` high or low, as it is while sending".into());
                        }
                    }
                }
                "rts_before" => before = Some(turn(name, value)?),
                "rts_after" => after = Some(turn(name, value)?),
                _ => return Err(EXPECTED.to_owned()),
            }
        }
        line.rs485 = match (rts, before.or(after)) {
            (Some(sends), _) => {
                let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
                Some(Rs485 { sends, before, after })
            }
            (None, Some(_)) => return Err("expected `rts=high` or `rts=low` beside it".to_owned()),
            (None, None) => None,
        };
        match line.baud {
            0 => Err(EXPECTED.to_owned()),
            _ => Ok(line),
        }
    }

    /// From the silence in front of the request to the end of its answer, at least.
    pub fn time_of(self, request: Block) -> Duration {
        let values = request.value_bytes() as u32;
        let turns = self.rs485.map(|Rs485 { before, after, .. }| before + after);
        self.bytes(REQUEST_BYTES + ANSWER_BYTES + values)
            + self.silence() * 2
            + TURN_AROUND
            + turns.unwrap_or_default()
    }

    /// This line, at a device of this machine.
    pub fn of(self, device: &Path) -> world::SerialLine {
        let SerialLine { baud, parity, stop_bits, rs485 } = self;
        let device = device.to_owned();
        world::SerialLine { device, baud, parity, data_bits: 8, stop_bits, rs485 }
    }

    /// How long so many bytes take.
    pub fn bytes(self, bytes: u32) -> Duration {
        let parity_bits = u32::from(self.parity != Parity::None);
        let bits = bytes * (9 + parity_bits + u32::from(self.stop_bits));
        Duration::from_nanos((u64::from(bits) * 1_000_000_000).div_ceil(self.baud.into()))
    }

    /// Of three and a half bytes, which tells frames apart.
    pub fn silence(self) -> Duration {
        if self.baud > FASTEST_WITH_OWN_SILENCE { SHORTEST_SILENCE } else { self.bytes(7) / 2 }
    }

    /// As the manual of a device has it: `9600 baud 8N1`.
    pub fn words(self) -> String {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        format!("{} baud 8{parity}{}", self.baud, self.stop_bits)
    }
}

/// A time that drivers take, which count in milliseconds.
fn turn(name: &str, value: &str) -> Result<Duration, String> {
    let period = Period::parse(value).ok().filter(|period| **period <= LONGEST_TURN);
    let whole = period.filter(|period| period.subsec_nanos() % 1_000_000 == 0);
    whole.map(|period| *period).ok_or_else(|| format!("expected `{name}` from 0ms to 100ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Table;

    fn line(query: &str) -> SerialLine {
        SerialLine::parse(query).unwrap()
    }

    #[test]
    fn a_line_reads_as_users_write_it() {
        assert_eq!(line("baud=9600").words(), "9600 baud 8N1");
        assert_eq!(line("baud=19200&parity=even").words(), "19200 baud 8E1");
        assert_eq!(line("stop=2&parity=O&baud=1200").words(), "1200 baud 8O2");
        for query in ["", "baud", "parity=even", "bauds=9600", "baud=9600&"] {
            assert_eq!(SerialLine::parse(query), Err(EXPECTED.to_owned()), "{query}");
        }
        let baud = Err("expected `baud` from 300 to 921600".to_owned());
        assert_eq!(SerialLine::parse("baud=9600k"), baud);
        assert_eq!(SerialLine::parse("baud=0"), baud);
        assert!(SerialLine::parse("baud=9600&parity=n").unwrap_err().contains("none, even or odd"));
        assert!(SerialLine::parse("baud=9600&stop=0").unwrap_err().contains("1 or 2"));
    }

    #[test]
    fn the_direction_of_a_line_is_told_where_the_driver_switches_it() {
        let rs485 = |query: &str| line(&format!("baud=9600&{query}")).rs485;
        let [none, one, two] = [0, 1, 2].map(Duration::from_millis);
        let high = Some(Rs485 { sends: Rts::High, before: none, after: none });
        assert_eq!(rs485("rts=high"), high);
        let low = Some(Rs485 { sends: Rts::Low, before: one, after: two });
        assert_eq!(rs485("rts_before=1ms&rts_after=2ms&rts=low"), low);
        for (query, says) in [
            ("rts=on", "`rts` high or low"),
            ("rts_before=1ms", "`rts=high` or `rts=low` beside it"),
            ("rts=high&rts_after=1", "`rts_after` from 0ms to 100ms"),
            ("rts=high&rts_after=101ms", "`rts_after` from 0ms to 100ms"),
        ] {
            let error = SerialLine::parse(&format!("baud=9600&{query}")).unwrap_err();
            assert!(error.contains(says), "{query}: {error}");
        }
    }

    #[test]
    fn requests_take_what_the_standard_says() {
        let micros = |query: &str, table, count| {
            let block = Block { table, start: 0, count };
            (line(query).time_of(block) - TURN_AROUND).as_micros()
        };
        // 8 + 9 bytes and twice 3.5 of silence: 24 bytes of 10 bits.
        assert_eq!(micros("baud=9600", Table::Input, 2), 25_000);
        // The same with 11 bits.
        assert_eq!(micros("baud=9600&parity=even", Table::Input, 2), 27_500);
        assert_eq!(micros("baud=9600&stop=2", Table::Input, 2), 27_500);
        // 9 coils fill two bytes: 15 bytes and the silence.
        assert_eq!(micros("baud=1000", Table::Coil, 9), 220_000);
        // With the time for the transceiver to turn.
        let turning = "baud=9600&rts=high&rts_before=2ms&rts_after=3ms";
        assert_eq!(micros(turning, Table::Input, 2), 30_000);
        // 263 bytes, and the silence no shorter than the standard's.
        assert_eq!(micros("baud=115200", Table::Holding, 125), 22_829 + 3_500);
    }
}
