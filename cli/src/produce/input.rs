//! Standard input as lines of bytes, and lines as the parts of a record. Never assumes that the bytes are text.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::text::Separator;

/// How much is read at a time.
const BLOCK_BYTES: usize = 256 * 1024;
/// A longer line is no record: no topic takes one of that size.
const MAX_LINE_BYTES: usize = 256 << 20;
/// How many blocks may wait to be sent.
const BLOCKS_WAITING: usize = 4;

/// Some lines, and how many bytes of input they took.
#[derive(Debug)]
pub struct Block {
    /// The lines, without their line breaks.
    pub lines: Vec<Bytes>,
    /// How many bytes have been read up to the end of this block.
    pub position: u64,
}

/// Reads lines on a thread of its own, so that slow input blocks nobody.
pub fn read_lines(input: impl Read + Send + 'static) -> mpsc::Receiver<io::Result<Block>> {
    let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
    std::thread::spawn(move || {
        let mut lines = Lines::new(input);
        while let Some(block) = lines.next_block().transpose() {
            let failed = block.is_err();
            if sender.blocking_send(block).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

struct Lines<R> {
    input: R,
    /// The beginning of a line whose end has not been read yet.
    rest: BytesMut,
    position: u64,
    ended: bool,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self { input, rest: BytesMut::new(), position: 0, ended: false }
    }

    /// The next lines: all that one read completes. `None` at the end.
    fn next_block(&mut self) -> io::Result<Option<Block>> {
        while !self.ended {
            let known = self.rest.len();
            self.rest.resize(known + BLOCK_BYTES, 0);
            let read = match self.input.read(&mut self.rest[known..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.rest.truncate(known);
                    continue;
                }
                result => result?,
            };
            self.rest.truncate(known + read);
            self.position += read as u64;
            self.ended = read == 0;
            let lines = match self.ended {
                true => self.last_line(),
                false => self.complete_lines(known),
            };
            if !lines.is_empty() {
                return Ok(Some(Block { lines, position: self.position }));
            }
            if self.rest.len() > MAX_LINE_BYTES {
                return Err(io::Error::other(format!("a line is longer than {MAX_LINE_BYTES} bytes")));
            }
        }
        Ok(None)
    }

    /// Takes the lines that are whole; those before `known` hold no line break.
    fn complete_lines(&mut self, known: usize) -> Vec<Bytes> {
        let Some(last) = self.rest[known..].iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let whole = self.rest.split_to(known + last + 1).freeze();
        let mut lines = Vec::new();
        let mut start = 0;
        for line in whole.split(|byte| *byte == b'\n') {
            // What follows the last line break is no line.
            if start < whole.len() {
                lines.push(whole.slice(start..start + line.len()));
            }
            start += line.len() + 1;
        }
        lines
    }

    /// What stands after the last line break of the input is a line too, if it is anything.
    fn last_line(&mut self) -> Vec<Bytes> {
        match self.rest.is_empty() {
            true => Vec::new(),
            false => vec![self.rest.split().freeze()],
        }
    }
}

/// The parts of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Bytes,
    /// Headers, in order.
    pub headers: Vec<(String, Bytes)>,
}

/// How a line is taken apart.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// What stands between headers and the rest of the line.
    pub headers_separator: Option<Separator>,
    /// What stands between key and value.
    pub key_separator: Option<Separator>,
    /// Headers that every record gets, after its own.
    pub constant_headers: Vec<(String, Bytes)>,
}

impl Shape {
    /// Takes a line apart; the error says what it lacks.
    pub fn parts(&self, line: Bytes) -> Result<Parts, String> {
        let (mut headers, line) = match &self.headers_separator {
            None => (Vec::new(), line),
            Some(separator) => {
                let (headers, rest) = separator.split(&line).ok_or("has no headers separator")?;
                (parse_headers(&line, headers)?, line.slice_ref(rest))
            }
        };
        headers.extend(self.constant_headers.iter().cloned());
        let (key, value) = match &self.key_separator {
            None => (None, line),
            Some(separator) => {
                let (key, value) = separator.split(&line).ok_or("has no key separator")?;
                (Some(line.slice_ref(key)), line.slice_ref(value))
            }
        };
        Ok(Parts { key, value, headers })
    }
}

/// Reads `KEY:VALUE,KEY:VALUE`; nothing at all is no headers.
fn parse_headers(line: &Bytes, text: &[u8]) -> Result<Vec<(String, Bytes)>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let headers = text.split(|byte| *byte == b',').map(|header| {
        let at = header.iter().position(|byte| *byte == b':').ok_or("has a header without `:`")?;
        let key = std::str::from_utf8(&header[..at]).map_err(|_| "has a header whose key is not UTF-8")?;
        Ok((key.to_owned(), line.slice_ref(&header[at + 1..])))
    });
    headers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::separator;

    /// Gives a few bytes at a time, as a pipe may.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn lines_of(input: &[u8], step: usize) -> Vec<Bytes> {
        let mut lines = Lines::new(Trickle(input, step));
        let mut all = Vec::new();
        while let Some(block) = lines.next_block().unwrap() {
            all.extend(block.lines);
        }
        assert_eq!(lines.position, input.len() as u64);
        all
    }

    #[test]
    fn lines_are_exact_bytes_however_they_arrive() {
        let long = vec![b'x'; BLOCK_BYTES + 7];
        let inputs: [&[u8]; 8] =
            [b"", b"\n", b"a", b"a\n", b"a\nb", b"\n\na\r\n\xff\xfe\0\n", b"one\ntwo\n\nfour", &long];
        for input in inputs {
            let mut expected: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            for step in [1, 3, 1 << 20] {
                if input.len() / step < 10_000 {
                    assert_eq!(lines_of(input, step), expected, "{} bytes by {step}", input.len());
                }
            }
        }
    }

    #[tokio::test]
    async fn a_reader_on_a_thread_ends() {
        let mut blocks = read_lines(&b"a\nb\n"[..]);
        assert_eq!(blocks.recv().await.unwrap().unwrap().lines, ["a", "b"]);
        assert!(blocks.recv().await.is_none());
    }

    #[test]
    fn a_line_is_taken_apart() {
        let shape = Shape {
            headers_separator: Some(separator(r"\t").unwrap()),
            key_separator: Some(separator(":").unwrap()),
            constant_headers: vec![("src".into(), "cli".into())],
        };
        let parts = shape.parts(Bytes::from_static(b"a:1,b:\xff\tkey:value:more")).unwrap();
        assert_eq!(parts.key, Some("key".into()));
        assert_eq!(parts.value, "value:more");
        let headers: [(String, Bytes); 3] = [
            ("a".into(), "1".into()),
            ("b".into(), Bytes::from_static(b"\xff")),
            ("src".into(), "cli".into()),
        ];
        assert_eq!(parts.headers, headers);
        assert_eq!(shape.parts("\tk:v".into()).unwrap().headers.len(), 1);
        assert_eq!(shape.parts("k:v".into()).unwrap_err(), "has no headers separator");
        assert_eq!(shape.parts("\tk".into()).unwrap_err(), "has no key separator");
        assert_eq!(shape.parts("a\tk:v".into()).unwrap_err(), "has a header without `:`");
        let plain = Shape::default().parts("k:v".into()).unwrap();
        assert_eq!((plain.key, plain.value), (None, "k:v".into()));
    }
}
