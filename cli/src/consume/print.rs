//! A record on standard output: bytes as they are, with what else was asked for before them, or as JSON.

use std::io::{self, Write};

use serde::Serialize;
use vltava_model::batch::RecordHeader;

use crate::text::Separator;

/// What is printed of a record.
#[derive(Clone, Debug)]
pub struct Style {
    /// `CreateTime:…`.
    pub timestamp: bool,
    /// `Partition:…`.
    pub partition: bool,
    /// `Offset:…`.
    pub offset: bool,
    /// `key:value,…` or `NO_HEADERS`.
    pub headers: bool,
    /// The key.
    pub key: bool,
    /// What stands between all of these.
    pub separator: Separator,
    /// Everything, as an object a line.
    pub json: bool,
}

/// A record as it is printed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Milliseconds since 1970, if it has one.
    pub timestamp_ms: Option<i64>,
    /// Its key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is null.
    pub value: Option<&'a [u8]>,
    /// Its headers, in order.
    pub headers: &'a [RecordHeader],
}

/// What stands for null, as in Kafka's console consumer.
const NULL: &[u8] = b"null";

impl Style {
    /// Prints a record and a line break.
    pub fn print(&self, out: &mut impl Write, record: &View<'_>) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *out, &Json::from(record)).map_err(io::Error::other)?;
            return out.write_all(b"\n");
        }
        let separator = &self.separator.0;
        if self.timestamp {
            match record.timestamp_ms {
                Some(ms) => write!(out, "CreateTime:{ms}")?,
                None => out.write_all(b"NO_TIMESTAMP")?,
            }
            out.write_all(separator)?;
        }
        if self.partition {
            write!(out, "Partition:{}", record.partition)?;
            out.write_all(separator)?;
        }
        if self.offset {
            write!(out, "Offset:{}", record.offset)?;
            out.write_all(separator)?;
        }
        if self.headers {
            print_headers(out, record.headers)?;
            out.write_all(separator)?;
        }
        if self.key {
            out.write_all(record.key.unwrap_or(NULL))?;
            out.write_all(separator)?;
        }
        out.write_all(record.value.unwrap_or(NULL))?;
        out.write_all(b"\n")
    }
}

fn print_headers(out: &mut impl Write, headers: &[RecordHeader]) -> io::Result<()> {
    if headers.is_empty() {
        return out.write_all(b"NO_HEADERS");
    }
    for (i, header) in headers.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(out, "{comma}{}:", header.key)?;
        out.write_all(header.value.as_deref().unwrap_or(NULL))?;
    }
    Ok(())
}

/// Bytes that are no UTF-8 stand under another name, in base64.
#[derive(Serialize)]
struct Json<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp_ms: Option<i64>,
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    headers: Vec<JsonHeader<'a>>,
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    key: &'a str,
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl<'a> From<&View<'a>> for Json<'a> {
    fn from(record: &View<'a>) -> Self {
        let (key, key_base64) = text_or_base64(record.key);
        let (value, value_base64) = text_or_base64(record.value);
        let headers = record.headers.iter().map(|header| {
            let (value, value_base64) = text_or_base64(header.value.as_deref());
            JsonHeader { key: &header.key, value, value_base64 }
        });
        Self {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key,
            key_base64,
            value,
            value_base64,
            headers: headers.collect(),
        }
    }
}

fn text_or_base64(bytes: Option<&[u8]>) -> (Option<&str>, Option<String>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(text), None),
        Some((bytes, Err(_))) => (None, Some(base64(bytes))),
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i)) & 63;
            text.push(if i <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const PLAIN: Style = Style {
        timestamp: false,
        partition: false,
        offset: false,
        headers: false,
        key: false,
        separator: Separator(Vec::new()),
        json: false,
    };

    fn printed(style: &Style, record: &View<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        style.print(&mut out, record).unwrap();
        out
    }

    #[test]
    fn values_alone_are_exact_bytes() {
        let headers = [RecordHeader::new("h", Some(Bytes::from_static(b"1"))), RecordHeader::new("n", None)];
        let record = View {
            topic: "t",
            partition: 2,
            offset: 7,
            timestamp_ms: Some(99),
            key: Some(b"k"),
            value: Some(b"\xff\0v"),
            headers: &headers,
        };
        assert_eq!(printed(&PLAIN, &record), b"\xff\0v\n");
        let all = Style {
            timestamp: true,
            partition: true,
            offset: true,
            headers: true,
            key: true,
            separator: Separator(b"\t".to_vec()),
            json: false,
        };
        assert_eq!(printed(&all, &record), b"CreateTime:99\tPartition:2\tOffset:7\th:1,n:null\tk\t\xff\0v\n");
        let empty = View { key: None, value: None, headers: &[], ..record };
        assert_eq!(printed(&all, &empty), b"CreateTime:99\tPartition:2\tOffset:7\tNO_HEADERS\tnull\tnull\n");
    }

    #[test]
    fn json_is_an_object_a_line() {
        let json = Style { json: true, ..PLAIN };
        let record = View {
            topic: "t",
            partition: 0,
            offset: 1,
            timestamp_ms: Some(5),
            key: None,
            value: Some(b"a\"b"),
            headers: &[RecordHeader::new("h", Some(Bytes::from_static(b"\xff")))],
        };
        let line = String::from_utf8(printed(&json, &record)).unwrap();
        assert_eq!(
            line,
            "{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"timestamp_ms\":5,\"key\":null,\"value\":\"a\\\"b\",\
             \"headers\":[{\"key\":\"h\",\"value\":null,\"value_base64\":\"/w==\"}]}\n"
        );
        let binary = View { value: Some(b"\xfe"), ..record };
        assert!(
            String::from_utf8(printed(&json, &binary))
                .unwrap()
                .contains(r#""value":null,"value_base64":"/g==""#)
        );
    }

    #[test]
    fn base64_of_all_lengths() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
