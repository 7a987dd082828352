//! A serial line, and how long requests take on it.

use std::{path::Path, time::Duration};

use forebay_sdk::world::{self, Parity};

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

impl SerialLine {
    /// Reads `baud=9600&parity=even&stop=1`; says what would be right when it cannot. Parity is
    /// `none` and there is one stop bit unless given, as most devices leave the factory.
    pub fn parse(query: &str) -> Result<SerialLine, String> {
        let mut line = SerialLine { baud: 0, parity: Parity::None, stop_bits: 1 };
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
                _ => return Err(EXPECTED.to_owned()),
            }
        }
        match line.baud {
            0 => Err(EXPECTED.to_owned()),
            _ => Ok(line),
        }
    }

    /// From the silence in front of the request to the end of its answer, at least.
    pub fn time_of(self, request: Block) -> Duration {
        let values = request.value_bytes() as u32;
        self.bytes(REQUEST_BYTES + ANSWER_BYTES + values) + self.silence() * 2 + TURN_AROUND
    }

    /// This line, at a device of this machine.
    pub fn of(self, device: &Path) -> world::SerialLine {
        let SerialLine { baud, parity, stop_bits } = self;
        let device = device.to_owned();
        world::SerialLine { device, baud, parity, data_bits: 8, stop_bits }
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
        // 263 bytes, and the silence no shorter than the standard's.
        assert_eq!(micros("baud=115200", Table::Holding, 125), 22_829 + 3_500);
    }
}
