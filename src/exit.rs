//! The exit codes, and the only place with their numbers.

use std::process::ExitCode;

use crate::error::Kind;

/// What a run reports to its scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The run did what it was asked to.
    Success = 0,
    /// An operator must act; running again changes nothing.
    Permanent = 1,
    /// Run it again.
    Transient = 2,
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Permanent => Self::Permanent,
            Kind::Transient => Self::Transient,
        }
    }
}

impl Exit {
    /// Returns the number, for reports; [`ExitCode`] does not give it back.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
