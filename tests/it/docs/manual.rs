//! The manual's sections that follow from the binary, written from its own definitions.

use std::fmt::Write as _;

use clap::{Arg, Command};
use datapass_pull::cli::variables::VARIABLES;
use datapass_pull::error::Reason;

/// Returns the manual with those sections written anew; the others are kept.
pub(super) fn rewritten(manual: &str) -> String {
    let mut command = datapass_pull::cli::command();
    command.build();
    let mut sections = manual.split("\n.Sh ");
    let mut text = sections.next().unwrap().to_owned();
    for section in sections {
        let title = section.lines().next().unwrap();
        let body = match title {
            "SYNOPSIS" => synopsis(&command),
            "COMMANDS" => list(leaves(&command).iter().map(|leaf| leaf.item(&command))),
            "OPTIONS" => list(options(&command, None).map(|it| shared(it, &command))),
            "ENVIRONMENT" => list(variables()),
            "EXIT STATUS" => list(statuses(&command)),
            _ => {
                text += &format!("\n.Sh {section}");
                continue;
            }
        };
        // What stands before a list stays.
        let head = section.split(".Bl -tag").next().unwrap();
        let head = head.strip_prefix(title).unwrap().trim_start();
        let head = if title == "SYNOPSIS" { "" } else { head };
        let body = format!("{head}{body}");
        text += &format!("\n.Sh {title}\n{}", body.trim_end());
    }
    text
}

/// A command that has none below it: the words that call it.
struct Leaf {
    words: String,
    command: Command,
}

fn leaves(root: &Command) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    for command in root.get_subcommands() {
        let below = command.get_subcommands().filter(|sub| sub.get_name() != "help");
        let below: Vec<&Command> = below.collect();
        if below.is_empty() || command.get_name() == "help" {
            let (words, command) = (command.get_name().to_owned(), command.clone());
            leaves.push(Leaf { words, command });
            continue;
        }
        for sub in below {
            let words = format!("{} {}", command.get_name(), sub.get_name());
            let command = sub.clone();
            leaves.push(Leaf { words, command });
        }
    }
    leaves
}

impl Leaf {
    /// Writes what may follow the words, one macro each.
    fn arguments(&self, root: &Command) -> Vec<String> {
        let positionals = self.command.get_positionals().filter(|_| self.words != "help");
        let positionals = positionals.map(|argument| format!("Ar {}", value(argument)));
        let own = options(&self.command, Some(root)).map(|argument| {
            let flag = match argument.get_action().takes_values() {
                true => format!("Fl -{} Ar {}", argument.get_long().unwrap(), value(argument)),
                false => format!("Fl -{}", argument.get_long().unwrap()),
            };
            match argument.is_required_set() {
                true => flag,
                false => format!("Oo {flag} Oc"),
            }
        });
        positionals.chain(own).collect()
    }

    fn item(&self, root: &Command) -> String {
        let mut text = format!(".It Cm {}", self.words);
        for argument in self.arguments(root) {
            let _ = write!(text, " {argument}");
        }
        let about = self.command.get_long_about().or(self.command.get_about());
        text += &format!("\n{}", sentences(&about.unwrap().to_string()));
        let own = options(&self.command, Some(root)).map(option);
        let own: Vec<String> = own.collect();
        if !own.is_empty() {
            text += &list(own.into_iter()).replace("-width Ds", "-width Ds -compact");
        }
        text
    }
}

fn synopsis(root: &Command) -> String {
    let mut text = ".Nm\n.Op Ar options\n.Op Cm pull\n".to_owned();
    for leaf in leaves(root) {
        if ["pull", "help"].contains(&leaf.words.as_str()) {
            continue;
        }
        let _ = writeln!(text, ".Nm\n.Cm {}", leaf.words);
        for argument in leaf.arguments(root) {
            let optional = argument.strip_prefix("Oo ").and_then(|it| it.strip_suffix(" Oc"));
            let _ = match optional {
                Some(flag) => writeln!(text, ".Op {flag}"),
                None => writeln!(text, ".{argument}"),
            };
        }
    }
    text
}

/// Returns a command's options, but for those that it shares with the root.
fn options<'a>(command: &'a Command, root: Option<&'a Command>) -> impl Iterator<Item = &'a Arg> {
    let is_shared = move |argument: &&Arg| root.is_some_and(|root| has(root, argument));
    let arguments = command.get_arguments().filter(|it| it.get_long().is_some());
    arguments.filter(move |argument| !is_shared(argument))
}

