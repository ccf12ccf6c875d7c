//! TOML settings, read so that every fault is told at once.
//!
//! A [`Section`] hands out its keys one by one; what is missing comes back as `None`, what is of the wrong kind or out of
//! range is noted, and [`Section::finish`] notes every key that nobody asked for. The faults of a file are one list.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;

use toml::{Table, Value};

/// All that is wrong with a file, one line each, with the key's full name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// One table of a file.
#[derive(Debug)]
pub struct Section {
    /// Name of the table with a trailing dot; empty at the top.
    path: String,
    table: Table,
    faults: Rc<RefCell<Vec<String>>>,
}

/// The faults of all sections of one file.
#[derive(Debug)]
pub struct Noted(Rc<RefCell<Vec<String>>>);

/// Reads a file's text.
///
/// # Errors
/// It is not TOML: one fault, with line and column.
pub fn parse(text: &str) -> Result<(Section, Noted), Faults> {
    let table = text.parse::<Table>().map_err(|error| Faults(vec![error.to_string().trim().replace('\n', " ")]))?;
    let faults = Rc::default();
    Ok((Section { path: String::new(), table, faults: Rc::clone(&faults) }, Noted(faults)))
}

impl Noted {
    /// Notes a fault that no single key shows.
    pub fn note(&self, fault: impl Into<String>) {
        self.0.borrow_mut().push(fault.into());
    }

    /// `Ok` when nothing was noted.
    ///
    /// # Errors
    /// All that was.
    pub fn into_result(self) -> Result<(), Faults> {
        let mut faults = self.0.take();
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort();
        Err(Faults(faults))
    }
}

impl Section {
    /// Full name of a key.
    pub fn name(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// Notes a fault of one key.
    pub fn note(&self, key: &str, fault: impl fmt::Display) {
        self.faults.borrow_mut().push(format!("{}{key}: {fault}", self.path));
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        match self.table.remove(key)? {
            Value::Integer(value) if range.contains(&value) => Some(value),
            Value::Integer(value) => {
                self.note(key, format_args!("{value} is not between {} and {}", range.start(), range.end()));
                None
            }
            other => self.wrong(key, "a whole number", &other),
        }
    }

    /// A number within `range`.
    pub fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = match self.table.remove(key)? {
            Value::Float(value) => value,
            Value::Integer(value) => value as f64,
            other => return self.wrong(key, "a number", &other),
        };
        if range.contains(&value) {
            return Some(value);
        }
        self.note(key, format_args!("{value} is not between {} and {}", range.start(), range.end()));
        None
    }

    /// true or false.
    pub fn truth(&mut self, key: &str) -> Option<bool> {
        match self.table.remove(key)? {
            Value::Boolean(value) => Some(value),
            other => self.wrong(key, "true or false", &other),
        }
    }

    /// A text.
    pub fn text(&mut self, key: &str) -> Option<String> {
        match self.table.remove(key)? {
            Value::String(value) => Some(value),
            other => self.wrong(key, "a text", &other),
        }
    }

