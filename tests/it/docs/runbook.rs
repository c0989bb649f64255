//! The sections of the manual pages, and the literal blocks of the runbook,
//! `datapass-pull-operations(7)`.

pub(crate) const RUNBOOK: &str = include_str!("../../../man/datapass-pull-operations.7");

/// Returns a section or subsection of the runbook, without its title.
#[track_caller]
pub(crate) fn section(title: &str) -> &'static str {
    section_of(RUNBOOK, title)
}

/// Returns a section or subsection of a page, without its title.
#[track_caller]
pub(super) fn section_of<'a>(page: &'a str, title: &str) -> &'a str {
    let behind = |macro_name: &str| page.split_once(&format!("\n{macro_name} {title}\n"));
    let (_, section) = behind(".Ss").or(behind(".Sh")).expect(title);
    let end = section.find("\n.Ss ").into_iter();
    let end = end.chain(section.find("\n.Sh ")).min();
    &section[..end.unwrap_or(section.len())]
}

/// Returns the literal blocks of a section, as they are shown.
#[track_caller]
pub(crate) fn blocks(title: &str) -> Vec<String> {
    let blocks = section(title).split(".Bd -literal -offset indent\n").skip(1);
    let blocks = blocks.map(|block| block.split(".Ed").next().unwrap());
    blocks.map(|block| block.replace("\\e", "\\").replace("\\&", "")).collect()
}
