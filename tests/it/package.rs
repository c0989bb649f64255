//! The Debian package: built by `.ci/package`, installed into an empty root folder, used and removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::*;

/// Every file that the package installs.
const FILES: [&str; 13] = [
    "usr/bin/datapass-pull",
    "usr/lib/systemd/system/datapass-pull.service",
    "usr/lib/systemd/system/datapass-pull.timer",
    "usr/share/bash-completion/completions/datapass-pull",
    "usr/share/doc/datapass-pull/README.md",
    "usr/share/doc/datapass-pull/changelog.Debian.gz",
    "usr/share/doc/datapass-pull/changelog.gz",
    "usr/share/doc/datapass-pull/copyright",
    "usr/share/doc/datapass-pull/crates.txt",
    "usr/share/doc/datapass-pull/examples/.env.template",
    "usr/share/fish/vendor_completions.d/datapass-pull.fish",
    "usr/share/lintian/overrides/datapass-pull",
    "usr/share/zsh/vendor-completions/_datapass-pull",
];

/// Returns what a command prints to standard output; it must succeed.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let logged = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command:?}: {logged}{printed}");
    printed
}

fn build_package() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/package");
    printed(&mut Command::new(script)).trim().into()
}

/// A root folder that contains only dpkg's own database.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let tables = root.path().join("var/lib/dpkg");
        fs::create_dir_all(tables.join("updates")).unwrap();
        fs::create_dir_all(tables.join("info")).unwrap();
        fs::write(tables.join("status"), "").unwrap();
        Self(root)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn dpkg(&self, arguments: &[&str]) {
        printed(
            Command::new("dpkg")
                .arg(format!("--root={}", self.0.path().display()))
                .args(["--force-not-root", "--force-script-chrootless"])
                .args(["--log=/dev/null"])
                .args(arguments),
        );
    }

    /// Returns every file and link outside of dpkg's database.
    fn files(&self) -> BTreeSet<String> {
        let root = self.0.path().to_str().unwrap();
        let found = printed(
            Command::new("find")
                .args([root, "-path", &format!("{root}/var/lib/dpkg"), "-prune", "-o"])
                .args(["!", "-type", "d", "-printf", "%P\n"]),
        );
        found.lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_package_installs_works_and_is_removed_completely() {
    let package = build_package();
    let lintian = printed(Command::new("lintian").arg("--fail-on=error,warning").arg(&package));
    assert_eq!(lintian, "");
    let root = Root::new();
    root.dpkg(&["--install", package.to_str().unwrap()]);

    // Each manual page is installed too.
    let manual = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/man")).unwrap();
    let pages: Vec<String> = manual
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .map(|page| format!("usr/share/man/man{}/{page}.gz", page.rsplit('.').next().unwrap()))
        .collect();
    let files = FILES.map(str::to_owned).into_iter();
    let expected: BTreeSet<String> = files.chain(pages.iter().cloned()).collect();
    let installed = root.files();
    let own = installed.iter().filter(|file| file.starts_with("usr/"));
    assert_eq!(own.cloned().collect::<BTreeSet<_>>(), expected);
    // The timer is not enabled.
    assert!(!installed.iter().any(|file| file.starts_with("etc/")), "{installed:?}");

    let binary = root.path("usr/bin/datapass-pull");
    let version = printed(Command::new(&binary).arg("-V"));
    assert_eq!(version, concat!("datapass-pull ", env!("CARGO_PKG_VERSION"), "\n"));
    for page in pages {
        let text = printed(Command::new("mandoc").args(["-T", "utf8"]).arg(root.path(&page)));
        assert!(text.contains("datapass-pull"), "{page}: {text}");
    }
    let completion = root.path("usr/share/bash-completion/completions/datapass-pull");
    let script = format!("source {}; complete -p datapass-pull", completion.display());
    let registered = printed(Command::new("bash").args(["-c", &script]));
    assert!(registered.contains("-F _datapass_pull"), "{registered}");
    check_units(&root, &binary);

    root.dpkg(&["--purge", "datapass-pull"]);
    assert_eq!(root.files(), BTreeSet::new());
    assert!(!root.path("usr").exists());
}

/// Checks that the installed units are valid and start the installed program.
fn check_units(root: &Root, binary: &Path) {
    let copies = tempfile::tempdir().unwrap();
    let units = ["datapass-pull.service", "datapass-pull.timer"].map(|name| {
        let unit = fs::read_to_string(root.path("usr/lib/systemd/system").join(name)).unwrap();
        assert_eq!(unit.contains("\nExecStart=/usr/bin/datapass-pull "), name.ends_with("service"));
        let copy = copies.path().join(name);
        fs::write(&copy, unit.replace("/usr/bin/datapass-pull", binary.to_str().unwrap())).unwrap();
        copy
    });
    printed(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units));
}

#[test]
fn the_long_version_names_commit_target_and_tls() {
    let short = Run::new(["-V"]).output();
    short.assert_success();
    let first = concat!("datapass-pull ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(short.stdout, first);
    let long = Run::new(["--version"]).output();
    long.assert_success();
    let rest = long.stdout.strip_prefix(first).expect(&long.stdout);
    let lines: Vec<_> = rest.lines().map(|line| line.split_once(": ").unwrap()).collect();
    let [("commit", commit), ("target", target), ("TLS", "rustls with ring")] = lines[..] else {
        panic!("{rest}");
    };
    let hash = commit.trim_end_matches("-dirty");
    let is_hash = hash.len() >= 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || commit == "unknown", "{commit}");
    assert!(target.contains("-linux-"), "{target}");
}
