//! Records in plain form as they came over the wire: kept as bytes, taken apart one at a time.
//!
//! An empty record takes two bytes on the wire and more than a hundred as a message in memory, so a list of messages would
//! let one request take fifty times its size before anything is checked. Knows nothing of batches.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};
use vltava_model::batch::MAX_RECORD_HEADERS;

use crate::v1::Record;

/// The fields' numbers in `PlainRecords`.
const RECORDS: u32 = 1;
const COMPRESSION: u32 = 2;
const PRODUCER_ID: u32 = 3;
const PRODUCER_EPOCH: u32 = 4;
const BASE_SEQUENCE: u32 = 5;

/// The number of `headers` in `Record`.
const HEADERS: u32 = 3;

/// Why a record can't be taken out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlainError {
    /// Its bytes are no record.
    #[error("a record can't be read: {0}")]
    Malformed(#[from] DecodeError),
    /// It has too many headers, each of which may take far more memory than bytes.
    #[error("a record has more than {MAX_RECORD_HEADERS} headers")]
    Headers,
}

/// Records in plain form, from which the server makes a batch: the message `PlainRecords`. Collect records to make one.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PlainRecords {
    /// Each record behind its length, as on the wire without the field's number.
    encoded: Vec<u8>,
    count: usize,
    /// How the server compresses the batch.
    pub compression: i32,
    /// The producer's id from `InitProducer`; `None` for a producer without idempotence.
    pub producer_id: Option<u64>,
    /// The producer's epoch from `InitProducer`.
    pub producer_epoch: u32,
    /// The number of the first record.
    pub base_sequence: u32,
}

impl PlainRecords {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes the records take.
    pub fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// The records in order, each read when it is asked for. After an error the next one can be read all the same.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, PlainError>> + '_ {
        self.slices().map(|slice| {
            if count_headers(slice)? > MAX_RECORD_HEADERS {
                return Err(PlainError::Headers);
            }
            Ok(Record::decode(slice)?)
        })
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.encoded[..];
        std::iter::from_fn(move || {
            // Nothing else was ever put in than whole records behind their lengths.
            let length = usize::try_from(encoding::decode_varint(&mut rest).ok()?).ok()?;
            let (slice, behind) = rest.split_at_checked(length)?;
            rest = behind;
            Some(slice)
        })
    }

    fn push(&mut self, record: &[u8]) {
        encoding::encode_varint(record.len() as u64, &mut self.encoded);
        self.encoded.extend_from_slice(record);
        self.count += 1;
    }
}

/// Without making anything of them.
fn count_headers(mut record: &[u8]) -> Result<usize, DecodeError> {
    let mut count = 0;
    while record.has_remaining() {
        let (tag, wire_type) = encoding::decode_key(&mut record)?;
        count += usize::from(tag == HEADERS);
        encoding::skip_field(wire_type, tag, &mut record, DecodeContext::default())?;
    }
    Ok(count)
}

impl FromIterator<Record> for PlainRecords {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut plain = Self::default();
        for record in records {
            plain.push(&record.encode_to_vec());
        }
        plain
    }
}

