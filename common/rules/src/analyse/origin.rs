//! Who started it.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::event::Exec;
use crate::facts::{Facts, Field};
use crate::names::{base_name, plain_name};
use crate::words::Words;

/// Variables that make a program load or run something else.
const LOADERS: &[&str] = &[
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "GCONV_PATH",
    "BASH_ENV",
    "ENV",
    "PROMPT_COMMAND",
    "PYTHONSTARTUP",
    "PYTHONPATH",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYOPT",
    "RUBYLIB",
    "NODE_OPTIONS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "PATH",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "LESSOPEN",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "MANPAGER",
    "GTK_MODULES",
    "QT_PLUGIN_PATH",
];

/// Variables by which a shell forgets what was typed.
const FORGETTING: &[(&str, &[&str])] = &[
    ("HISTFILE", &["", "/dev/null"]),
    ("HISTSIZE", &["0"]),
    ("HISTFILESIZE", &["0"]),
    ("HISTCONTROL", &["ignoreboth", "ignorespace"]),
];

/// The parent, the ancestors, trust and environment.
pub(super) fn family<'a>(words: &'a Words, exec: &Exec<'a>, facts: &mut Facts<'a>) {
    if !exec.parent.is_empty() {
        let name = base_name(exec.parent);
        facts.add(Field::Parent, name);
        facts.add(Field::Parent, plain_name(name));
        let mut classes = Vec::new();
        words.program(name, &mut classes);
        facts.extend(Field::ParentClass, classes);
    }
    let parent = (exec.ancestors.first() != Some(&exec.parent)).then_some(exec.parent);
    let line = exec.ancestors.iter().copied().chain(parent).filter(|ancestor| !ancestor.is_empty());
    for ancestor in line {
        facts.add(Field::Ancestor, plain_name(ancestor));
        if let Some(kind) = words.trusted(ancestor) {
            facts.add(Field::Trusted, kind);
        }
    }
    // A script's own path stands in its command line only; so do the modules of provisioning tools.
    for argument in exec.parent_command_line.split_whitespace().take(3) {
        if argument.starts_with('/')
            && let Some(kind) = words.trusted(argument)
        {
            facts.add(Field::Trusted, kind);
        }
    }
    if let Some(kind) = provisioned(exec) {
        facts.add(Field::Trusted, kind);
    }
    if let Some(server) = server_above(words, exec) {
        facts.add(Field::DaemonAncestor, server);
    }
    facts.set(Field::Login, is_typed(words, exec));
    for variable in &exec.env {
        environment(words, variable, facts);
    }
}

/// Whether somebody typed it: below a login shell, or below a shell at a terminal that has no script.
fn is_typed(words: &Words, exec: &Exec<'_>) -> bool {
    let mut parts = exec.parent_command_line.split_whitespace();
    let Some(own) = parts.next() else { return false };
    if own.starts_with('-') {
        return true;
    }
    let shell = words.is_program(base_name(own), "shell");
    shell && !exec.tty.is_empty() && parts.all(|part| part.starts_with('-') && !part.ends_with('c'))
}

/// What provisioning tools leave in the command lines of the processes they make.
const PROVISIONED: [&str; 8] = [
    "/.ansible/tmp/",
    "/ansible-tmp-",
    "AnsiballZ_",
    "/.ansible_",
    "ansible_collections",
    "/var/lib/cloud/instance",
    "/salt-call",
    "/puppet",
];

/// Finds [`PROVISIONED`]; absent only if that list could not be compiled.
static PROVISIONED_MARKS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(PROVISIONED).ok());

