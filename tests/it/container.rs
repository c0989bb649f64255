//! The static binary as process 1 of a minimal container: with the root file system that
//! `Containerfile` makes, read-only, as a user without a name or a home directory, without `/tmp`,
//! `/dev` and `/proc`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::ingest::Ingest;
use crate::harness::*;

/// The most bytes that the release binary may have.
const MAX_BINARY_BYTES: usize = 7_000_000;

/// ELF types that a static and stripped binary does not contain: a loader, a symbol table.
const PT_INTERP: usize = 3;
const SHT_SYMTAB: usize = 2;

/// Enters new namespaces and the image's root: `sh -c … sh ROOT USER ENTRY (our own path) ARGUMENT…`.
const ENTER: &str = r#"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$1 user=$2 entry=$3
shift 4
exec unshare --pid --fork --kill-child --mount sh -c '
    root=$1 user=$2 entry=$3
    shift 3
    mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" &&
        exec chroot --userspec="$user" "$root" "$entry" "$@"' sh "$root" "$user" "$entry" "$@""#;

/// Enters only the root; [`ENTER_NOTHING`] not even that.
const ENTER_ROOT: &str = r#"
root=$1 user=$2 entry=$3
shift 4
exec /usr/sbin/chroot --userspec="$user" "$root" "$entry" "$@""#;
const ENTER_NOTHING: &str = r#"
root=$1 entry=$3
shift 4
SSL_CERT_FILE=$root/etc/ssl/certs/ca-certificates.crt SSL_CERT_DIR=/nowhere exec "$root$entry" "$@""#;

const CONTAINERFILE: &str = include_str!("../../Containerfile");

/// The image that the last stage of `Containerfile` describes.
struct Image {
    root: tempfile::TempDir,
    user: String,
    entry: String,
}

impl Image {
    /// Assembles the root from the `COPY` lines; `keep` selects the files to copy.
    fn assemble(keep: impl Fn(&str) -> bool) -> Self {
        let (_, stage) = CONTAINERFILE.split_once("FROM scratch\n").unwrap();
        let mut image =
            Self { root: tempfile::tempdir().unwrap(), user: String::new(), entry: String::new() };
        let root = image.root.path().to_owned();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        for line in stage.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["COPY", "--from=build", from, to] if keep(to) => {
                    let from = match from.ends_with("/release/datapass-pull") {
                        true => release_binary(),
                        false => Path::new(from),
                    };
                    let to = root.join(to.trim_start_matches('/'));
                    fs::create_dir_all(to.parent().unwrap()).unwrap();
                    fs::copy(from, to).unwrap();
                }
                ["COPY" | "ARG" | "LABEL", ..] => {}
                ["USER", user] => user.clone_into(&mut image.user),
                ["ENTRYPOINT", words] => {
                    let [entry]: [String; 1] = serde_json::from_str(words).unwrap();
                    image.entry = entry;
                }
                _ => panic!("unknown instruction: {line}"),
            }
        }
        let (user, group) = image.user.split_once(':').unwrap();
        assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
        image
    }

    /// Runs the binary in the image, as process 1 if the kernel allows that.
    fn run(&self, run: Run, user: &str) -> Run {
        let root = self.root.path().to_str().unwrap();
        let enter = match isolation() {
            Isolation::Namespaces => ENTER,
            Isolation::Root => ENTER_ROOT,
            Isolation::Nothing => ENTER_NOTHING,
        };
        run.through(["sh", "-c", enter, "sh", root, user, &self.entry])
    }
}

