//! Reads a body through one bounded buffer, of which the parser consumes complete elements.

use std::io::{ErrorKind, Read};
use std::ops::Range;

use crate::net::body::BodyError;

/// The initial size of the buffer: about twenty demandes, and small enough for a second-level cache.
pub(super) const FIRST_BYTES: usize = 256 * 1024;

/// The largest size of the buffer, and so of an element, in bytes.
///
/// A demande has about ten thousand.
pub(super) const MAX_ELEMENT_BYTES: usize = 4 << 20;

/// The buffered part of a body, and the reader of the rest.
pub(super) struct Buffer<R> {
    reader: R,
    bytes: Vec<u8>,
    /// The range that was read and not yet consumed.
    unread: Range<usize>,
    /// The limit of the body, and what is left of it.
    max_bytes: u64,
    left_bytes: u64,
    /// Whether the body has no more bytes than the buffered ones.
    pub(super) ended: bool,
}

impl<R: Read> Buffer<R> {
    pub(super) fn new(reader: R, max_bytes: u64, first_bytes: usize) -> Self {
        Self {
            reader,
            bytes: vec![0; first_bytes],
            unread: 0..0,
            max_bytes,
            left_bytes: max_bytes,
            ended: false,
        }
    }

    /// Reads until the buffer is full or the body ends.
    ///
    /// Unconsumed bytes are moved to the front. If they are more than half of the buffer, an element
    /// is longer than expected and the buffer is doubled first, so that they are parsed again only
    /// together with at least as many new bytes. Filling the buffer makes the result independent of
    /// the chunks that the reader returns.
    pub(super) fn fill(&mut self) -> Result<(), BodyError> {
        self.bytes.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == MAX_ELEMENT_BYTES {
            return Err(BodyError::Oversized("an element is larger than 4 MiB"));
        }
        if self.unread.end > self.bytes.len() / 2 {
            let doubled = MAX_ELEMENT_BYTES.min(self.bytes.len() * 2);
            self.bytes.resize(doubled, 0);
        }
        while self.unread.end < self.bytes.len() {
            let count = match self.reader.read(&mut self.bytes[self.unread.end..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(BodyError::Io(error)),
            };
            self.unread.end += count;
            self.left_bytes = self
                .left_bytes
                .checked_sub(count as u64)
                .ok_or(BodyError::TooLarge(self.max_bytes))?;
        }
        Ok(())
    }

    /// Returns the buffered text without a character or a number that the end of the buffer may have
    /// truncated.
    ///
    /// The parser treats the end of its text as the end of a number; it detects any other truncated
    /// value.
    pub(super) fn text(&self) -> Result<&str, BodyError> {
        let bytes = &self.bytes[self.unread.clone()];
        let text = match simdutf8::compat::from_utf8(bytes) {
            Ok(text) => text,
            // At the end of the body an incomplete character is an error.
            Err(error) if error.error_len().is_none() && !self.ended => {
                let whole = simdutf8::basic::from_utf8(&bytes[..error.valid_up_to()]);
                whole.map_err(|_| BodyError::NotJson)?
            }
            Err(_) => return Err(BodyError::NotJson),
        };
        if self.ended {
            return Ok(text);
        }
        Ok(text.trim_end_matches(|c| matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')))
    }

    /// Consumes the first bytes of the text.
    pub(super) fn consume(&mut self, count: usize) {
        self.unread.start += count;
    }
}
