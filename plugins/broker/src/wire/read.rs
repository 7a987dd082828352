//! The pieces that packets are made of.

use super::packet::Refusal;

/// Bytes that are read from the front.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let cut = || Refusal::malformed("it sent a packet that ends in the middle of a field");
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?[0])
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, Refusal> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Refusal::protocol(format!("it sent {other} where 0 or 1 belongs"))),
        }
    }

    pub fn two_bytes(&mut self) -> Result<u16, Refusal> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub fn four_bytes(&mut self) -> Result<u32, Refusal> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A number in seven bits a byte (MQTT 5 section 1.5.5).
    pub fn variable(&mut self) -> Result<u32, Refusal> {
        let mut value = 0;
        for index in 0..LONGEST_VARIABLE {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return match byte == 0 && index > 0 {
                    true => Err(Refusal::malformed("it sent a number in more bytes than it needs")),
                    false => Ok(value),
                };
            }
        }
        Err(Refusal::malformed("it sent a length of more than four bytes"))
    }

    pub fn binary(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.two_bytes()?;
        self.take(length.into())
    }

    /// A text (MQTT 5 section 1.5.4).
    pub fn text(&mut self) -> Result<&'a str, Refusal> {
        let bytes = self.binary()?;
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(text),
            Ok(_) => Err(Refusal::malformed("it sent a text with a null character")),
            Err(_) => Err(Refusal::malformed("it sent a text that is not UTF-8")),
        }
    }

    /// A packet id, which is never 0.
    pub fn packet_id(&mut self) -> Result<u16, Refusal> {
        match self.two_bytes()? {
            0 => Err(Refusal::protocol("it sent the packet id 0")),
            id => Ok(id),
        }
    }
}

/// The most bytes of a number in seven bits a byte.
pub const LONGEST_VARIABLE: usize = 4;
