//! The threads of the fake DataPass: one that accepts, and one per connection.

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use super::api;
use super::demande::Demande;
use super::fault::{Action, Endpoint, Fault, On};
use super::http::{Connection, Request, Response, decompression_bomb};
use super::upstream::Upstream;

/// A running fake DataPass; its threads end when it is dropped.
pub struct DataPass {
    address: SocketAddr,
    host: String,
    scheme: &'static str,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    ended: Condvar,
    tls: Option<Arc<rustls::ServerConfig>>,
}

#[derive(Default)]
struct Inner {
    upstream: Upstream,
    rules: Vec<Rule>,
    counts: Counts,
    requests: Vec<Request>,
    in_flight: usize,
    connections: u64,
    sockets: HashMap<u64, TcpStream>,
    threads: Vec<JoinHandle<()>>,
    ended: bool,
}

struct Rule {
    on: On,
    set_at: Counts,
    action: Action,
}

#[derive(Default, Clone)]
struct Counts {
    all: u64,
    by_kind: HashMap<Endpoint, u64>,
}

impl Counts {
    fn of(&self, kind: Option<Endpoint>) -> u64 {
        kind.map_or(self.all, |kind| self.by_kind.get(&kind).copied().unwrap_or(0))
    }
}

impl DataPass {
    /// Starts one without demandes on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::listen(Shared::default(), "127.0.0.1")
    }

    /// Starts one that serves TLS; its URLs contain `host`.
    pub fn start_tls(config: Arc<rustls::ServerConfig>, host: &str) -> Self {
        Self::listen(Shared { tls: Some(config), ..Shared::default() }, host)
    }

    fn listen(shared: Shared, host: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if shared.tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(shared);
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &accepting));
        Self { address, host: host.to_owned(), scheme, shared, acceptor: Some(acceptor) }
    }

    /// Returns the socket's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}:{}{path}", self.scheme, self.host, self.address.port())
    }

    /// Returns the token URL.
    pub fn auth_url(&self) -> String {
        self.url("/api/oauth/token")
    }

    /// Returns the API's base.
    pub fn api_base_url(&self) -> String {
        self.url("/api/v1")
    }

    /// Returns the account's client id and secret.
    pub fn credentials(&self) -> (String, String) {
        self.with(|upstream| (upstream.client_id.clone(), upstream.client_secret.clone()))
    }

    /// Reads or changes the state between two requests.
    pub fn with<T>(&self, work: impl FnOnce(&mut Upstream) -> T) -> T {
        work(&mut self.shared.lock().upstream)
    }

    /// Adds a demande.
    pub fn add(&self, demande: Demande) {
        self.with(|upstream| upstream.add(demande));
    }

    /// Changes the state right before each of these requests is answered.
    pub fn before(&self, on: On, work: impl FnMut(&mut Upstream) + Send + 'static) {
        self.rule(on, Action::Hook(Box::new(work)));
    }

    /// Sets a fault at these requests.
    pub fn fault(&self, on: On, fault: Fault) {
        self.rule(on, Action::Fault(fault));
    }

    /// Holds these requests, before they are answered, until the gate is opened.
    pub fn gate(&self, on: On) -> Gate {
        let gate = Gate::default();
        self.rule(on, Action::Gate(gate.clone()));
        gate
    }

    fn rule(&self, on: On, action: Action) {
        let mut inner = self.shared.lock();
        let set_at = inner.counts.clone();
        inner.rules.push(Rule { on, set_at, action });
    }

    /// Removes hooks, gates and faults.
    pub fn clear_rules(&self) {
        for rule in self.shared.lock().rules.drain(..) {
            if let Action::Gate(gate) = rule.action {
                gate.open();
            }
        }
    }

    /// Returns the requests received so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Returns the requests of a kind received so far.
    pub fn requests_of(&self, kind: Endpoint) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.endpoint == kind);
        requests
    }

    /// Takes the requests received so far.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.lock().requests)
    }
}

