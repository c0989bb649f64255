//! Running whole processes in pairs, and the fake DataPass that they use.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::harness::Database;
use crate::harness::datapass::DEFINITION;

/// The number of pairs of which the median is taken.
const PAIRS: usize = 7;

/// The process of the fake DataPass.
pub struct Upstream {
    child: Child,
    base: String,
}

impl Upstream {
    /// Starts one that lists `count` demandes and takes `delay` for each page.
    pub fn start(count: usize, delay: Duration, gzip: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", &count.to_string(), &delay.as_millis().to_string()])
            .arg(if gzip { "gzip" } else { "plain" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, base: format!("http://127.0.0.1:{}", port.trim()) }
    }

    /// Returns the baseline of reading: one `curl` that reads these pages over one connection.
    pub fn curl(&self, offsets: &[u64]) -> Command {
        let mut command = Command::new("curl");
        command.args(["-sSfg", "--compressed", "-H", "Authorization: Bearer t"]);
        for offset in offsets {
            let url =
                format!("{}/api/demandes?state[]=validated&limit=1000&offset={offset}", self.base);
            command.args(["-o", "/dev/null", &url]);
        }
        command
    }

    /// Runs a cycle and returns the offsets of the pages that it read, from its log.
    pub fn offsets(&self, database: &Database) -> Vec<u64> {
        let output = self.cycle(database).arg("-v").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let log = String::from_utf8(output.stderr).unwrap();
        let mut offsets: Vec<u64> = log
            .lines()
            .filter_map(|line| line.split_once("Page at offset ")?.1.split_once(':'))
            .map(|(offset, _)| offset.parse().unwrap())
            .collect();
        offsets.sort_unstable();
        offsets
    }

    /// Returns a cycle against a database.
    pub fn cycle(&self, database: &Database) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_datapass-pull"));
        command.env_clear();
        self.configure(&mut command, database);
        command
    }

    /// Sets the variables for this server and a database.
    pub fn configure(&self, command: &mut Command, database: &Database) {
        command
            .env("DATAPASS_AUTH_URL", format!("{}/token", self.base))
            .env("DATAPASS_API_BASE_URL", format!("{}/api", self.base))
            .env("DATAPASS_CLIENT_ID", "bench")
            .env("DATAPASS_CLIENT_SECRET", "bench")
            .env("DATAPASS_DEFINITION_ID", DEFINITION)
            .env("DATABASE_URL", database.url());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the benchmark holds: it fails when a value is above its limit.
#[derive(Default)]
pub struct Limits {
    exceeded: Vec<String>,
}

impl Limits {
    /// Compares a value with the most that it may be.
    pub fn hold(&mut self, name: &str, value: f64, limit: f64) {
        if value > limit {
            self.exceeded.push(format!("{name} {value:.2} is above {limit:.2}"));
        }
    }

    /// Prints what exceeded its limit, and returns the status of the benchmark.
    pub fn conclude(self) -> ExitCode {
        for line in &self.exceeded {
            println!("limit exceeded: {line}");
        }
        match self.exceeded.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}

/// Runs a command to its end and returns the wall time; it must succeed.
pub fn run(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let spent = begun.elapsed();
    assert!(output.status.success(), "{command:?}: {output:?}");
    spent
}

/// Runs a command and returns its largest resident set in bytes.
///
/// It runs the command through `time`, since the kernel counts the parent's memory before `exec` as
/// the child's.
pub fn peak_bytes(command: &Command) -> u64 {
    let mut timed = Command::new("time");
    timed.args(["-q", "-f", "%M"]).arg(command.get_program());
    timed.args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        timed.env(name, value.unwrap_or_default());
    }
    timed.env("PATH", "/usr/bin:/bin");
    let output = timed.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{timed:?}: {output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let kibibytes: u64 = text.trim().lines().last().unwrap().parse().unwrap();
    kibibytes * 1024
}

/// The medians of pairs.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub baseline: Duration,
    pub tool: Duration,
    /// The median of the ratios of the pairs.
    pub ratio: f64,
}

/// Runs baseline and tool one after the other, several times.
pub fn pairs(mut baseline: impl FnMut() -> Duration, mut tool: impl FnMut() -> Duration) -> Pair {
    let mut spent: Vec<(Duration, Duration)> = Vec::new();
    for _ in 0..PAIRS {
        let baseline = baseline();
        spent.push((baseline, tool()));
    }
    let ratios = spent.iter().map(|(baseline, tool)| tool.as_secs_f64() / baseline.as_secs_f64());
    Pair {
        baseline: median(spent.iter().map(|(baseline, _)| *baseline).collect()),
        tool: median(spent.iter().map(|(_, tool)| *tool).collect()),
        ratio: median(ratios.collect()),
    }
}

/// Returns the median of an odd number of values.
pub fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).unwrap());
    values[values.len() / 2]
}
