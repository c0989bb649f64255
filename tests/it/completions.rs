//! The completion scripts, each run in its shell.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::Run;

/// A folder with what `completions SHELL` prints.
struct Script {
    folder: tempfile::TempDir,
    shell: &'static str,
}

impl Script {
    fn of(shell: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let outcome = Run::new(["completions", shell]).output();
        outcome.assert_success();
        fs::write(folder.path().join("script"), &outcome.stdout).unwrap();
        Self { folder, shell }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("script")
    }

    /// Runs the shell without a user's settings; it may print nothing on standard error.
    fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let output = Command::new(self.shell)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .output();
        let shell = self.shell;
        let output = output
            .unwrap_or_else(|error| panic!("{shell} is needed: apt-get install {shell}: {error}"));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
        assert!(output.status.success(), "{shell}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Completes the last word of a line in bash, with the script that readline would call.
fn bash(script: &Script, line: &str) -> Vec<String> {
    // `compopt` works only inside of readline.
    const COMPLETE: &str = r#"
        compopt() { :; }
        . "$1" && shift
        [[ $(complete -p datapass-pull) =~ -F\ ([^ ]+) ]] || exit
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let file = script.file().display().to_string();
    let words = ["--norc", "-c", COMPLETE, "bash", &file];
    let offered = script.run(words.into_iter().chain(line.split(' ')));
    offered.lines().map(str::to_owned).collect()
}

/// Returns every line that ends in a command, with the options and commands that may follow it.
fn lines() -> Vec<(String, Vec<String>)> {
    fn walk(
        command: &clap::Command,
        line: String,
        inherited: &[String],
        lines: &mut Vec<(String, Vec<String>)>,
    ) {
        let options = |only_global: bool| {
            let arguments = command.get_arguments();
            let selected = arguments.filter(move |it| !only_global || it.is_global_set());
            selected.filter_map(|it| Some(format!("--{}", it.get_long()?)))
        };
        let names = command.get_subcommands();
        let names = names.map(|sub| sub.get_name().to_owned());
        let words = options(false).chain(inherited.to_vec()).chain(names);
        lines.push((line.clone(), words.collect()));
        let inherited: Vec<String> = options(true).chain(inherited.to_vec()).collect();
        for sub in command.get_subcommands() {
            walk(sub, format!("{line} {}", sub.get_name()), &inherited, lines);
        }
    }
    let mut lines = Vec::new();
    let command = datapass_pull::cli::command();
    walk(&command, "datapass-pull".to_owned(), &[], &mut lines);
    assert!(lines.len() > 10);
    lines
}

#[test]
fn bash_completes_commands_options_and_values() {
    let script = Script::of("bash");
    for (line, words) in lines() {
        let offered = bash(&script, &format!("{line} "));
        for word in words {
            assert!(offered.contains(&word), "{line} {word}: {offered:?}");
        }
    }
    for (line, expected) in [
        ("datapass-pull sch", &["schedule"][..]),
        ("datapass-pull schedule k", &["kubernetes"]),
        ("datapass-pull rejected acc", &["accept"]),
        ("datapass-pull --env-f", &["--env-file"]),
        ("datapass-pull --enqueue ", &["auto", "good_job", "none"]),
        ("datapass-pull status --format j", &["json"]),
        ("datapass-pull completions z", &["zsh"]),
        ("datapass-pull --env-file scr", &["script"]),
        ("datapass-pull watermark frobnicate", &[""]),
    ] {
        assert_eq!(bash(&script, line), expected, "{line}");
    }
}

#[test]
fn fish_completes_commands_and_options() {
    let script = Script::of("fish");
    let mut asked: Vec<(String, String)> = Vec::new();
    for (line, words) in lines() {
        for word in words {
            asked.push((format!("{line} {}", &word[..3.min(word.len())]), word));
        }
    }
    for (line, word) in
        [("datapass-pull status --format j", "json"), ("datapass-pull --env-file scr", "script")]
    {
        asked.push((line.to_owned(), word.to_owned()));
    }
    const COMPLETE: &str = "source script
        for line in $argv
            echo -- (complete -C $line | string split -f 1 \\t)
        end";
    let asked_lines = asked.iter().map(|(line, _)| line.as_str());
    let offered = script.run(["--no-config", "-c", COMPLETE].into_iter().chain(asked_lines));
    assert_eq!(offered.lines().count(), asked.len(), "{offered}");
    for ((line, word), offered) in asked.iter().zip(offered.lines()) {
        let mut offers = offered.split_whitespace();
        assert!(offers.any(|offer| offer == word), "{line} {word}: {offered}");
    }
}

#[test]
fn zsh_finds_the_completion_function() {
    let script = Script::of("zsh");
    script.run(["-n", "script"]);
    // In a folder of functions, as it is installed
    fs::rename(script.file(), script.file().with_file_name("_datapass-pull")).unwrap();
    const FIND: &str =
        "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; print $_comps[datapass-pull]";
    assert_eq!(script.run(["-f", "-c", FIND]), "_datapass-pull\n");
}
