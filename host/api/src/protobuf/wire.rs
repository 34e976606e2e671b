//! Protobuf's wire format: field numbers, variable-length integers, lengths. Pure, and safe on any input.

use super::Problem;

/// A field's value as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Integer(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// Walks the fields of a message.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

const SHORT: Problem = Problem::Malformed("it ends within a field");

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field's number and value; none at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u64, Wire<'a>)>, Problem> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.integer()?;
        let value = match key & 7 {
            0 => Wire::Integer(self.integer()?),
            1 => {
                let bytes = self.take(8)?;
                Wire::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| SHORT)?))
            }
            2 => {
                let length = usize::try_from(self.integer()?).map_err(|_| SHORT)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(Problem::Malformed("it has an unknown wire type")),
        };
        Ok(Some((key >> 3, value)))
    }

    /// The next of packed integers; none at the end.
    pub(super) fn packed_integer(&mut self) -> Result<Option<i64>, Problem> {
        if self.0.is_empty() {
            Ok(None)
        } else {
            Ok(Some(self.integer()?.cast_signed()))
        }
    }

    fn integer(&mut self) -> Result<u64, Problem> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(SHORT)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Problem::Malformed("an integer is too long"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<String, Problem> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Problem::Malformed("a text is not UTF-8"))
}
