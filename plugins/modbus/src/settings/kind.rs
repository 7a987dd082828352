//! What registers hold, in the words of users.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::decode::{Clock, NumberKind, Sort};

/// What registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A whole number from 0 to 255, in one `byte` of a register.
    U8,
    /// A whole number from -128 to 127, in one `byte` of a register.
    I8,
    /// A whole number from 0 to 65535, in one register.
    U16,
    /// A whole number from -32768 to 32767, in one register.
    I16,
    /// A whole number from 0 on, in two registers.
    U32,
    /// A whole number with a sign, in two registers.
    I32,
    /// A whole number from 0 on, in three registers.
    U48,
    /// A whole number with a sign, in three registers.
    I48,
    /// A whole number from 0 on, in four registers.
    U64,
    /// A whole number with a sign, in four registers.
    I64,
    /// A floating-point number (IEEE 754), in one register.
    F16,
    /// A floating-point number (IEEE 754), in two registers.
    F32,
    /// A floating-point number (IEEE 754), in four registers.
    F64,
    /// A whole number whose highest bit is the sign, in one register.
    Sm16,
    /// A whole number whose highest bit is the sign, in two registers.
    Sm32,
    /// Four decimal digits (BCD), in one register.
    Bcd16,
    /// Eight decimal digits (BCD), in two registers.
    Bcd32,
    /// Sixteen decimal digits (BCD), in four registers.
    Bcd64,
    /// Seconds since 1970 in two registers, sent as `2026-11-21T09:14:02.000Z`.
    UnixTime,
    /// A moment in four registers (IEC 60870-5-4, as Schneider's meters have it), sent as
    /// `2026-11-21T09:14:02.000`, in the meter's own time zone.
    PackedTime,
    /// `true` or `false`: a coil, a discrete input, or one `bit` of a register.
    Bool,
    /// Text, two characters in each register.
    String,
    /// Bytes, sent in hexadecimal.
    Bytes,
}

/// Which sort of value a kind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    Number(NumberKind),
    Time(Clock),
    Bool,
    Text,
    Bytes,
}

impl Kind {
    pub fn nature(self) -> Nature {
        use Sort::{Bcd, Float, SignMagnitude, Signed, Unsigned};
        let byte = |sort| NumberKind { registers: 1, width: 8, shift: 0, sort };
        Nature::Number(match self {
            Kind::U8 => byte(Unsigned),
            Kind::I8 => byte(Signed),
            Kind::U16 => NumberKind::whole(1, Unsigned),
            Kind::I16 => NumberKind::whole(1, Signed),
            Kind::U32 => NumberKind::whole(2, Unsigned),
            Kind::I32 => NumberKind::whole(2, Signed),
            Kind::U48 => NumberKind::whole(3, Unsigned),
            Kind::I48 => NumberKind::whole(3, Signed),
            Kind::U64 => NumberKind::whole(4, Unsigned),
            Kind::I64 => NumberKind::whole(4, Signed),
            Kind::F16 => NumberKind::whole(1, Float),
            Kind::F32 => NumberKind::whole(2, Float),
            Kind::F64 => NumberKind::whole(4, Float),
            Kind::Sm16 => NumberKind::whole(1, SignMagnitude),
            Kind::Sm32 => NumberKind::whole(2, SignMagnitude),
            Kind::Bcd16 => NumberKind::whole(1, Bcd),
            Kind::Bcd32 => NumberKind::whole(2, Bcd),
            Kind::Bcd64 => NumberKind::whole(4, Bcd),
            Kind::UnixTime => return Nature::Time(Clock::UnixSeconds),
            Kind::PackedTime => return Nature::Time(Clock::Packed),
            Kind::Bool => return Nature::Bool,
            Kind::String => return Nature::Text,
            Kind::Bytes => return Nature::Bytes,
        })
    }
}
