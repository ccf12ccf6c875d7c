//! The one map from what went wrong to the exit code.

use thiserror::Error;

use crate::command::CommandError;
use crate::connect::{AskError, ConnectError};
use crate::output::OutputError;
use crate::place::PlaceError;
use crate::up::UpError;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done, including when the answer is empty.
    Ok = 0,
    /// It was tried and did not work.
    Failed = 1,
    /// The command line or a configuration file makes no sense.
    Usage = 2,
    /// No collector, and no folder to answer from.
    NotReachable = 3,
    /// The other side understood and said no.
    Refused = 4,
}

/// Whatever ended a command.
#[derive(Debug, Error)]
pub enum Failure {
    /// Flags, environment and configuration file do not say where to ask.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The collector or folder could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question was not answered.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The answer could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// `skep up` could not start or keep its parts.
    #[error(transparent)]
    Up(#[from] UpError),
    /// A command's own reasons.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl Failure {
    /// The exit code for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Place(_) => Code::Usage,
            Self::Connect(error) => match error {
                ConnectError::Unreadable { .. } | ConnectError::BadEndpoint { .. } | ConnectError::BadTls { .. } => {
                    Code::Failed
                }
                ConnectError::Refused { .. } => Code::Refused,
                ConnectError::NoFolder { .. }
                | ConnectError::NobodyListens { .. }
                | ConnectError::NotReachable { .. }
                | ConnectError::CollectorNeeded { .. } => Code::NotReachable,
            },
            Self::Ask(error) => match error {
                AskError::Lost { .. } => Code::NotReachable,
                AskError::Refused { .. } => Code::Refused,
                AskError::Failed { .. }
                | AskError::NoCollectorProgram { .. }
                | AskError::Folder { .. }
                | AskError::Pieces(_)
                | AskError::Column { .. } => Code::Failed,
            },
            Self::Output(_) | Self::Up(_) => Code::Failed,
            Self::Command(error) => match error {
                CommandError::Usage { .. } | CommandError::BadPolicy { .. } => Code::Usage,
                CommandError::NotFound { .. }
                | CommandError::Ambiguous { .. }
                | CommandError::Unhealthy { .. }
                | CommandError::Audit(_)
                | CommandError::Tampered { .. }
                | CommandError::Runtime(_) => Code::Failed,
            },
        }
    }

    /// Whether the reader of our output went away, which is no failure (`skep query ... | head`).
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.is_closed_pipe())
    }

    /// The message with its causes, on one line.
    pub fn line(&self) -> String {
        one_line(self)
    }
}

/// An error and its causes, joined by colons; a cause that its parent already quotes is not said twice.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once_and_on_one_line() {
        let cause = std::io::Error::other("disk\ngone");
        let error = ConnectError::Unreadable { path: "/x".into(), source: cause };
        let line = Failure::from(error).line();
        assert_eq!(line, "cannot read /x: disk gone");
    }
}