impl Message for PlainRecords {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        for slice in self.slices() {
            encoding::encode_key(RECORDS, WireType::LengthDelimited, buf);
            encoding::encode_varint(slice.len() as u64, buf);
            buf.put_slice(slice);
        }
        if self.compression != 0 {
            encoding::int32::encode(COMPRESSION, &self.compression, buf);
        }
        if let Some(id) = &self.producer_id {
            encoding::uint64::encode(PRODUCER_ID, id, buf);
        }
        if self.producer_epoch != 0 {
            encoding::uint32::encode(PRODUCER_EPOCH, &self.producer_epoch, buf);
        }
        if self.base_sequence != 0 {
            encoding::uint32::encode(BASE_SEQUENCE, &self.base_sequence, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            RECORDS => {
                if self.encoded.is_empty() {
                    // No more can come: with the message's own bytes that is twice its size.
                    self.encoded.reserve_exact(buf.remaining());
                }
                let mut record = Bytes::new();
                encoding::bytes::merge(wire_type, &mut record, buf, ctx)?;
                self.push(&record);
                Ok(())
            }
            COMPRESSION => encoding::int32::merge(wire_type, &mut self.compression, buf, ctx),
            PRODUCER_ID => {
                encoding::uint64::merge(wire_type, self.producer_id.get_or_insert_default(), buf, ctx)
            }
            PRODUCER_EPOCH => encoding::uint32::merge(wire_type, &mut self.producer_epoch, buf, ctx),
            BASE_SEQUENCE => encoding::uint32::merge(wire_type, &mut self.base_sequence, buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        // Each record has its field's number in front, which takes one byte.
        let mut length = self.encoded.len() + self.count;
        if self.compression != 0 {
            length += encoding::int32::encoded_len(COMPRESSION, &self.compression);
        }
        if let Some(id) = &self.producer_id {
            length += encoding::uint64::encoded_len(PRODUCER_ID, id);
        }
        if self.producer_epoch != 0 {
            length += encoding::uint32::encoded_len(PRODUCER_EPOCH, &self.producer_epoch);
        }
        if self.base_sequence != 0 {
            length += encoding::uint32::encoded_len(BASE_SEQUENCE, &self.base_sequence);
        }
        length
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Header, ProduceRequest, produce_request};

    /// What would be generated for the message.
    #[derive(Clone, PartialEq, Message)]
    struct Generated {
        #[prost(message, repeated, tag = "1")]
        records: Vec<Record>,
        #[prost(int32, tag = "2")]
        compression: i32,
        #[prost(uint64, optional, tag = "3")]
        producer_id: Option<u64>,
        #[prost(uint32, tag = "4")]
        producer_epoch: u32,
        #[prost(uint32, tag = "5")]
        base_sequence: u32,
    }

    fn records() -> Vec<Record> {
        let header = Header { key: "h".into(), value: Some("v".into()) };
        let full = Record {
            key: Some("key".into()),
            value: Some(vec![7; 300].into()),
            headers: vec![header.clone(), header],
            timestamp_ms: Some(-1),
            offset: 9,
        };
        vec![Record::default(), full, Record { value: Some(Bytes::new()), ..Record::default() }]
    }

    #[test]
    fn it_is_on_the_wire_what_would_be_generated() {
        for (compression, producer_id, producer_epoch, base_sequence) in
            [(0, None, 0, 0), (4, Some(0), 7, 1), (-1, Some(u64::MAX), u32::MAX, u32::MAX)]
        {
            let records = records();
            let generated = Generated {
                records: records.clone(),
                compression,
                producer_id,
                producer_epoch,
                base_sequence,
            };
            let mut plain: PlainRecords = records.iter().cloned().collect();
            (plain.compression, plain.producer_id) = (compression, producer_id);
            (plain.producer_epoch, plain.base_sequence) = (producer_epoch, base_sequence);
            let wire = generated.encode_to_vec();
            assert_eq!(plain.encode_to_vec(), wire);
            assert_eq!(plain.encoded_len(), wire.len());
            assert_eq!(PlainRecords::decode(&wire[..]).as_ref(), Ok(&plain));
            assert_eq!(plain.records().collect::<Result<Vec<_>, _>>(), Ok(records));
            let request = ProduceRequest {
                payload: Some(produce_request::Payload::Records(plain)),
                ..ProduceRequest::default()
            };
            assert_eq!(ProduceRequest::decode(&request.encode_to_vec()[..]), Ok(request));
        }
    }

    #[test]
    fn bytes_that_are_no_records_are_refused_where_they_lie() {
        // A list that ends within a record is no message; a record that ends within a field is none either.
        assert!(PlainRecords::decode(&b"\x0a\x05abc"[..]).is_err());
        assert!(PlainRecords::decode(&b"\x08\x01"[..]).is_err(), "a number where a record belongs");
        let plain = PlainRecords::decode(&b"\x0a\x02\x12\x09\x0a\x00"[..]).unwrap();
        let read: Vec<_> = plain.records().collect();
        assert!(matches!(read[..], [Err(PlainError::Malformed(_)), Ok(_)]), "{read:?}");
    }

    #[test]
    fn headers_are_counted_before_anything_is_made_of_them() {
        let with = |count| [b"\x1a\x00".repeat(count), b"\x12\x01v".to_vec()].concat();
        let list = |record: Vec<u8>| [vec![0x0a], varint(record.len()), record].concat();
        let read = |count| {
            let plain = PlainRecords::decode(&list(with(count))[..]).unwrap();
            plain.records().next().unwrap()
        };
        assert_eq!(read(MAX_RECORD_HEADERS).unwrap().headers.len(), MAX_RECORD_HEADERS);
        assert_eq!(read(MAX_RECORD_HEADERS + 1), Err(PlainError::Headers));
    }

    fn varint(number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoding::encode_varint(number as u64, &mut bytes);
        bytes
    }
}
