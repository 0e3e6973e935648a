//! Numbers taken off the front of bytes, as the files on disk have them: big-endian, one behind the other.

/// What is left of the bytes. Each method gives `None`, and takes nothing, where too few are left.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(
    /// The bytes that nobody has taken yet.
    pub &'a [u8],
);

impl Fields<'_> {
    /// The next `N` bytes.
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// Eight bytes, with a sign.
    pub fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_in_order_until_there_are_too_few_bytes() {
        let mut fields = Fields(&[0, 1, 0, 0, 0, 2, 255, 255, 255, 255, 255, 255, 255, 255, 7, 9]);
        assert_eq!((fields.u16(), fields.u32(), fields.i64()), (Some(1), Some(2), Some(-1)));
        assert_eq!((fields.u64(), fields.u32()), (None, None));
        assert_eq!((fields.take(), fields.0), (Some([7]), &[9][..]));
    }
}