impl Drop for DataPass {
    fn drop(&mut self) {
        self.clear_rules();
        let mut inner = self.shared.lock();
        inner.ended = true;
        self.shared.ended.notify_all();
        for socket in inner.sockets.values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        drop(inner);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let threads = std::mem::take(&mut self.shared.lock().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Locks the state. A panic of a hook is the test's own failure and shows there.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits; returns whether the server still runs.
    fn linger(&self, time: Duration) -> bool {
        let inner = self.lock();
        if time == Duration::MAX {
            drop(self.ended.wait_while(inner, |inner| !inner.ended));
            return false;
        }
        self.ended
            .wait_timeout_while(inner, time, |inner| !inner.ended)
            .is_ok_and(|end| !end.0.ended)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        let mut inner = shared.lock();
        if inner.ended {
            return;
        }
        let Ok(socket) = socket else { continue };
        let _ = socket.set_nodelay(true);
        inner.connections += 1;
        let number = inner.connections;
        inner.sockets.insert(number, socket.try_clone().unwrap());
        let serving = Arc::clone(shared);
        inner.threads.push(thread::spawn(move || {
            // The client notices an error of the connection.
            let _ = serve(socket, number, &serving);
            if let Some(socket) = serving.lock().sockets.remove(&number) {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }));
    }
}

fn serve(socket: TcpStream, number: u64, shared: &Shared) -> io::Result<()> {
    let connection = match &shared.tls {
        Some(config) => {
            let session = rustls::ServerConnection::new(Arc::clone(config));
            let session = session.map_err(io::Error::other)?;
            Connection::Tls(Box::new(rustls::StreamOwned::new(session, socket)))
        }
        None => Connection::Plain(socket),
    };
    let mut stream = BufReader::new(connection);
    while let Some(mut request) = Request::read(&mut stream)? {
        request.connection = number;
        let (response, fault) = shared.response(request);
        let keep_alive =
            response.send(stream.get_mut(), fault.as_ref(), |time| shared.linger(time));
        shared.lock().in_flight -= 1;
        if !keep_alive? {
            break;
        }
    }
    Ok(())
}

impl Shared {
    /// Makes the response to a request, and the fault to send it with.
    fn response(&self, mut request: Request) -> (Response, Option<Fault>) {
        let mut inner = self.lock();
        inner.in_flight += 1;
        request.in_flight = inner.in_flight;
        inner.requests.push(request.clone());
        inner.counts.all += 1;
        *inner.counts.by_kind.entry(request.endpoint).or_default() += 1;

        let counts = inner.counts.clone();
        let applies = |rule: &Rule| {
            let kind = rule.on.endpoint();
            kind.is_none_or(|kind| kind == request.endpoint)
                && rule.on.selects(counts.of(kind) - rule.set_at.of(kind))
        };
        let mut gates = Vec::new();
        let mut faults = Vec::new();
        for rule in inner.rules.iter().filter(|rule| applies(rule)) {
            match &rule.action {
                Action::Gate(gate) => gates.push(gate.clone()),
                Action::Fault(fault) => faults.push(fault.clone()),
                Action::Hook(_) => {}
            }
        }
        drop(inner);
        gates.iter().for_each(Gate::pass);
        for fault in &faults {
            if let Fault::Delay(time) = fault {
                self.linger(*time);
            }
        }

        let mut inner = self.lock();
        let Inner { upstream, rules, .. } = &mut *inner;
        for rule in rules.iter_mut().filter(|rule| applies(rule)) {
            if let Action::Hook(work) = &mut rule.action {
                work(upstream);
            }
        }
        let mut response = api::response(upstream, &request);
        let date = upstream.date.then(|| SystemTime::from(upstream.now()));
        let accepts = request.header("accept-encoding").is_some_and(|list| list.contains("gzip"));
        let compress = upstream.gzip && accepts;
        drop(inner);

        if let Some(time) = date {
            response.set_header("Date", &httpdate::fmt_http_date(time));
        }
        let mut sending_fault = None;
        for fault in faults {
            match fault {
                Fault::Delay(_) => {}
                Fault::Edit(change) => change(&mut response),
                Fault::Status(status, headers) => {
                    response.status = status;
                    response.body = api::error(status).body;
                    headers.iter().for_each(|(name, value)| response.set_header(name, value));
                }
                Fault::Response(status, kind, body) => {
                    response.status = status;
                    response.body = body;
                    response.set_header("Content-Type", kind);
                }
                Fault::Redirect(target) => {
                    response.status = 302;
                    response.body.clear();
                    response.set_header("Location", &target);
                }
                Fault::DecompressionBomb(mebibytes) => {
                    response.body = decompression_bomb(mebibytes);
                    response.set_header("Content-Encoding", "gzip");
                }
                other => sending_fault = Some(other),
            }
        }
        let encoded =
            response.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
        if compress && !encoded {
            response.compress();
        }
        (response, sending_fault)
    }
}

/// A gate that holds requests. Clones share its state.
#[derive(Clone, Default)]
pub struct Gate {
    shared: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Default)]
struct GateState {
    open: bool,
    arrived: usize,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, GateState> {
        self.shared.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn pass(&self) {
        let mut state = self.state();
        state.arrived += 1;
        self.shared.1.notify_all();
        drop(self.shared.1.wait_while(state, |state| !state.open));
    }

    /// Waits until a request is at the gate; panics after a minute.
    pub fn reached(&self) {
        self.reached_by(1);
    }

    /// Waits until this many requests have reached the gate; panics after a minute.
    pub fn reached_by(&self, requests: usize) {
        let minute = Duration::from_secs(60);
        let waited =
            self.shared.1.wait_timeout_while(self.state(), minute, |gate| gate.arrived < requests);
        assert!(waited.is_ok_and(|(_, end)| !end.timed_out()), "no request reached the gate");
    }

    /// Lets all held and later requests through.
    pub fn open(&self) {
        self.state().open = true;
        self.shared.1.notify_all();
    }
}
