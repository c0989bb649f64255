//! Response bodies: their encoding, their size limits, and JSON.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use reqwest::blocking::Response;
use reqwest::header::CONTENT_ENCODING;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// The limit of a decoded body: five times the largest page that DataPass serves.
pub const MAX_BODY_BYTES: u64 = 64 << 20;
/// The limit of a small body: a token, an error, the definitions.
const MAX_SMALL_BODY_BYTES: u64 = 4 << 20;
/// The codings that a message may name; any other header value may hold anything.
const KNOWN_CODINGS: [&str; 4] = ["br", "compress", "deflate", "zstd"];

/// Why a body could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Not JSON, or truncated.
    #[error("the body is not valid JSON, or is truncated")]
    NotJson,
    /// Valid, but not what was expected.
    #[error("{0}")]
    WrongShape(&'static str),
    /// Encoded in another way than was asked for.
    #[error("the body has the Content-Encoding {0}; only gzip is supported")]
    Coding(&'static str),
    /// Larger than this limit, in bytes.
    #[error("the body is larger than {} MiB once decoded", .0 >> 20)]
    TooLarge(u64),
    /// Larger in another way.
    #[error("{0}")]
    Oversized(&'static str),
    /// The connection failed, or the compressed data is corrupt.
    #[error("the body could not be read to its end")]
    Io(#[from] io::Error),
}

/// Returns the body as it was before it was encoded (RFC 9110 section 8.4.1).
pub(super) fn decoded(response: Response) -> Result<Box<dyn Read>, BodyError> {
    let mut is_gzip = false;
    for value in response.headers().get_all(CONTENT_ENCODING) {
        for coding in value.to_str().unwrap_or("?").split(',') {
            match coding.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" if is_gzip => return Err(BodyError::Coding("gzip twice")),
                "gzip" | "x-gzip" => is_gzip = true,
                other => {
                    let known = KNOWN_CODINGS.into_iter().find(|known| *known == other);
                    return Err(BodyError::Coding(known.unwrap_or("(unknown)")));
                }
            }
        }
    }
    Ok(match is_gzip {
        // Several members are one body (RFC 1952 section 2.2).
        true => Box::new(MultiGzDecoder::new(response)),
        false => Box::new(response),
    })
}

/// Reads a small JSON body whole.
///
/// Syntax and shape are distinguished: a body that is not JSON may be a passing fault of a proxy,
/// JSON of another shape is another server than expected.
pub fn read_json<T: DeserializeOwned>(
    body: &mut dyn Read,
    expected: &'static str,
) -> Result<T, BodyError> {
    let mut bytes = Vec::new();
    body.take(MAX_SMALL_BODY_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SMALL_BODY_BYTES {
        return Err(BodyError::TooLarge(MAX_SMALL_BODY_BYTES));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let any: &RawValue = serde_json::from_slice(text).map_err(|_| match is_form(text) {
        true => BodyError::WrongShape("the body is form-encoded, not JSON"),
        false => BodyError::NotJson,
    })?;
    serde_json::from_str(any.get()).map_err(|_| BodyError::WrongShape(expected))
}

/// Returns whether a body is form-encoded, as some token endpoints answer.
fn is_form(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let is_form_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"*-._+%=&~:/".contains(byte);
    text.contains(&b'=') && text.iter().all(is_form_byte)
}

/// Returns whether reading a body took longer than the request may take.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    let reqwest_error = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    error.kind() == io::ErrorKind::TimedOut || reqwest_error.is_some_and(reqwest::Error::is_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_form_and_shape_are_distinguished() {
        let read = |text: &str| {
            let numbers = read_json::<Vec<u8>>(&mut text.as_bytes(), "shape");
            numbers.map_err(|error| error.to_string())
        };
        assert_eq!(read("\u{feff}[1, 2]"), Ok(vec![1, 2]));
        for (text, expected) in [
            ("{}", "shape"),
            ("[300]", "shape"),
            ("", "not valid JSON"),
            ("[1", "not valid JSON"),
            ("\u{feff}\u{feff}[1]", "not valid JSON"),
            ("<a href=b>", "not valid JSON"),
            ("token=", "form-encoded"),
            ("access_token=a%20b.c-d&scope=&token_type=bearer\n", "form-encoded"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
