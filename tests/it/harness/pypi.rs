//! Tools that only the Python Package Index has, in a virtual environment.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the folder of the programs of a package, `name==version`; installed on first use.
///
/// Without Python or without a way to the index the test fails, and says what it needs.
pub fn programs(package: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pypi");
    let bin = home.join("bin");
    // Tests may run at once.
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

/// Does a work unless its mark is there, and leaves the mark.
fn once(mark: &Path, work: impl FnOnce()) {
    if !mark.exists() {
        work();
        File::create(mark).unwrap();
    }
}

fn run(command: &mut Command, need: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{need}: {error}"));
    assert!(output.status.success(), "{need}\n{}", String::from_utf8_lossy(&output.stderr));
}
