//! From what was recorded to what rules ask: one event and its ancestors in, `skep.*` out.
//!
//! * [`command`]: the program, its arguments and what they do to files.
//! * [`inline`]: code on the command line.
//! * [`place`]: where the program or its script lies, and what it calls itself.
//! * [`origin`]: who started it.
//!
//! Nothing here remembers events; that is for [`crate::table`] and [`crate::baseline`]. What [`Sharing`] keeps saves time and
//! changes nothing.

pub mod command;

pub mod inline;

pub mod origin;

pub mod place;

mod known;

mod own;

use std::net::IpAddr;
use std::sync::Arc;

use self::origin::{Above, ParentLine};
use self::own::Own;
use crate::event::{Connection, Exec};
use crate::facts::{Facts, Field};
use crate::memo::Memo;
use crate::words::Words;

/// Programs, and lines of ancestors, that are remembered.
const MAX_SHARED: usize = 1_024;

/// What is told of an exec by texts that it shares with many others.
#[derive(Debug)]
pub struct Shared {
    above: Arc<Above>,
    line: Arc<ParentLine>,
    own: Arc<Own>,
}

/// What was told of such texts before.
#[derive(Debug)]
pub struct Sharing {
    above: Memo<Above>,
    line: Memo<ParentLine>,
    own: Memo<Own>,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { above: Memo::new(MAX_SHARED), line: Memo::new(MAX_SHARED), own: Memo::new(MAX_SHARED) }
    }
}

impl Sharing {
    /// What is told of this exec; it is the same whatever was asked before.
    pub fn of(&mut self, words: &Words, exec: &Exec<'_>) -> Shared {
        Shared {
            above: self.above.of(Above::texts(exec), || Above::of(words, exec)),
            line: self.line.of([exec.parent_command_line].into_iter(), || ParentLine::of(words, exec)),
            own: self.own.of(Own::texts(exec), || Own::of(words, exec)),
        }
    }
}

/// Adds the facts that one exec tells by itself.
pub fn exec<'a>(words: &'a Words, exec: &Exec<'a>, shared: &'a Shared, facts: &mut Facts<'a>) {
    let own = &*shared.own;
    own.names.tell(facts);
    command::arguments(words, exec, own, facts);
    inline::code(words, exec, facts);
    if !place::in_memory(words, exec, facts) {
        own.place.tell(facts);
    }
    place::script(words, exec, own, facts);
    own.disguise.tell(facts);
    origin::family(words, exec, (&shared.above, &shared.line), facts);
    remote(exec, facts);
    words.text(exec.command_line, |class| facts.add(Field::Says, class));
    facts.set(Field::Root, exec.uid == Some(0) || exec.euid == Some(0));
    facts.set(Field::Tty, !exec.tty.is_empty());
    facts.set(Field::Setuid, exec.has("setuid"));
    facts.set(Field::StdioInet, exec.has("stdin_inet") || exec.has("stdout_inet"));
}

/// The facts that one connection tells by itself.
pub fn connection<'a>(words: &'a Words, connection: &Connection<'a>) -> Facts<'a> {
    let mut facts = Facts::default();
    let name = crate::names::base_name(connection.exe);
    facts.add(Field::Tool, name);
    facts.add(Field::Tool, crate::names::plain_name(name));
    words.program(name, |class| facts.add(Field::Class, class));
    facts.set(Field::Root, connection.uid == Some(0));
    if let Ok(address) = connection.remote_address.parse::<IpAddr>() {
        facts.add(Field::Destination, reach(address));
    }
    if !connection.exe.is_empty() && connection.exe.starts_with('/') {
        let exec = Exec { exe: connection.exe, filename: connection.exe, ..Exec::default() };
        if !place::in_memory(words, &exec, &mut facts) {
            place::lies(words, &exec, &mut facts);
        }
    }
    facts
}

/// How far away an address is.
fn reach(address: IpAddr) -> &'static str {
    let address = address.to_canonical();
    match address {
        IpAddr::V4(v4) if v4.octets() == [169, 254, 169, 254] => "metadata",
        IpAddr::V4(v4) if v4.is_loopback() || v4.is_unspecified() => "local",
        IpAddr::V4(v4) if v4.is_private() || v4.is_link_local() => "private",
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() => "local",
        IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() => "private",
        _ => "public",
    }
}

/// What the words of a command line say of places elsewhere.
fn remote(exec: &Exec<'_>, facts: &mut Facts<'_>) {
    for argument in exec.argv.iter().skip(1).take(64).filter(|argument| argument.len() < 1_024) {
        let host = behind_scheme(argument);
        facts.set_if(Field::Remote, "url", host.is_some());
        let host = host.unwrap_or(argument);
        // What is cut off before its first colon can be four numbers only.
        if !host.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let host = host.split(['/', ':', '@']).next().unwrap_or_default();
        if let Ok(address) = host.parse::<IpAddr>() {
            facts.set_if(Field::Remote, "address", reach(address) == "public");
            facts.set_if(Field::Remote, "private", reach(address) == "private");
        }
    }
}

/// What follows `://`.
fn behind_scheme(argument: &str) -> Option<&str> {
    let mut rest = argument;
    while let Some(at) = rest.bytes().position(|byte| byte == b':') {
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix("//") {
            return Some(behind);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_elsewhere() {
        for (argument, kinds) in [
            ("http://h/x", &["url"][..]),
            ("a:b://10.0.0.1/x", &["url", "private"]),
            ("203.0.113.7:80", &["address"]),
            ("1.5", &[]),
            ("a:b:c", &[]),
        ] {
            let mut facts = Facts::default();
            remote(&Exec { argv: vec!["x", argument], ..Exec::default() }, &mut facts);
            assert_eq!(facts.get(Field::Remote), kinds, "{argument}");
        }
    }
}
