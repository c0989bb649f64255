//! Reads a body through one bounded buffer, of which the parser consumes complete elements.

use std::io::Read;

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
    /// What was read and not yet consumed.
    bytes: Vec<u8>,
    /// How many bytes it is filled to.
    size: usize,
    /// The limit of the body, and what is left of it.
    max_bytes: u64,
    left_bytes: u64,
    /// Whether the body has no more bytes than the buffered ones.
    pub(super) ended: bool,
}

impl<R: Read> Buffer<R> {
    pub(super) fn new(reader: R, max_bytes: u64, first_bytes: usize) -> Self {
        let (size, bytes) = (first_bytes, Vec::new());
        Self { reader, bytes, size, max_bytes, left_bytes: max_bytes, ended: false }
    }

    /// Reads until the buffer is full or the body ends.
    ///
    /// If more than half of it is not consumed, an element is longer than expected and the buffer is
    /// doubled first, so that these bytes are parsed again only together with at least as many new
    /// ones. Filling the buffer makes the result independent of the chunks that the reader returns.
    pub(super) fn fill(&mut self) -> Result<(), BodyError> {
        if self.bytes.len() == MAX_ELEMENT_BYTES {
            return Err(BodyError::Oversized("an element is larger than 4 MiB"));
        }
        if self.bytes.len() > self.size / 2 {
            self.size = MAX_ELEMENT_BYTES.min(self.size * 2);
        }
        let free = self.size - self.bytes.len();
        self.bytes.reserve_exact(free);
        let count = self.reader.by_ref().take(free as u64).read_to_end(&mut self.bytes)?;
        self.ended = count < free;
        let left_bytes = self.left_bytes.checked_sub(count as u64);
        self.left_bytes = left_bytes.ok_or(BodyError::TooLarge(self.max_bytes))?;
        Ok(())
    }

    /// Returns the buffered text without a character or a number that the end of the buffer may have
    /// truncated.
    ///
    /// The parser treats the end of its text as the end of a number; it detects any other truncated
    /// value.
    pub(super) fn text(&self) -> Result<&str, BodyError> {
        let text = match simdutf8::compat::from_utf8(&self.bytes) {
            Ok(text) => text,
            // At the end of the body an incomplete character is an error.
            Err(error) if error.error_len().is_none() && !self.ended => {
                let whole = simdutf8::basic::from_utf8(&self.bytes[..error.valid_up_to()]);
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
        self.bytes.drain(..count);
    }
}