/// Whether a command has this very option.
fn has(command: &Command, argument: &Arg) -> bool {
    let is_it = |it: &Arg| {
        let is_same = it.get_help() == argument.get_help() || it.get_id() == "help";
        it.get_id() == argument.get_id() && is_same
    };
    command.get_arguments().any(is_it)
}

/// Writes an option of the root with the commands that have it, too.
fn shared(argument: &Arg, root: &Command) -> String {
    let commands = root.get_subcommands().filter(|sub| has(sub, argument));
    let names: Vec<String> = commands.map(|sub| format!(".Cm {}", sub.get_name())).collect();
    if names.is_empty() || argument.get_id() == "help" {
        return option(argument);
    }
    format!("{}For\n{} .\n", option(argument), names.join(" ,\n"))
}

fn option(argument: &Arg) -> String {
    let mut text = ".It".to_owned();
    if let Some(short) = argument.get_short() {
        let _ = write!(text, " Fl {short} ,");
    }
    let _ = write!(text, " Fl -{}", argument.get_long().unwrap());
    if argument.get_action().takes_values() {
        let _ = write!(text, " Ar {}", value(argument));
    }
    let help = match argument.get_id().as_str() {
        // clap's own text depends on whether the help is short or long.
        "help" => "Print help".to_owned(),
        _ => argument.get_long_help().or(argument.get_help()).unwrap().to_string(),
    };
    format!("{text}\n{}", sentences(&help))
}

/// Writes what a value may be: one of a few words, or its name.
fn value(argument: &Arg) -> String {
    let values = argument.get_possible_values();
    let words: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
    if words.is_empty() {
        return argument.get_value_names().unwrap()[0].to_string();
    }
    words.join(" | ")
}

fn variables() -> impl Iterator<Item = String> {
    VARIABLES.iter().map(|variable| {
        let mut text = format!(".It Ev {}\n{}", variable.name, sentences(variable.help));
        if let Some(option) = variable.option {
            let _ = writeln!(text, "The option\n.Fl -{}\nwins over it.", option.long);
        }
        if variable.required {
            text += "Required.\n";
        }
        if let Some(default) = variable.default {
            let _ = writeln!(text, "Default: {default}.");
        }
        text
    })
}

fn statuses(root: &Command) -> impl Iterator<Item = String> {
    let pull = root.find_subcommand("pull").unwrap();
    let help = pull.get_after_help().unwrap().to_string();
    let lines: Vec<String> = help.lines().skip(1).map(str::to_owned).collect();
    lines.into_iter().map(|line| {
        let (number, meaning) = line.trim().split_once("  ").unwrap();
        let reasons =
            Reason::ALL.iter().filter(|reason| reason.exit().code().to_string() == number);
        let reasons: Vec<String> = reasons.map(|reason| format!(".Sy {reason}")).collect();
        let reasons = match &reasons[..] {
            [] => String::new(),
            reasons => format!(".Pp\nReasons:\n{} .\n", reasons.join(" ,\n")),
        };
        format!(".It {number}\n{}{reasons}", sentences(meaning))
    })
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: String = items.collect();
    format!(".Bl -tag -width Ds\n{items}.El\n")
}

/// Writes a help text as sentences, its notes in brackets after its first paragraph.
fn sentences(help: &str) -> String {
    let mut text = String::new();
    for (number, paragraph) in help.split("\n\n").enumerate() {
        if number > 0 {
            text += ".Pp\n";
        }
        let mut rest = paragraph.replace('\n', " ");
        let mut notes = Vec::new();
        while let Some((head, note)) = rest.strip_suffix(']').and_then(|it| it.rsplit_once(" [")) {
            notes.insert(0, note.to_owned());
            rest = head.to_owned();
        }
        let end = if rest.ends_with(['.', ')']) { "" } else { "." };
        let _ = writeln!(text, "{}{end}", rest.replace('\\', "\\e").replace(". ", ".\n"));
        for note in notes {
            let _ = match note.split_once(": ") {
                Some(("env", name)) => writeln!(text, "Environment:\n.Ev {name} ."),
                Some(("default", value)) => writeln!(text, "Default: {value}."),
                _ => writeln!(text, "({note})"),
            };
        }
    }
    assert!(text.lines().all(|line| !line.starts_with('\'')), "{text}");
    text
}
