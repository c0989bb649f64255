//! Decodes the page in a file and prints how many elements and entries it has; the tests count the
//! instructions of this program.

// A test program may panic and print.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs::File;

use datapass_pull::cycle::list::decode::decode;
use datapass_pull::net::body::MAX_BODY_BYTES;

fn main() {
    let mut args = std::env::args().skip(1);
    let (file, wanted) = (args.next().unwrap(), args.next().unwrap());
    let elements = decode(File::open(file).unwrap(), MAX_BODY_BYTES, &wanted).unwrap();
    let entries = elements.iter().filter(|element| element.entry.is_some());
    println!("{} {}", elements.len(), entries.count());
}
