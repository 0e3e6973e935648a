//! Appends events to a file, a frame at a time.

use std::io::{self, Write};

use super::encode::Encoder;
use super::{FRAME_FULL, FRAME_MAX, MAGIC, SEEN_MAX};
use crate::event::Event;

/// Writes one history. Keeps at most one frame in memory.
pub struct Writer<W> {
    out: W,
    frame: Encoder,
}

impl<W: Write> Writer<W> {
    /// Starts a history.
    ///
    /// # Errors
    /// When `out` can't be written.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        Ok(Self { out, frame: Encoder::default() })
    }

    /// Adds an event (a poll of many entries as several); it may be in memory until the next [`Self::flush`].
    ///
    /// # Errors
    /// When a frame can't be written.
    pub fn append(&mut self, event: &Event) -> io::Result<()> {
        let Event::Poll(poll) = event else {
            self.frame.event(event);
            return self.close_full_frame();
        };
        if poll.seen.is_empty() {
            self.frame.poll(poll, &[]);
        }
        for seen in poll.seen.chunks(SEEN_MAX) {
            self.frame.poll(poll, seen);
            self.close_full_frame()?;
        }
        Ok(())
    }

    fn close_full_frame(&mut self) -> io::Result<()> {
        if self.frame.len() < FRAME_FULL { Ok(()) } else { self.close_frame() }
    }

    fn close_frame(&mut self) -> io::Result<()> {
        let body = self.frame.take();
        assert!(body.len() <= FRAME_MAX, "a frame of {} bytes could not be read back", body.len());
        if body.is_empty() {
            return Ok(());
        }
        let mut frame = Vec::with_capacity(body.len() + 8);
        frame.extend(u32::try_from(body.len()).expect("it is below the maximum").to_le_bytes());
        frame.extend(crc32c::crc32c(&body).to_le_bytes());
        frame.extend(body);
        self.out.write_all(&frame)
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.close_frame()?;
        self.out.flush()
    }

    /// Flushes, and gives back what it wrote to.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }
}
