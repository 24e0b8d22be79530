//! Pure: the part of the protobuf wire format that pprof files need. Reading never trusts a length and never panics.

use thiserror::Error;

/// Why bytes are not a protobuf message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("the data ends in the middle of a field: the file is cut off")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a number has more than 64 bits")]
    Number,
    /// A field of a kind that pprof does not use.
    #[error("field kind {0} is not used in pprof files")]
    Kind(u8),
}

/// What a field holds. Fixed-width fields, which pprof does not use, are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number; signed ones are in two's complement.
    Number(u64),
    /// A text, a message or packed numbers.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number, 0 for bytes: as a reader treats a field of the wrong kind that it need not understand.
    pub fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }

    /// The bytes, none for a number.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }

    /// Numbers of a repeated field, packed or not, put behind those already there.
    pub fn numbers(self, into: &mut Vec<u64>) -> Result<(), WireError> {
        match self {
            Self::Number(number) => into.push(number),
            Self::Bytes(mut rest) => {
                while !rest.is_empty() {
                    into.push(varint(&mut rest)?);
                }
            }
        }
        Ok(())
    }
}

/// Fields of one message, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        while !self.rest.is_empty() {
            let key = varint(&mut self.rest)?;
            let field = key >> 3;
            match (key & 7) as u8 {
                0 => return Ok(Some((field, Value::Number(varint(&mut self.rest)?)))),
                1 => drop(take(&mut self.rest, 8)?),
                2 => {
                    let length = varint(&mut self.rest)?;
                    return Ok(Some((field, Value::Bytes(take(&mut self.rest, length)?))));
                }
                5 => drop(take(&mut self.rest, 4)?),
                kind => return Err(WireError::Kind(kind)),
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.read();
        if field.is_err() {
            // One error ends the message.
            self.rest = &[];
        }
        field.transpose()
    }
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], WireError> {
    let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
    let (head, tail) = rest.split_at_checked(length).ok_or(WireError::Truncated)?;
    *rest = tail;
    Ok(head)
}

fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(WireError::Truncated)?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(WireError::Number)
}

/// Writes a number field; 0 is what an absent field means and is left out.
pub fn put_number(message: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_varint(message, field << 3);
        put_varint(message, number);
    }
}

/// Writes a text or message field.
pub fn put_bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(message, field << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

/// Writes packed numbers.
pub fn put_numbers(message: &mut Vec<u8>, field: u64, numbers: impl Iterator<Item = u64>) {
    let mut packed = Vec::new();
    for number in numbers {
        put_varint(&mut packed, number);
    }
    put_bytes(message, field, &packed);
}

fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unknown_widths_are_passed_over_and_unknown_kinds_refused() {
        let mut message = vec![1 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 2 << 3 | 5, 0, 0, 0, 0];
        put_number(&mut message, 3, 300);
        let all: Result<Vec<_>, _> = Fields::of(&message).collect();
        assert_eq!(all.unwrap(), [(3, Value::Number(300))]);
        assert_eq!(
            Fields::of(&[3]).collect::<Vec<_>>(),
            [Err(WireError::Kind(3))]
        );
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for cut in [&[0x0a, 5, 1][..], &[0x0a, 0xff], &[0x0a], &[0x08]] {
            let all: Result<Vec<_>, _> = Fields::of(cut).collect();
            assert_eq!(all, Err(WireError::Truncated), "{cut:?}");
        }
        let long = [&[8][..], &[0xff; 11]].concat();
        assert_eq!(
            Fields::of(&long).next().unwrap().unwrap_err(),
            WireError::Number
        );
    }

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop::collection::vec(any::<u64>(), 0..40)) {
            let mut message = Vec::new();
            put_numbers(&mut message, 7, numbers.iter().copied());
            let (field, value) = Fields::of(&message).next().unwrap().unwrap();
            let mut back = Vec::new();
            value.numbers(&mut back).unwrap();
            prop_assert_eq!((field, back), (7, numbers));
        }

        #[test]
        fn any_bytes_end_in_fields_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
        }
    }
}
