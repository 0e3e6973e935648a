//! Kafka's variable-length integers: zigzag, seven bits a byte, the lowest first.
//!
//! Knows nothing of what the numbers mean.

use super::BatchError;

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] appends.
pub(super) const fn len(value: i64) -> usize {
    let bits = 64 - zigzag(value).leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Reads numbers and spans from bytes that may hold anything.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Begins at position `at`, which lies within `bytes` or at their end.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        assert!(at <= bytes.len(), "a cursor begins within its bytes");
        Self { bytes, at }
    }

    /// Where the next read begins.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub(super) const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, BatchError> {
        let byte =
            *self.bytes.get(self.at).ok_or(BatchError::InvalidRecord("the bytes end within a record"))?;
        self.at += 1;
        Ok(byte)
    }

    /// A number of up to 64 bits.
    pub(super) fn varlong(&mut self) -> Result<i64, BatchError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(BatchError::InvalidRecord("a number does not end within its size"))
    }

    /// A number of up to 32 bits.
    pub(super) fn varint(&mut self) -> Result<i32, BatchError> {
        let value = self.varlong()?;
        i32::try_from(value).map_err(|_| BatchError::InvalidRecord("a number does not fit 32 bits"))
    }

    /// A number that counts something.
    pub(super) fn count(&mut self) -> Result<usize, BatchError> {
        usize::try_from(self.varint()?).map_err(|_| BatchError::InvalidRecord("a count is negative"))
    }

    /// A length and that many bytes, given by their positions; `None` for the length -1.
    pub(super) fn span(&mut self) -> Result<Option<std::ops::Range<usize>>, BatchError> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length =
            usize::try_from(length).map_err(|_| BatchError::InvalidRecord("a length is negative"))?;
        if length > self.remaining() {
            return Err(BatchError::InvalidRecord("a length is larger than what is left"));
        }
        let start = self.at;
        self.at += length;
        Ok(Some(start..self.at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<(i64, usize), BatchError> {
        let mut cursor = Cursor::new(bytes, 0);
        cursor.varlong().map(|value| (value, cursor.remaining()))
    }

    #[test]
    fn numbers_have_kafkas_bytes() {
        // From the format's definition: 0, -1, 1, -2 … are counted up, seven bits a byte.
        let known: [(i64, &[u8]); 8] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in known {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn numbers_without_end_or_too_large_are_refused() {
        assert!(read(&[]).is_err());
        assert!(read(&[0x80]).is_err());
        assert!(read(&[0xff; 9]).is_err());
        assert!(read(&[0x80; 11]).is_err());
        // The tenth byte has room for one bit.
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).is_err());
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok((i64::MIN, 0)));
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f], 0).varint().is_err());
    }

    #[test]
    fn spans_lie_within_the_bytes() {
        let span = |bytes: &[u8]| Cursor::new(bytes, 0).span();
        assert_eq!(span(&[4, 7, 7]), Ok(Some(1..3)));
        assert_eq!(span(&[0]), Ok(Some(1..1)));
        assert_eq!(span(&[1]), Ok(None));
        assert!(span(&[6, 7, 7]).is_err());
        assert!(span(&[3, 7, 7]).is_err());
    }

    proptest! {
        #![proptest_config(crate::testing::same_every_run())]

        #[test]
        fn numbers_read_back(value: i64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            prop_assert_eq!(read(&out), Ok((value, 0)));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let mut cursor = Cursor::new(&bytes, 0);
            while cursor.span().is_ok() && cursor.varint().is_ok() {}
        }
    }
}
