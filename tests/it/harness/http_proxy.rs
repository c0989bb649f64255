//! An HTTP proxy that connects every host name to one server, and records the requests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running proxy; it ends with the test's process.
pub struct HttpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    /// The response to every request, when it forwards none.
    response: Option<&'static str>,
    requests: Mutex<Vec<ProxyRequest>>,
}

/// A request that the proxy received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRequest {
    /// Method and target, such as `CONNECT api.test:443`.
    pub line: String,
    /// `Proxy-Authorization`.
    pub authorization: Option<String>,
}

impl HttpProxy {
    /// Starts one that forwards to `target`.
    pub fn start(target: SocketAddr) -> Self {
        Self::listen(target, None)
    }

    /// Starts one that answers every request itself, with this status line.
    pub fn responding(status: &'static str) -> Self {
        Self::listen(([127, 0, 0, 1], 0).into(), Some(status))
    }

    fn listen(target: SocketAddr, response: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { target, response, requests: Mutex::default() });
        let proxy = Self { address, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(client, &shared));
            }
        });
        proxy
    }

    /// Returns `HOST:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Takes the requests so far.
    pub fn take_requests(&self) -> Vec<ProxyRequest> {
        std::mem::take(&mut self.shared.requests.lock().unwrap())
    }

    /// Takes method and target of each request so far.
    pub fn take_lines(&self) -> Vec<String> {
        let requests = self.take_requests().into_iter();
        requests.map(|request| request.line).collect()
    }
}

/// Serves one request of a connection, or one tunnel.
fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head)? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    shared.requests.lock().unwrap().push(ProxyRequest {
        line: format!("{method} {target}"),
        authorization: header("Proxy-Authorization"),
    });
    let length = header("Content-Length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if let Some(status) = shared.response {
        let end = "Content-Length: 0\r\nConnection: close\r\n\r\n";
        return write!(client, "HTTP/1.1 {status}\r\n{end}");
    }
    let mut server = TcpStream::connect(shared.target)?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
        let back = thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut reader, &mut server);
        let _ = server.shutdown(Shutdown::Write);
        let _ = back.join();
        return Ok(());
    }
    // The part after `http://` and the host.
    let path = target.splitn(4, '/').nth(3).unwrap_or("");
    server.write_all(head.replacen(target, &format!("/{path}"), 1).as_bytes())?;
    server.write_all(&body)?;
    server.shutdown(Shutdown::Write)?;
    let mut response = Vec::new();
    server.read_to_end(&mut response)?;
    let line = response.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
    client.write_all(&response[..line])?;
    client.write_all(b"Connection: close\r\n")?;
    client.write_all(&response[line..])
}
