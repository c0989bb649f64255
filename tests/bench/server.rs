//! A fake DataPass that is never the bottleneck: pages are slices of one prepared string.
//!
//! It runs as a separate process, so that neither its memory nor its processor time counts as the
//! tool's. It ends when its standard input ends.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::demandes::Listing;
use crate::harness::datapass::DEFINITION;

/// Compressed pages, by offset and limit.
type Compressed = HashMap<(usize, usize), Arc<Vec<u8>>>;

struct Server {
    listing: Listing,
    delay: Duration,
    gzip: bool,
    /// Made on first use, in a warm-up run.
    compressed: Mutex<Compressed>,
}

/// Serves `count` demandes until standard input ends; prints the port.
pub fn serve(count: usize, delay: Duration, gzip: bool) {
    let server = Arc::new(Server {
        listing: Listing::new(count),
        delay,
        gzip,
        compressed: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            // A client that disconnects ends only its own connection.
            thread::spawn(move || server.handle_connection(stream));
        }
    });
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}

impl Server {
    fn handle_connection(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let (mut length, mut accepts_gzip) = (0, false);
            loop {
                line.clear();
                if reader.read_line(&mut line)? <= 2 {
                    break;
                }
                let header = line.to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                accepts_gzip |= header.starts_with("accept-encoding:") && header.contains("gzip");
            }
            io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
            self.respond(&mut writer, &target, accepts_gzip && self.gzip)?;
        }
    }

    fn respond(&self, writer: &mut TcpStream, target: &str, gzip: bool) -> io::Result<()> {
        if target.starts_with("/token") {
            return send(writer, "", &[br#"{"access_token":"t","token_type":"Bearer"}"#]);
        }
        if target.contains("/definitions") {
            return send(writer, "", &[format!("[{{\"id\":\"{DEFINITION}\"}}]").as_bytes()]);
        }
        let number = |name: &str| -> usize {
            let rest = target.split(name).nth(1).unwrap_or_default();
            rest.split('&').next().unwrap_or_default().parse().unwrap_or(0)
        };
        let (offset, limit) = (number("offset="), number("limit=").min(1000));
        thread::sleep(self.delay);
        let rows = self.listing.rows(offset, limit).as_bytes();
        if !gzip {
            return send(writer, "", &[b"[", rows, b"]"]);
        }
        let page = {
            let mut compressed = self.compressed.lock().unwrap();
            let page = compressed.entry((offset, limit)).or_insert_with(|| {
                let level = flate2::Compression::new(5);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                for part in [b"[", rows, b"]"] {
                    encoder.write_all(part).unwrap();
                }
                Arc::new(encoder.finish().unwrap())
            });
            Arc::clone(page)
        };
        send(writer, "Content-Encoding: gzip\r\n", &[&page])
    }
}

fn send(writer: &mut TcpStream, headers: &str, body: &[&[u8]]) -> io::Result<()> {
    let length: usize = body.iter().map(|part| part.len()).sum();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: {date}\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    writer.write_all(head.as_bytes())?;
    body.iter().try_for_each(|part| writer.write_all(part))
}