fn provisioned(exec: &Exec<'_>) -> Option<&'static str> {
    let marked = |line: &str| PROVISIONED_MARKS.as_ref().is_some_and(|marks| marks.is_match(line));
    (marked(exec.parent_command_line) || marked(&exec.command_line[..floor(exec.command_line, 4_096)]))
        .then_some("provision")
}

fn floor(text: &str, most: usize) -> usize {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// The server above with nothing but shells between.
fn server_above<'a>(words: &Words, exec: &Exec<'a>) -> Option<&'a str> {
    let parent = [exec.parent];
    let near = if exec.ancestors.is_empty() { &parent[..] } else { &exec.ancestors[..] };
    let first = near.iter().position(|ancestor| !words.is_program(base_name(ancestor), "shell"))?;
    // Below a server's own scripts there may be an interpreter, or what a command of it started.
    near.iter().skip(first).take(3).map(|ancestor| base_name(ancestor)).find_map(|ancestor| {
        let name = plain_name(ancestor);
        words.is_program(ancestor, "server").then_some(name)
    })
}

fn environment<'a>(words: &Words, variable: &'a str, facts: &mut Facts<'a>) {
    let Some((name, value)) = variable.split_once('=') else { return };
    let writable = value
        .split([':', ' ', '='])
        .any(|part| super::place::volatile(&format!("{part}/")).is_some() || super::place::is_hidden(words, part))
        || value.starts_with("./")
        || value.starts_with(".:")
        || value == ".";
    let hides = FORGETTING.iter().any(|(own, values)| *own == name && values.contains(&value));
    // What is preloaded at all is worth a word.
    let preload = matches!(name, "LD_PRELOAD" | "LD_AUDIT") && !value.is_empty();
    if LOADERS.contains(&name) && (writable || preload) {
        facts.add(Field::EnvHijack, name);
    }
    if hides {
        facts.add(Field::EnvHijack, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts_of<'a>(words: &'a Words, exec: &Exec<'a>) -> Facts<'a> {
        let mut facts = Facts::default();
        family(words, exec, &mut facts);
        facts
    }

    #[test]
    fn servers_and_trust() {
        let words = Words::parse(crate::pack::WORDS).unwrap();
        let below = |ancestors: &[&'static str]| Exec {
            parent: ancestors[0],
            ancestors: ancestors.to_vec(),
            ..Exec::default()
        };
        let facts = facts_of(&words, &below(&["/usr/bin/dash", "/usr/sbin/php-fpm8.2"]));
        assert_eq!(facts.get(Field::DaemonAncestor), ["php-fpm"]);
        let facts = facts_of(&words, &below(&["/usr/bin/dash", "/usr/bin/dpkg", "/usr/bin/apt-get"]));
        assert_eq!(facts.get(Field::Trusted), ["package"]);
        let facts = facts_of(&words, &below(&["/usr/bin/bash", "/usr/sbin/sshd"]));
        assert!(facts.get(Field::DaemonAncestor).is_empty() && facts.get(Field::Trusted).is_empty());
    }

    #[test]
    fn what_people_type() {
        let words = Words::parse(crate::pack::WORDS).unwrap();
        for (parent_command_line, tty, typed) in [
            ("-bash", "", true),
            ("bash", "pts/0", true),
            ("/bin/bash -i", "pts/0", true),
            ("bash", "", false),
            ("bash x.sh", "pts/0", false),
            ("bash -c id", "pts/0", false),
            ("make all", "pts/0", false),
            ("", "pts/0", false),
        ] {
            let exec = Exec { parent_command_line, tty, ..Exec::default() };
            assert_eq!(is_typed(&words, &exec), typed, "{parent_command_line} {tty}");
        }
    }

    #[test]
    fn variables_that_load_code() {
        let words = Words::parse(crate::pack::WORDS).unwrap();
        for (variable, name) in [
            ("LD_PRELOAD=/tmp/x.so", Some("LD_PRELOAD")),
            ("PATH=/tmp:/usr/bin", Some("PATH")),
            ("PATH=/usr/bin", None),
            ("HISTFILE=/dev/null", Some("HISTFILE")),
            ("HISTSIZE=1000", None),
        ] {
            let facts = facts_of(&words, &Exec { env: vec![variable], ..Exec::default() });
            assert_eq!(facts.get(Field::EnvHijack).first().map(|value| &**value), name, "{variable}");
        }
    }
}
