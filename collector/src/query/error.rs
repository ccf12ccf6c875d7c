//! Why a statement has no answer, in one line.

use std::time::Duration;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use thiserror::Error;
use tonic::{Code, Status};

use super::files::Unreadable;
use super::suggest;

/// What is said to statements with `?` or `$1` in them.
pub const NO_PARAMETERS: &str = "statements take no parameters: write the values into the statement";

/// Why a statement has no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// It is not SQL.
    #[error("wrong SQL: {reason}")]
    Syntax {
        /// The parser's words.
        reason: String,
    },
    /// Not one statement.
    #[error("expected one statement, found {found}")]
    NotOne {
        /// How many.
        found: usize,
    },
    /// It would change something.
    #[error("only statements that read are served; this is {kind}")]
    NotReadOnly {
        /// Its first word or words.
        kind: String,
    },
    /// No such table.
    #[error("there is no table {name}{}", did_you_mean(near))]
    UnknownTable {
        /// The one named.
        name: String,
        /// Those probably meant.
        near: Vec<String>,
    },
    /// No such column.
    #[error("there is no column {name}{}", did_you_mean(near))]
    UnknownColumn {
        /// The one named.
        name: String,
        /// Those probably meant.
        near: Vec<String>,
    },
    /// Types, functions and the like.
    #[error("{reason}")]
    Wrong {
        /// One line.
        reason: String,
    },
    /// It took too long.
    #[error("the statement took longer than {} s", limit.as_secs_f64())]
    Timeout {
        /// What it was given.
        limit: Duration,
    },
    /// It needs too much memory.
    #[error("the statement needs more memory than it may have: {reason}")]
    Memory {
        /// One line.
        reason: String,
    },
    /// Too many others run.
    #[error("{at_once} statements run already and none ended in time; try again, or raise query.at_once")]
    Busy {
        /// How many may.
        at_once: usize,
    },
    /// The rows are whole but for files that cannot be read.
    #[error("the answer is incomplete: {}", incomplete(files))]
    Incomplete {
        /// Which.
        files: Vec<Unreadable>,
    },
    /// It broke while running.
    #[error("the statement failed: {reason}")]
    Failed {
        /// One line.
        reason: String,
    },
}

impl QueryError {
    /// As a gRPC status.
    pub fn status(&self) -> Status {
        let code = match self {
            Self::Syntax { .. }
            | Self::NotOne { .. }
            | Self::NotReadOnly { .. }
            | Self::UnknownColumn { .. }
            | Self::Wrong { .. } => Code::InvalidArgument,
            Self::UnknownTable { .. } => Code::NotFound,
            Self::Timeout { .. } => Code::DeadlineExceeded,
            Self::Memory { .. } | Self::Busy { .. } => Code::ResourceExhausted,
            Self::Incomplete { .. } => Code::DataLoss,
            Self::Failed { .. } => Code::Aborted,
        };
        Status::new(code, self.to_string())
    }

    /// What the engine said, read for people.
    pub fn from_engine(error: &DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::SQL(parser, _) => {
                let text = parser.to_string();
                Self::Syntax { reason: one_line(text.trim_start_matches("sql parser error: ")) }
            }
            DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
                SchemaError::FieldNotFound { field, valid_fields } => Self::UnknownColumn {
                    name: field.quoted_flat_name(),
                    near: suggest::near(&field.name, valid_fields.iter().map(|column| column.name.as_str())),
                },
                other => Self::Wrong { reason: one_line(&other.to_string()) },
            },
            DataFusionError::Plan(reason) => Self::Wrong { reason: one_line(reason) },
            DataFusionError::Execution(reason) if reason.starts_with("Placeholder ") => {
                Self::Wrong { reason: NO_PARAMETERS.to_owned() }
            }
            DataFusionError::NotImplemented(what) => {
                Self::Wrong { reason: format!("not supported: {}", one_line(what)) }
            }
            // An operator that was refused memory tries to spill to disk, and only that is heard of.
            DataFusionError::ResourcesExhausted(reason) if reason.contains("DiskManager") => {
                Self::Memory { reason: "ask for fewer rows, columns or groups".to_owned() }
            }
            DataFusionError::ResourcesExhausted(reason) => Self::Memory { reason: one_line(reason) },
            other => Self::Failed { reason: one_line(&other.strip_backtrace()) },
        }
    }
}

fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

fn incomplete(files: &[Unreadable]) -> String {
    let rows: Option<u64> = files.iter().map(|file| file.rows).sum();
    let rows = rows.map_or_else(String::new, |rows| format!(" ({rows} rows)"));
    let first: Vec<String> = files.iter().take(3).map(ToString::to_string).collect();
    let more = files.len().saturating_sub(first.len());
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{} of its files cannot be read{rows}: {}{more}", files.len(), first.join("; "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
