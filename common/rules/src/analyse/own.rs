//! What a program's names and its place tell, whatever it is given.

use super::command::{Wrapper, names, wrapper};
use super::known::Known;
use super::place::{disguise, lies};
use crate::event::Exec;
use crate::names::base_name;
use crate::words::Words;

/// See the module.
#[derive(Debug)]
pub(super) struct Own {
    /// Names and classes.
    pub(super) names: Known,
    /// Where it lies.
    pub(super) place: Known,
    /// How its name deceives.
    pub(super) disguise: Known,
    /// It runs another.
    pub(super) wrapper: Option<&'static Wrapper>,
    pub(super) shell: bool,
    pub(super) interpreter: bool,
}

impl Own {
    /// The texts it is made of.
    pub(super) fn texts<'t>(exec: &'t Exec<'_>) -> impl Iterator<Item = &'t str> {
        let relative = !(exec.exe.starts_with('/') && exec.filename.starts_with('/'));
        let argument = exec.argv.first().copied().unwrap_or_default();
        [exec.exe, exec.filename, argument].into_iter().chain(relative.then_some(exec.cwd))
    }

    pub(super) fn of(words: &Words, exec: &Exec<'_>) -> Self {
        let name = base_name(exec.path());
        Self {
            names: Known::told(words, exec, names),
            place: Known::told(words, exec, lies),
            disguise: Known::told(words, exec, disguise),
            wrapper: wrapper(exec),
            shell: words.is_program(name, "shell"),
            interpreter: words.is_program(name, "interpreter"),
        }
    }
}
