//! Who started it.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;

use super::known::Known;
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

/// What is known of those above an exec, whatever it is itself.
#[derive(Debug)]
pub(super) struct Above(Known);

/// What the parent's command line tells.
#[derive(Debug)]
pub(super) struct ParentLine {
    /// Scripts of those that are trusted.
    scripts: Known,
    typed: Typed,
    provisioned: bool,
}

impl Above {
    /// The texts it is made of.
    pub(super) fn texts<'t>(exec: &'t Exec<'_>) -> impl Iterator<Item = &'t str> {
        [exec.parent].into_iter().chain(exec.ancestors.iter().copied())
    }

    /// Looks at the parent and the ancestors.
    pub(super) fn of(words: &Words, exec: &Exec<'_>) -> Self {
        Self(Known::told(words, exec, line))
    }
}

impl ParentLine {
    pub(super) fn of(words: &Words, exec: &Exec<'_>) -> Self {
        Self {
            scripts: Known::told(words, exec, scripts),
            typed: Typed::below(words, exec.parent_command_line),
            provisioned: provisioned(exec.parent_command_line),
        }
    }
}

/// Who they are, and whom of them is trusted.
fn line<'a>(words: &'a Words, exec: &Exec<'a>, facts: &mut Facts<'a>) {
    if !exec.parent.is_empty() {
        let name = base_name(exec.parent);
        facts.add(Field::Parent, name);
        facts.add(Field::Parent, plain_name(name));
        words.program(name, |class| facts.add(Field::ParentClass, class));
    }
    let parent = (exec.ancestors.first() != Some(&exec.parent)).then_some(exec.parent);
    let line = exec.ancestors.iter().copied().chain(parent).filter(|ancestor| !ancestor.is_empty());
    for ancestor in line {
        facts.add(Field::Ancestor, plain_name(ancestor));
        facts.extend(Field::Trusted, words.trusted(ancestor));
    }
    facts.extend(Field::DaemonAncestor, server_above(words, exec));
}

/// A script's own path stands in its command line only; so do the modules of provisioning tools.
fn scripts<'a>(words: &'a Words, exec: &Exec<'a>, facts: &mut Facts<'a>) {
    let scripts = exec.parent_command_line.split_whitespace().take(3).filter(|word| word.starts_with('/'));
    facts.extend(Field::Trusted, scripts.filter_map(|script| words.trusted(script)));
}

/// The parent, the ancestors, trust and environment.
pub(super) fn family<'a>(
    words: &'a Words,
    exec: &Exec<'a>,
    (above, line): (&'a Above, &'a ParentLine),
    facts: &mut Facts<'a>,
) {
    above.0.tell(facts);
    line.scripts.tell(facts);
    let provisioned = line.provisioned || provisioned(&exec.command_line[..floor(exec.command_line, 4_096)]);
    facts.set_if(Field::Trusted, "provision", provisioned);
    let typed = match line.typed {
        Typed::Always => true,
        Typed::AtTerminal => !exec.tty.is_empty(),
        Typed::Never => false,
    };
    facts.set(Field::Login, typed);
    for variable in &exec.env {
        environment(words, variable, facts);
    }
}

/// Whether somebody typed it: below a login shell, or below a shell at a terminal that has no script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Typed {
    Always,
    AtTerminal,
    Never,
}

impl Typed {
    fn below(words: &Words, parent_command_line: &str) -> Self {
        let mut parts = parent_command_line.split_whitespace();
        let Some(own) = parts.next() else { return Self::Never };
        if own.starts_with('-') {
            return Self::Always;
        }
        let bare = words.is_program(base_name(own), "shell")
            && parts.all(|part| part.starts_with('-') && !part.ends_with('c'));
        if bare { Self::AtTerminal } else { Self::Never }
    }
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

/// Finds [`PROVISIONED`], many bytes at once; absent only if that list could not be compiled.
static PROVISIONED_MARKS: LazyLock<Option<Searcher>> = LazyLock::new(|| Searcher::new(PROVISIONED));

fn provisioned(line: &str) -> bool {
    PROVISIONED_MARKS.as_ref().is_some_and(|marks| marks.find(line).is_some())
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

    /// A field of what is told of an exec.
    fn told(words: &Words, exec: &Exec<'_>, field: Field) -> Vec<String> {
        let (above, line) = (Above::of(words, exec), ParentLine::of(words, exec));
        let mut facts = Facts::default();
        family(words, exec, (&above, &line), &mut facts);
        facts.get(field).iter().map(|value| value.to_string()).collect()
    }

    #[test]
    fn servers_and_trust() {
        let words = Words::parse(crate::pack::WORDS).unwrap();
        let below = |ancestors: &[&'static str]| Exec {
            parent: ancestors[0],
            ancestors: ancestors.to_vec(),
            ..Exec::default()
        };
        let told = |ancestors, field| told(&words, &below(ancestors), field);
        assert_eq!(told(&["/usr/bin/dash", "/usr/sbin/php-fpm8.2"], Field::DaemonAncestor), ["php-fpm"]);
        assert_eq!(told(&["/usr/bin/dash", "/usr/bin/dpkg", "/usr/bin/apt-get"], Field::Trusted), ["package"]);
        for field in [Field::DaemonAncestor, Field::Trusted] {
            assert_eq!(told(&["/usr/bin/bash", "/usr/sbin/sshd"], field), [""; 0]);
        }
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
            assert_eq!(told(&words, &exec, Field::Login) == ["true"], typed, "{parent_command_line} {tty}");
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
            let exec = Exec { env: vec![variable], ..Exec::default() };
            assert_eq!(told(&words, &exec, Field::EnvHijack), Vec::from_iter(name), "{variable}");
        }
    }
}
