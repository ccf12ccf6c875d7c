//! The other programs of this build, which stand beside this one.

use std::path::{Path, PathBuf};

/// Path of `name` in the folder this program was started from; the bare name, for `PATH`, when that is unknown.
pub fn beside_this(name: &str) -> PathBuf {
    match std::env::current_exe() {
        Ok(own) => own.parent().unwrap_or(Path::new("")).join(name),
        Err(_) => PathBuf::from(name),
    }
}
