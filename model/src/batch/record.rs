//! One record as it lies in a batch.
//!
//! ```text
//! length (of what follows), attributes i8, timestamp delta, offset delta, key, value, count of headers, headers
//! ```
//! Numbers are variable-length; key, value and a header's parts are a length (-1 for null) and that many bytes.
//! Knows nothing of headers of batches nor of compression.

use std::ops::Range;

use bytes::Bytes;

use super::{BatchError, varint, varint::Cursor};
use crate::Offset;

/// How many headers one record may have. A header of two bytes on the wire takes some sixty in memory.
pub const MAX_RECORD_HEADERS: usize = 10_000;

/// A header of a record. The same key may come more than once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordHeader {
    /// Its name. What is not UTF-8 in a stored record is read with replacement characters, as Kafka's client does.
    pub key: String,
    /// Its value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

impl RecordHeader {
    /// Makes a header.
    pub fn new(key: impl Into<String>, value: Option<Bytes>) -> Self {
        Self { key: key.into(), value }
    }
}

/// One record. Its bytes share memory with the batch, or with what the batch was decompressed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970; -1 when the producer set none.
    pub timestamp_ms: i64,
    /// Its key; `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// Its value; `None` is Kafka's null, which deletes the key from a compacted topic.
    pub value: Option<Bytes>,
    /// Its headers in order.
    pub headers: Vec<RecordHeader>,
}

/// The most bytes that a record takes in a batch before compression, wherever in the batch it comes.
pub fn record_len_bound(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader]) -> usize {
    // Length, attributes, timestamp delta, offset delta.
    let fixed = 5 + 1 + 10 + 5;
    fixed + content_len(key, value, headers)
}

/// A record whose parts are known by their positions; nothing is copied or reserved for it.
#[derive(Debug)]
pub(super) struct RawRecord {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: u32,
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
    header_count: usize,
    headers_at: usize,
}

impl RawRecord {
    /// Reads the record at the cursor and checks that its parts fill it exactly.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, BatchError> {
        let length = cursor.count()?;
        let Some(rest) = cursor.remaining().checked_sub(length) else {
            return Err(BatchError::InvalidRecord("a record is larger than what is left"));
        };
        // No attribute of a record has a meaning yet.
        cursor.byte()?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = u32::try_from(cursor.varint()?)
            .map_err(|_| BatchError::InvalidRecord("an offset delta is negative"))?;
        let key = cursor.span()?;
        let value = cursor.span()?;
        let header_count = cursor.count()?;
        if header_count > MAX_RECORD_HEADERS {
            return Err(BatchError::InvalidRecord("a record has more than 10,000 headers"));
        }
        let headers_at = cursor.at();
        for _ in 0..header_count {
            if cursor.span()?.is_none() {
                return Err(BatchError::InvalidRecord("a header's key is null"));
            }
            cursor.span()?;
        }
        if cursor.remaining() != rest {
            return Err(BatchError::InvalidRecord("a record's parts do not fill its length"));
        }
        Ok(Self { timestamp_delta, offset_delta, key, value, header_count, headers_at })
    }

    /// Copies out the headers; `bytes` are those that the record was read from.
    pub(super) fn headers(&self, bytes: &Bytes) -> Result<Vec<RecordHeader>, BatchError> {
        // Reading has seen that there are so many.
        let mut headers = Vec::with_capacity(self.header_count);
        let mut cursor = Cursor::new(bytes, self.headers_at);
        for _ in 0..self.header_count {
            let key = cursor.span()?.unwrap_or_default();
            headers.push(RecordHeader {
                key: String::from_utf8_lossy(&bytes[key]).into_owned(),
                value: cursor.span()?.map(|range| bytes.slice(range)),
            });
        }
        Ok(headers)
    }
}

/// Appends a record.
pub(super) fn put(
    out: &mut Vec<u8>,
    (timestamp_delta, offset_delta): (i64, u32),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[RecordHeader],
) {
    let deltas = varint::len(timestamp_delta) + varint::len(i64::from(offset_delta));
    varint::put(out, (1 + deltas + content_len(key, value, headers)) as i64);
    out.push(0);
    varint::put(out, timestamp_delta);
    varint::put(out, i64::from(offset_delta));
    put_bytes(out, key);
    put_bytes(out, value);
    varint::put(out, headers.len() as i64);
    for header in headers {
        put_bytes(out, Some(header.key.as_bytes()));
        put_bytes(out, header.value.as_deref());
    }
}

/// The exact size of key, value and headers.
fn content_len(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader]) -> usize {
    let headers_len = headers
        .iter()
        .map(|header| bytes_len(Some(header.key.as_bytes())) + bytes_len(header.value.as_deref()))
        .sum::<usize>();
    bytes_len(key) + bytes_len(value) + varint::len(headers.len() as i64) + headers_len
}

fn bytes_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::len(bytes.len() as i64) + bytes.len())
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
