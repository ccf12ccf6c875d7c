//! Log lines to stderr.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// Environment variable that holds the filter, for programs without their own setting.
pub const ENVIRONMENT: &str = "SKEP_LOG";

/// Filter where none is given.
pub const DEFAULT_FILTER: &str = "info";

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For eyes.
    #[default]
    Human,
    /// One object a line.
    Json,
}

/// Not a log format.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("log format {given:?} is neither human nor json")]
pub struct UnknownFormat {
    /// What was given.
    pub given: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat { given: text.to_owned() }),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("log filter {filter:?} is not valid")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Set up twice in one process.
    #[error("logging is already set up")]
    AlreadySet,
}

/// Sends every `tracing` event that passes `filter` (`info`, `debug`, `skep_agent::ship=trace,info`, ...) to stderr.
///
/// # Errors
/// [`TelemetryError::Filter`]: a usage fault. [`TelemetryError::AlreadySet`]: called twice.
pub fn init(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let filter =
        EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| TelemetryError::AlreadySet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_as_they_are_written() {
        for format in [Format::Human, Format::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("yaml".parse::<Format>().is_err());
    }

    #[test]
    fn a_bad_filter_is_named() {
        let fault = init("skep=nonsense=x", Format::Human).unwrap_err();
        assert!(fault.to_string().contains("skep=nonsense=x"));
    }
}