    /// One of `choices`, by name.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            self.note(key, format_args!("{text:?} is none of {}", names.join(", ")));
        }
        found
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        match self.table.remove(key)? {
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(value) => Some(value),
                    other => self.wrong(key, "a list of texts", &other),
                })
                .collect(),
            other => self.wrong(key, "a list of texts", &other),
        }
    }

    /// A list of whole numbers within `range`.
    pub fn integers(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<Vec<i64>> {
        let items = match self.table.remove(key)? {
            Value::Array(items) => items,
            other => return self.wrong(key, "a list of whole numbers", &other),
        };
        let number = |item: Value| match item {
            Value::Integer(value) if range.contains(&value) => Some(value),
            Value::Integer(value) => {
                self.note(key, format_args!("{value} is not between {} and {}", range.start(), range.end()));
                None
            }
            other => self.wrong(key, "a list of whole numbers", &other),
        };
        items.into_iter().map(number).collect()
    }

    /// A list of texts; a single text is a list of one.
    pub fn text_or_texts(&mut self, key: &str) -> Option<Vec<String>> {
        match self.table.get(key)? {
            Value::String(_) => self.text(key).map(|text| vec![text]),
            _ => self.texts(key),
        }
    }

    /// A table within this one; an empty one when it is missing.
    pub fn section(&mut self, key: &str) -> Section {
        let table = match self.table.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => self.wrong::<Table>(key, "a table", &other).unwrap_or_default(),
        };
        self.child(key, table)
    }

    /// A list of tables (`[[key]]`); `None` when it is missing.
    pub fn sections(&mut self, key: &str) -> Option<Vec<Section>> {
        let items = match self.table.remove(key)? {
            Value::Array(items) => items,
            other => return self.wrong(key, "a list of tables", &other),
        };
        let mut sections = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{key}[{index}]");
            match item {
                Value::Table(table) => sections.push(self.child(&name, table)),
                other => drop(self.wrong::<Table>(&name, "a table", &other)),
            }
        }
        Some(sections)
    }

    /// Notes every key that was not asked for.
    pub fn finish(self) {
        for key in self.table.keys() {
            self.note(key, "unknown key");
        }
    }

    fn child(&self, key: &str, table: Table) -> Section {
        Section { path: format!("{}{key}.", self.path), table, faults: Rc::clone(&self.faults) }
    }

    fn wrong<T>(&self, key: &str, expected: &str, found: &Value) -> Option<T> {
        self.note(key, format_args!("expected {expected}, found {} {found}", found.type_str()));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_at_once() {
        let text =
            "port = 70000\nname = 3\nmode = \"loud\"\nstray = 1\n[budget]\nhours = \"x\"\nother = 1\n[[rule]]\na = 1\n";
        let (mut top, noted) = parse(text).unwrap();
        assert_eq!(top.integer("port", 1..=65535), None);
        assert_eq!(top.text("name"), None);
        assert_eq!(top.choice("mode", &[("ask", 1), ("auto", 2)]), None);
        let mut budget = top.section("budget");
        assert_eq!(budget.number("hours", 0.0..=1.0), None);
        budget.finish();
        for rule in top.sections("rule").unwrap() {
            rule.finish();
        }
        top.finish();
        let faults = noted.into_result().unwrap_err().0;
        assert_eq!(
            faults,
            [
                "budget.hours: expected a number, found string \"x\"",
                "budget.other: unknown key",
                "mode: \"loud\" is none of ask, auto",
                "name: expected a text, found integer 3",
                "port: 70000 is not between 1 and 65535",
                "rule[0].a: unknown key",
                "stray: unknown key",
            ]
        );
    }

    #[test]
    fn what_is_right_comes_back_and_what_is_missing_is_none() {
        let (mut top, noted) =
            parse("a = 1\nb = [\"x\", \"y\"]\nc = true\nd = 2\ne = \"z\"\nf = [\"x\"]\nh = [1, 2]\n").unwrap();
        assert_eq!(top.integer("a", 0..=9), Some(1));
        assert_eq!(top.texts("b"), Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(top.truth("c"), Some(true));
        assert_eq!(top.number("d", 0.0..=9.0), Some(2.0));
        assert_eq!(top.text_or_texts("e"), Some(vec!["z".to_owned()]));
        assert_eq!(top.text_or_texts("f"), Some(vec!["x".to_owned()]));
        assert_eq!(top.text_or_texts("g"), None);
        assert_eq!(top.integers("h", 0..=9), Some(vec![1, 2]));
        assert_eq!(top.integer("g", 0..=9), None);
        top.finish();
        assert_eq!(noted.into_result(), Ok(()));
    }

    #[test]
    fn what_is_not_toml_is_one_fault_with_its_line() {
        let faults = parse("a = 1\nb =\n").unwrap_err();
        assert_eq!(faults.0.len(), 1);
        assert!(faults.0[0].contains("line 2"), "{faults}");
    }
}
