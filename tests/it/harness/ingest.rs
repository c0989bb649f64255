//! A fake server for Sentry and Healthchecks: accepts POST requests over plain HTTP, TLS or a
//! proxy's tunnel.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::datapass::CANARY;

/// The keys that an event may hold; a new one must be checked for personal data.
const KNOWN_KEYS: [&str; 11] = [
    "environment",
    "event_id",
    "extra",
    "fingerprint",
    "level",
    "message",
    "platform",
    "release",
    "sdk",
    "tags",
    "timestamp",
];

/// A running fake server; it ends with the test's process.
pub struct Ingest {
    address: SocketAddr,
    scheme: &'static str,
    received: Mutex<Receiver<Vec<u8>>>,
}

/// How the fake server behaves: plain HTTP or TLS, and the status of its responses.
#[derive(Clone)]
struct Options {
    tls: Option<Arc<ServerConfig>>,
    status: u16,
}

impl Ingest {
    /// Starts one that accepts everything.
    pub fn start() -> Self {
        Self::listen(Options { tls: None, status: 200 })
    }

    /// Starts one that answers with an error.
    pub fn refusing(status: u16) -> Self {
        Self::listen(Options { tls: None, status })
    }

    /// Starts one that serves TLS, inside a `CONNECT` tunnel if there is one.
    pub fn tls(config: Arc<ServerConfig>) -> Self {
        Self::listen(Options { tls: Some(config), status: 200 })
    }

    fn listen(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (requests, received) = mpsc::channel();
        let ingest = Self {
            address: listener.local_addr().unwrap(),
            scheme: if options.tls.is_some() { "https" } else { "http" },
            received: Mutex::new(received),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (options, requests) = (options.clone(), requests.clone());
                thread::spawn(move || handle_connection(stream, &options, &requests));
            }
        });
        ingest
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its DSN.
    pub fn dsn(&self) -> String {
        let port = self.address.port();
        format!("{}://public@localhost:{port}/42", self.scheme)
    }

    /// Takes the requests received so far, heads and bodies.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap().try_iter().collect()
    }

    /// Returns its plain HTTP URL with this path and query.
    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.address.port())
    }

    /// Takes the events received so far; none of the bytes may be private.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let event = |(kind, item): (String, Value)| {
            assert_eq!(kind, "event");
            item
        };
        self.envelopes().into_iter().map(event).collect()
    }

    /// Takes the type and content of the envelopes received so far; none of the bytes may be private.
    #[track_caller]
    pub fn envelopes(&self) -> Vec<(String, Value)> {
        let requests = self.requests();
        requests.iter().map(|bytes| envelope(bytes)).collect()
    }

    /// Takes target and body of the requests received so far.
    #[track_caller]
    pub fn posts(&self) -> Vec<(String, String)> {
        let post = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let target = head.strip_prefix("POST ").unwrap();
            let (target, _) = target.split_once(' ').unwrap();
            (target.to_owned(), body.to_owned())
        };
        self.requests().into_iter().map(post).collect()
    }
}

/// Reads the one item of an envelope: a header, the item's header, the item.
#[track_caller]
fn envelope(request: &[u8]) -> (String, Value) {
    let text = String::from_utf8(request.to_vec()).unwrap();
    assert!(!text.to_lowercase().contains(CANARY), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api/42/envelope/ "), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("\r\nx-sentry-auth: sentry "), "{head}");
    assert!(head.contains("sentry_key=public"), "{head}");
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines.len(), 3, "{body}");
    let json = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let kind = json(lines[1])["type"].as_str().unwrap().to_owned();
    let item = json(lines[2]);
    if kind == "event" {
        for key in item.as_object().unwrap().keys() {
            assert!(KNOWN_KEYS.contains(&key.as_str()), "{key} in {item}");
        }
        assert!(json(lines[0])["event_id"].is_string());
    }
    (kind, item)
}

fn handle_connection(stream: TcpStream, options: &Options, requests: &Sender<Vec<u8>>) {
    let Some(tls) = &options.tls else {
        let _ = serve(BufReader::new(stream), options.status, requests);
        return;
    };
    let mut first = [0];
    let tunnelled = stream.peek(&mut first).is_ok() && first == *b"C";
    if tunnelled {
        let mut reader = BufReader::new(&stream);
        let Ok((head, _)) = read_request(&mut reader) else {
            return;
        };
        let _ = requests.send(head);
        let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    }
    let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
    let encrypted = StreamOwned::new(connection, stream);
    let _ = serve(BufReader::new(encrypted), options.status, requests);
}

fn serve(
    mut stream: BufReader<impl Read + Write>,
    status: u16,
    requests: &Sender<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let (mut request, length) = read_request(&mut stream)?;
        let head = request.len();
        request.resize(head + length, 0);
        stream.read_exact(&mut request[head..])?;
        let _ = requests.send(request);
        let response =
            format!("HTTP/1.1 {status} Canari\r\nContent-Length: 10\r\n\r\n{{\"id\":\"0\"}}");
        stream.get_mut().write_all(response.as_bytes())?;
        stream.get_mut().flush()?;
    }
}

/// Reads the head of a request; returns it with the length of the body that follows.
fn read_request(stream: &mut impl BufRead) -> io::Result<(Vec<u8>, usize)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.push_str(&line);
        if line == "\r\n" {
            return Ok((head.into_bytes(), length));
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
}

/// Makes a server's TLS settings with a certificate for a host name, and the PEM of the certificate
/// authority that signed it.
pub fn server_certificate(name: &str) -> (Arc<ServerConfig>, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (Arc::new(config), pem)
}