#[test]
fn the_release_binary_is_small_static_and_stripped() {
    let file = fs::read(release_binary()).unwrap();
    assert!(file.len() <= MAX_BINARY_BYTES, "{} bytes", file.len());
    // elf(5), 64 bits, little-endian: the offset of a table, and its number of entries.
    assert_eq!(file[..6], *b"\x7fELF\x02\x01");
    let number = |at: usize, bytes: usize| {
        let bytes = file[at..at + bytes].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let table = |at: usize, size: usize, count: usize| {
        (0..number(count, 2)).map(move |entry| number(at, 8) + entry * number(size, 2))
    };
    let mut programs = table(0x20, 0x36, 0x38);
    assert!(programs.all(|at| number(at, 4) != PT_INTERP), "it needs a loader");
    let mut sections = table(0x28, 0x3a, 0x3c);
    assert!(sections.all(|at| number(at + 4, 4) != SHT_SYMTAB), "it has symbols");
}

#[test]
fn the_image_is_pinned_labelled_and_for_any_architecture() {
    let bases = CONTAINERFILE.lines().filter(|line| line.starts_with("FROM "));
    for base in bases.filter(|base| *base != "FROM scratch") {
        let (_, digest) = base.split_once("@sha256:").expect("a digest");
        assert_eq!(digest.find(' '), Some(64), "{base}");
    }
    for architecture in ["x86_64", "aarch64", "--target"] {
        assert!(!CONTAINERFILE.contains(architecture), "{architecture}");
    }
    let label = |name: &str| {
        let start = format!("LABEL org.opencontainers.image.{name}=");
        let mut values = CONTAINERFILE.lines().filter_map(|line| line.strip_prefix(&start));
        values.next().unwrap_or_else(|| panic!("{name}")).trim_matches('"').to_owned()
    };
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("revision"), "$REVISION");
    assert_eq!(label("source"), "$SOURCE");
}

#[test]
fn a_cycle_succeeds_in_a_minimal_container() {
    let image = Image::assemble(|_| true);
    for (user, zone) in
        [(&*image.user, None), ("12345:12345", Some(":Nowhere/Else")), ("0:0", Some(""))]
    {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        upstream.add(Demande::cnous(1));
        let mut run = Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
        if let Some(zone) = zone {
            run = run.env("TZ", zone);
        }
        assert_eq!(image.run(run, user).output().success().created, 1, "{user}");
    }
}

/// The ids of reports are random, and there is no `/dev/urandom`.
#[test]
fn a_report_is_sent_from_a_minimal_container() {
    let image = Image::assemble(|to| to.ends_with("/datapass-pull"));
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1).siret("1"));
    let ingest = Ingest::start();
    let run = Run::cycle(&upstream, &database)
        .env("SENTRY_DSN", ingest.dsn().replace("localhost", "127.0.0.1"))
        .args(["--enqueue", "none"])
        .stderr("Rejected D1");
    image.run(run, &image.user).output().success();
    assert_eq!(ingest.events().len(), 1);
}

#[test]
fn https_without_a_root_certificate_is_a_clear_error() {
    let image = Image::assemble(|to| to.ends_with("/datapass-pull"));
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run = Run::cycle(&upstream, &database)
        .env("DATAPASS_AUTH_URL", "https://datapass.invalid/token")
        .env("DATAPASS_API_BASE_URL", "https://datapass.invalid/api")
        .env("SENTRY_DSN", "https://public@sentry.invalid/42")
        .stderr("Cannot notify Sentry: No root certificate");
    let outcome = image.run(run, &image.user).output();
    outcome.permanent("configuration");
    let failure = outcome.stderr.lines().last().unwrap();
    assert!(failure.contains("No root certificate"), "{failure}");
}

#[test]
fn a_database_url_without_a_user_needs_a_user_name_of_the_process() {
    if isolation() == Isolation::Nothing {
        // The user of this process has a name, so that the error cannot occur.
        return;
    }
    let image = Image::assemble(|_| true);
    let upstream = DataPass::start();
    let run = Run::cycle(&upstream, &Database::empty()).env("DATABASE_URL", "postgres://127.0.0.1");
    let outcome = image.run(run, &image.user).output();
    outcome.permanent("configuration");
    assert!(outcome.stderr.contains("DATABASE_URL names no user"), "{}", outcome.stderr);
    assert!(upstream.requests().is_empty());
}

#[test]
fn process_one_ends_within_two_seconds_after_a_signal() {
    let image = Image::assemble(|_| true);
    for signal in ["TERM", "INT", "HUP"] {
        let (upstream, database) = (DataPass::start(), Database::migrated());
        let gate = upstream.gate(On::page(1));
        let run = Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
        let running = image.run(run, &image.user).spawn();
        gate.reached();
        let pid = running.pid();
        let pid = match isolation() {
            Isolation::Namespaces => {
                fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap()
            }
            _ => pid.to_string(),
        };
        let kill = ["-c", "kill -s \"$0\" \"$1\"", signal, pid.trim()];
        assert!(Command::new("sh").args(kill).status().unwrap().success());
        running.wait_after_signal().transient("interrupted");
        gate.open();
    }
}
