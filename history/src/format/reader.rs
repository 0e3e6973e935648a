//! Reads a history back, event by event; a torn end is a fact, damage elsewhere an error.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::decode::{Decoder, Position};
use super::{FRAME_MAX, MAGIC};
use crate::event::Event;

/// Why a history can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file can't be read.
    #[error("the history can't be read: {0}")]
    Io(#[from] io::Error),
    /// It is another file.
    #[error("this is no history: it does not begin like one")]
    NotAHistory,
    /// It is damaged in its midst.
    #[error("the history is damaged {at} bytes from its start: {what}")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// In which way.
        what: String,
    },
}

/// How a history ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ended {
    /// With a whole frame.
    #[default]
    Whole,
    /// Within a frame, which is left out: the recording process was killed.
    Torn,
}

/// Reads one history; holds one frame in memory.
pub struct Reader<R> {
    input: R,
    /// Where the frame lies that `body` is of.
    at: u64,
    body: Vec<u8>,
    position: Position,
    state: State,
}

/// Where reading is.
enum State {
    Reading,
    Ended(Ended),
    Failed,
}

impl Reader<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// When it can't be read or is no history.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::new(BufReader::with_capacity(1 << 18, File::open(path)?))
    }
}

impl<R: Read> Reader<R> {
    /// Reads from anything.
    ///
    /// # Errors
    /// When it can't be read or is no history.
    pub fn new(mut input: R) -> Result<Self, ReadError> {
        let mut magic = Vec::with_capacity(MAGIC.len());
        input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if magic != MAGIC {
            return Err(ReadError::NotAHistory);
        }
        Ok(Self {
            input,
            at: MAGIC.len() as u64,
            body: Vec::new(),
            position: Position::default(),
            state: State::Reading,
        })
    }

    /// How the history ended, once its last event was read.
    pub fn ended(&self) -> Option<Ended> {
        match self.state {
            State::Ended(ended) => Some(ended),
            State::Reading | State::Failed => None,
        }
    }

    /// Reads the next frame's body; nothing when the history ends.
    fn frame(&mut self) -> Result<Vec<u8>, ReadError> {
        let header = self.upto(8)?;
        let Ok(header) = <[u8; 8]>::try_from(header.as_slice()) else {
            return Ok(self.end(if header.is_empty() { Ended::Whole } else { Ended::Torn }));
        };
        let [a, b, c, d, sum @ ..] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        // An empty frame is never written; a length out of range may be what a crash left of the last one.
        if length == 0 || length > FRAME_MAX {
            return self.torn_or_damaged(format!("a frame of {length} bytes"));
        }
        let body = self.upto(length)?;
        if body.len() < length {
            return Ok(self.end(Ended::Torn));
        }
        if crc32c::crc32c(&body) != u32::from_le_bytes(sum) {
            return self.torn_or_damaged("a frame's checksum does not match".to_owned());
        }
        Ok(body)
    }

    fn end(&mut self, ended: Ended) -> Vec<u8> {
        self.state = State::Ended(ended);
        Vec::new()
    }

    /// What is not whole is torn when nothing but zeros follows.
    fn torn_or_damaged(&mut self, what: String) -> Result<Vec<u8>, ReadError> {
        loop {
            let rest = self.upto(FRAME_MAX)?;
            if rest.is_empty() {
                return Ok(self.end(Ended::Torn));
            }
            if rest.iter().any(|byte| *byte != 0) {
                return Err(ReadError::Damaged { at: self.at, what });
            }
        }
    }

    /// Reads so many bytes, or as many as there are.
    fn upto(&mut self, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self) -> Result<Option<Event>, ReadError> {
        loop {
            let mut decoder = Decoder::resume(&self.body, self.position);
            let event = decoder.event();
            self.position = decoder.position();
            match event {
                Ok(Some(event)) => return Ok(Some(event)),
                Err(error) => return Err(ReadError::Damaged { at: self.at, what: error.to_string() }),
                Ok(None) => {}
            }
            if !self.body.is_empty() {
                self.at += 8 + self.body.len() as u64;
            }
            self.body = self.frame()?;
            self.position = Position::default();
            if self.body.is_empty() {
                return Ok(None);
            }
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Event, ReadError>;

    /// The next event; nothing follows an error.
    fn next(&mut self) -> Option<Self::Item> {
        if !matches!(self.state, State::Reading) {
            return None;
        }
        let event = self.read();
        if event.is_err() {
            self.state = State::Failed;
        }
        event.transpose()
    }
}
