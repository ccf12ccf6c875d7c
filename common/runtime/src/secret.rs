//! Secrets, by where they are.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Longest secret; a file that holds more is not one.
const MAX_BYTES: usize = 16 << 10;

/// Where a secret is. It is read at each use, so that it can be replaced while the program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the program's environment.
    Variable(String),
}

/// Why a secret could not be read. Never says what is in it.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file.
    #[error("secret_file {} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no secret.
    #[error("secret_file {} {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The variable.
    #[error("secret_env {name} is not set")]
    Variable {
        /// Which.
        name: String,
    },
}

/// A secret in memory; its text is in no print-out.
#[derive(Clone, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    /// The secret itself, for the one who sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Word(..)")
    }
}

impl Secret {
    /// Reads it.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(&self) -> Result<Word, SecretError> {
        match self {
            Self::Variable(name) => {
                std::env::var(name).map(Word).map_err(|_| SecretError::Variable { name: name.clone() })
            }
            Self::File(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| SecretError::File { path: path.clone(), source })?;
                let content = |what| SecretError::Content { path: path.clone(), what };
                if text.len() > MAX_BYTES {
                    return Err(content("is too large for a secret"));
                }
                match text.lines().next() {
                    Some(line) if !line.is_empty() => Ok(Word(line.to_owned())),
                    _ => Err(content("begins with an empty line")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_secret_and_no_print_out_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hush\nsecond\n").unwrap();
        let word = Secret::File(path.clone()).read().unwrap();
        assert_eq!(word.expose(), "hush");
        assert_eq!(format!("{word:?}"), "Word(..)");
        std::fs::write(&path, "\n").unwrap();
        assert!(Secret::File(path).read().unwrap_err().to_string().ends_with("begins with an empty line"));
        let absent = Secret::Variable("SKEP_TEST_NO_SUCH_SECRET".to_owned()).read().unwrap_err();
        assert_eq!(absent.to_string(), "secret_env SKEP_TEST_NO_SUCH_SECRET is not set");
    }
}
