//! Walks the batches of a segment file from a position on, believing nothing but their own checksums.
//!
//! For recovery. Knows nothing of side files, epochs or what to do about what it finds.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use vltava_model::batch::{Batch, BatchHeader, HEADER_BYTES};

use vltava_storage::StorageFile;

/// Read at once; a larger batch is read whole.
const CHUNK_BYTES: u64 = 1 << 20;

/// What lies at the scanner's position.
#[derive(Debug, Clone)]
pub(crate) enum Scanned {
    /// A batch with a right checksum.
    Batch(Batch),
    /// Nothing: the file ends here.
    End,
    /// Something that is no whole batch.
    Bad(&'static str),
}

/// Reads one file forwards.
pub(crate) struct Scanner {
    file: Arc<dyn StorageFile>,
    position: u64,
    file_len: u64,
    /// What was read last, and where it lies in the file.
    chunk: Bytes,
    chunk_at: u64,
}

impl Scanner {
    pub(crate) fn new(file: Arc<dyn StorageFile>, position: u64) -> io::Result<Self> {
        let file_len = file.len()?;
        Ok(Self { file, position, file_len, chunk: Bytes::new(), chunk_at: position })
    }

    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    pub(crate) const fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Goes on behind bytes that the caller knows.
    pub(crate) fn pass(&mut self, bytes: u64) {
        self.position += bytes;
    }

    /// The caller has written `bytes` at the position.
    pub(crate) fn was_written(&mut self, bytes: u64) {
        self.file_len = self.file_len.max(self.position + bytes);
        self.chunk = Bytes::new();
    }

    /// `len` bytes at the position, fewer at the end of the file.
    pub(crate) fn peek_bytes(&mut self, len: u64) -> io::Result<Bytes> {
        let left = self.file_len.saturating_sub(self.position);
        let len = len.min(left);
        let have = (self.chunk_at + self.chunk.len() as u64).checked_sub(self.position);
        if self.position < self.chunk_at || have.is_none_or(|have| have < len) {
            let want = len.max(CHUNK_BYTES).min(left);
            let mut chunk = BytesMut::zeroed(usize::try_from(want).map_err(|_| io::ErrorKind::OutOfMemory)?);
            let read = self.file.read_at(self.position, &mut chunk)?;
            chunk.truncate(read);
            self.chunk = chunk.freeze();
            self.chunk_at = self.position;
        }
        let from = (self.position - self.chunk_at) as usize;
        let to = (from + len as usize).min(self.chunk.len());
        Ok(self.chunk.slice(from..to))
    }

    /// Looks at what lies at the position, without passing it.
    pub(crate) fn peek(&mut self) -> io::Result<Scanned> {
        let header = self.peek_bytes(HEADER_BYTES as u64)?;
        if header.is_empty() {
            return Ok(Scanned::End);
        }
        let header = match BatchHeader::peek(&header) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Scanned::Bad("the file ends within a batch's header")),
            Err(_) => return Ok(Scanned::Bad("there is no batch")),
        };
        if header.length as u64 > self.file_len - self.position {
            return Ok(Scanned::Bad("the file ends within a batch"));
        }
        let bytes = self.peek_bytes(header.length as u64)?;
        Ok(match Batch::parse(bytes) {
            Ok(batch) => Scanned::Batch(batch),
            Err(_) => Scanned::Bad("the batch's checksum or form is wrong"),
        })
    }
}
