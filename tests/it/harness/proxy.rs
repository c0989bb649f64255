//! A proxy in front of PostgreSQL that knows where one statement ends and the next one begins.
//!
//! It understands the unencrypted protocol (`sslmode=disable`) and counts the exchanges that the
//! client waits for: the start of a connection, then each simple query and each extended one up to
//! its `Sync`. At the place that a test names it holds the exchange until the test continues it,
//! cuts the connection, or returns an error instead of the server.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use super::postgres::Database;
use super::run::PATIENCE;

/// Where to hold: at the exchange with this number, counted from 0 since the last reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before it goes to the server.
    Before(usize),
    /// After the server answered, before the client receives the response.
    After(usize),
}

/// What to do with a held exchange.
#[derive(Debug, Clone)]
enum Then {
    GoOn,
    Cut,
    Refuse { code: String, message: String },
}

/// A running proxy; it ends with the test's process.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// What was sent to the server, one string per exchange.
    exchanges: Vec<String>,
    /// Where to hold, and the channel to the test.
    hold: Option<(Place, Sender<Sender<Then>>)>,
}

/// A hold that a test has asked for.
pub struct Hold {
    arrivals: Receiver<Sender<Then>>,
}

/// An exchange that is held; it continues when this is dropped.
pub struct Held(Sender<Then>);

impl Hold {
    /// Waits until the exchange is reached.
    #[track_caller]
    pub fn reached(&self) -> Held {
        let arrival = self.arrivals.recv_timeout(PATIENCE);
        Held(arrival.expect("the exchange was not reached"))
    }
}

impl Held {
    /// Lets it continue.
    pub fn go_on(&self) {
        let _ = self.0.send(Then::GoOn);
    }

    /// Cuts the connections to both ends.
    pub fn cut(&self) {
        let _ = self.0.send(Then::Cut);
    }

    /// Returns an error instead of the server; only before the exchange went to the server.
    pub fn refuse(&self, code: &str, message: &str) {
        let (code, message) = (code.to_owned(), message.to_owned());
        let _ = self.0.send(Then::Refuse { code, message });
    }
}

impl Proxy {
    /// Starts one in front of the server of a database.
    pub fn start(database: &Database) -> Self {
        let (host, port) = database.host_and_port();
        let target = (host.as_str(), port).to_socket_addrs();
        let target = target.unwrap().next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        let shared = Arc::clone(&proxy.shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || relay(client, target, &shared));
            }
        });
        proxy
    }

    /// Returns the URL of a database through the proxy.
    pub fn url(&self, database: &Database) -> String {
        let mut url = url::Url::parse(&database.url()).unwrap();
        url.set_ip_host(self.address.ip()).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.query_pairs_mut().append_pair("sslmode", "disable");
        url.to_string()
    }

    /// Returns where it listens.
    pub fn host_and_port(&self) -> (String, u16) {
        (self.address.ip().to_string(), self.address.port())
    }

    /// Starts to count from 0 again, removes a pending hold, and returns the exchanges so far.
    pub fn reset(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.lock().unwrap()).exchanges
    }

    /// Holds at a place, once.
    pub fn hold(&self, place: Place) -> Hold {
        let (sender, arrivals) = mpsc::channel();
        self.shared.lock().unwrap().hold = Some((place, sender));
        Hold { arrivals }
    }
}

impl Shared {
    /// Waits at a place if a test asked to hold there.
    fn pass(shared: &Mutex<Self>, place: Place) -> Then {
        let mut locked = shared.lock().unwrap();
        let Some((_, sender)) = locked.hold.take_if(|(asked, _)| *asked == place) else {
            return Then::GoOn;
        };
        drop(locked);
        let (then, decided) = mpsc::channel();
        if sender.send(then).is_err() {
            return Then::GoOn;
        }
        // A test that drops it without a decision lets it continue.
        decided.recv().unwrap_or(Then::GoOn)
    }
}

/// The numbers of the exchanges of a connection that wait for their response.
type Waiting = Sender<usize>;

