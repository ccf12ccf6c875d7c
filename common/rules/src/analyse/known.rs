//! Facts that are told of one exec after the other.

use std::borrow::Cow;

use crate::event::Exec;
use crate::facts::Facts;
use crate::words::Words;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By the field's number.
    fields: Vec<(usize, Vec<Box<str>>)>,
}

impl Known {
    /// Takes the facts that `tell` tells.
    pub(super) fn told<'a>(
        words: &'a Words,
        exec: &Exec<'a>,
        tell: impl Fn(&'a Words, &Exec<'a>, &mut Facts<'a>),
    ) -> Self {
        let mut facts = Facts::default();
        tell(words, exec, &mut facts);
        let kept = |values: &[Cow<'_, str>]| values.iter().map(|value| Box::from(&**value)).collect();
        Self { fields: facts.known().map(|(field, values)| (field, kept(values))).collect() }
    }

    /// Adds them to what is known of an exec.
    pub(super) fn tell<'a>(&'a self, facts: &mut Facts<'a>) {
        self.fields.iter().for_each(|(field, values)| facts.tell(*field, values));
    }
}
