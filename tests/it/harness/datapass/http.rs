//! HTTP/1.1 as far as the fake DataPass needs it (RFC 9112), with faults on demand.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use flate2::{Compress, Compression, Crc, FlushCompress, write::GzEncoder};
use url::form_urlencoded;

use super::fault::{Endpoint, Fault};

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct Request {
    pub endpoint: Endpoint,
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, still encoded; empty when there is none.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How many requests were in flight when it arrived, itself included.
    pub in_flight: usize,
    /// The number of its connection, counted from 1.
    pub connection: u64,
}

impl Request {
    /// Returns a header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the values of a query parameter, decoded.
    pub fn params(&self, name: &str) -> Vec<String> {
        decoded(self.query.as_bytes(), name)
    }

    /// Returns a numeric query parameter.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.params(name).first()?.parse().ok()
    }

    /// Returns the value of a field of a form body, decoded.
    pub fn field(&self, name: &str) -> Option<String> {
        decoded(&self.body, name).into_iter().next()
    }

    /// Reads the next request of a connection; `None` at its end.
    pub(super) fn read(stream: &mut BufReader<impl Read>) -> io::Result<Option<Self>> {
        let Some(first) = line(stream)? else {
            return Ok(None);
        };
        let mut words = first.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().ok_or(io::ErrorKind::InvalidData)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Vec::new();
        loop {
            let line = line(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self {
            endpoint: Endpoint::of(path),
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: Vec::new(),
            in_flight: 0,
            connection: 0,
        };
        let length = request.header("content-length").map_or(Ok(0), str::parse);
        request.body = vec![0; length.map_err(|_| io::ErrorKind::InvalidData)?];
        stream.read_exact(&mut request.body)?;
        Ok(Some(request))
    }
}

impl Endpoint {
    fn of(path: &str) -> Self {
        match path {
            "/api/oauth/token" => Self::Token,
            "/api/v1/demandes" => Self::Listing,
            "/api/v1/definitions" => Self::Definitions,
            _ => Self::Other,
        }
    }
}

fn decoded(text: &[u8], name: &str) -> Vec<String> {
    form_urlencoded::parse(text)
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

fn line(stream: &mut BufReader<impl Read>) -> io::Result<Option<String>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// A response to send.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// Makes a response.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.into() }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a header, replacing an existing one.
    pub fn set_header(&mut self, name: &str, value: &str) {
        self.remove_header(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Removes a header.
    pub fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    /// Compresses the body.
    pub(super) fn compress(&mut self) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.body).unwrap();
        self.body = encoder.finish().unwrap();
        self.set_header("Content-Encoding", "gzip");
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, phrase(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head
    }

    /// Sends it, with a fault if there is one; returns whether the connection is kept alive. Where
    /// the fault holds the connection open, `linger` waits and returns whether the server still
    /// runs.
    pub(super) fn send(
        mut self,
        stream: &mut impl Write,
        fault: Option<&Fault>,
        linger: impl Fn(std::time::Duration) -> bool,
    ) -> io::Result<bool> {
        let forever = std::time::Duration::MAX;
        let length = self.body.len();
        match fault {
            Some(Fault::CloseBeforeResponse) => return Ok(false),
            Some(Fault::NoResponse) => {
                linger(forever);
                return Ok(false);
            }
            Some(Fault::NotHttp(bytes)) => {
                stream.write_all(bytes)?;
                return Ok(false);
            }
            Some(Fault::InvalidChunkSize(size)) => {
                self.set_header("Transfer-Encoding", "chunked");
                let (first, rest) = self.body.split_at(length / 2);
                write!(stream, "{}{:x}\r\n", self.head(), first.len())?;
                stream.write_all(first)?;
                write!(stream, "\r\n{size}\r\n")?;
                stream.write_all(rest)?;
                stream.write_all(b"\r\n0\r\n\r\n")?;
                return Ok(false);
            }
            Some(Fault::WrongContentLength(more)) => {
                self.set_header("Content-Length", &(length + more).to_string());
            }
            _ => self.set_header("Content-Length", &length.to_string()),
        }
        stream.write_all(self.head().as_bytes())?;
        match fault {
            Some(Fault::TruncateBody(bytes)) => {
                stream.write_all(&self.body[..length.min(*bytes)])?;
                return Ok(false);
            }
            Some(Fault::Stall(bytes)) => {
                stream.write_all(&self.body[..length.min(*bytes)])?;
                stream.flush()?;
                linger(forever);
                return Ok(false);
            }
            Some(Fault::SlowBody(bytes, pause)) => {
                for piece in self.body.chunks(*bytes) {
                    stream.write_all(piece)?;
                    stream.flush()?;
                    if !linger(*pause) {
                        return Ok(false);
                    }
                }
            }
            _ => stream.write_all(&self.body)?,
        }
        stream.flush()?;
        Ok(!matches!(fault, Some(Fault::WrongContentLength(_))))
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Other",
    }
}

/// Makes a gzip stream (RFC 1952) of `[`, this many mebibytes of blanks, and `]`.
///
/// A mebibyte is compressed once: a full flush resets the state of the compressor, so that the
/// same bytes can be repeated.
pub(super) fn decompression_bomb(mebibytes: u32) -> Vec<u8> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut crc = Crc::new();
    let mut size = 0_u32;
    let mut piece = |text: &[u8], flush| {
        let mut bytes = Vec::with_capacity(1 << 16);
        let before = compress.total_in();
        compress.compress_vec(text, &mut bytes, flush).unwrap();
        assert_eq!(compress.total_in() - before, text.len() as u64, "the buffer is large enough");
        bytes
    };
    let blanks = vec![b' '; 1 << 20];
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    stream.extend(piece(b"[", FlushCompress::Full));
    let middle = piece(&blanks, FlushCompress::Full);
    let end = piece(b"]", FlushCompress::Finish);
    (0..mebibytes).for_each(|_| stream.extend(&middle));
    stream.extend(end);
    let mut part = |text: &[u8], times: u32| {
        let mut one = Crc::new();
        one.update(text);
        for _ in 0..times {
            crc.combine(&one);
            size = size.wrapping_add(one.amount());
        }
    };
    part(b"[", 1);
    part(&blanks, mebibytes);
    part(b"]", 1);
    stream.extend(crc.sum().to_le_bytes());
    stream.extend(size.to_le_bytes());
    stream
}

/// A connection, unencrypted or with TLS.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>),
}

impl Read for Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