fn relay(mut client: TcpStream, target: SocketAddr, shared: &Arc<Mutex<Shared>>) {
    let Ok(startup) = message(&mut client, false) else {
        return;
    };
    let Ok(mut server) = TcpStream::connect(target) else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // A cancel request has a connection of its own, and no response.
    if startup[4..8] == 80_877_102_u32.to_be_bytes() {
        let _ = server.write_all(&startup);
        let _ = server.read(&mut [0]);
        return;
    }
    let (waiting, answered) = mpsc::channel();
    let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let to_client_shared = Arc::clone(shared);
    let back = thread::spawn(move || {
        let _ = to_client(ends.1, ends.0, &answered, &to_client_shared);
    });
    let _ = to_server(&mut client, &mut server, startup, &waiting, shared);
    // Tells the server that its client is gone; its last messages are still forwarded.
    let _ = server.shutdown(Shutdown::Write);
    drop(waiting);
    let _ = back.join();
}

fn to_server(
    client: &mut TcpStream,
    server: &mut TcpStream,
    startup: Vec<u8>,
    waiting: &Waiting,
    shared: &Mutex<Shared>,
) -> io::Result<()> {
    let mut pending = startup;
    let mut text = "connect".to_owned();
    loop {
        let number = {
            let mut locked = shared.lock().unwrap();
            locked.exchanges.push(std::mem::take(&mut text));
            locked.exchanges.len() - 1
        };
        match Shared::pass(shared, Place::Before(number)) {
            Then::GoOn => {
                let _ = waiting.send(number);
                server.write_all(&pending)?;
            }
            Then::Cut => return cut(client, server),
            Then::Refuse { code, message } => {
                let mut fields = Vec::new();
                for (kind, value) in
                    [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', &*code), (b'M', &*message)]
                {
                    fields.push(kind);
                    fields.extend(value.as_bytes());
                    fields.push(0);
                }
                fields.push(0);
                let mut response = vec![b'E'];
                response.extend((fields.len() as u32 + 4).to_be_bytes());
                response.extend(fields);
                if number > 0 {
                    response.extend([b'Z', 0, 0, 0, 5, b'E']);
                }
                client.write_all(&response)?;
            }
        }
        pending = Vec::new();
        loop {
            let message = message(client, true)?;
            pending.extend(&message);
            match message[0] {
                b'Q' => text = statement_text(&message[5..]),
                // The statement's name comes first; it has none.
                b'P' => text = statement_text(&message[6..]),
                b'X' => return server.write_all(&pending),
                _ => {}
            }
            if matches!(message[0], b'Q' | b'S') {
                break;
            }
        }
    }
}

fn to_client(
    mut server: TcpStream,
    mut client: TcpStream,
    answered: &Receiver<usize>,
    shared: &Mutex<Shared>,
) -> io::Result<()> {
    let mut pending = Vec::new();
    loop {
        match message(&mut server, true) {
            Ok(message) => {
                pending.extend(&message);
                if message[0] != b'Z' {
                    continue;
                }
            }
            Err(error) => {
                // The last messages of a server do not end with ReadyForQuery.
                let _ = client.write_all(&pending);
                let _ = client.shutdown(Shutdown::Both);
                return Err(error);
            }
        }
        let number = answered.recv().map_err(io::Error::other)?;
        if let Then::Cut = Shared::pass(shared, Place::After(number)) {
            return cut(&client, &server);
        }
        client.write_all(&pending)?;
        pending.clear();
    }
}

/// Ends both connections; the other direction's thread notices.
fn cut(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    Err(io::ErrorKind::ConnectionReset.into())
}

/// Reads one message: a type unless it is the first one, a length that includes itself, the rest.
fn message(stream: &mut TcpStream, typed: bool) -> io::Result<Vec<u8>> {
    let head = if typed { 5 } else { 4 };
    let mut message = vec![0; head];
    stream.read_exact(&mut message)?;
    let length: [u8; 4] = message[head - 4..].try_into().map_err(io::Error::other)?;
    let rest = (u32::from_be_bytes(length) as usize).saturating_sub(4);
    message.resize(head + rest, 0);
    stream.read_exact(&mut message[head..])?;
    Ok(message)
}

/// Returns a statement's text on one line, without comments.
fn statement_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let text = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with("--"));
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ")
}
