//! Where a program or its script lies, and what it calls itself.

use super::inline::{Given, given};
use super::own::Own;
use crate::event::Exec;
use crate::facts::{Facts, Field};
use crate::names::{absolute, base_name, plain_name};
use crate::words::Words;

/// Folders anybody may write to, by the kind rules know them by.
const VOLATILE: &[(&str, &str)] = &[
    ("/tmp/", "tmp"),
    ("/var/tmp/", "tmp"),
    ("/dev/shm/", "shm"),
    ("/run/shm/", "shm"),
    ("/dev/mqueue/", "shm"),
    ("/run/user/", "run"),
    ("/var/run/user/", "run"),
    ("/run/lock/", "run"),
    ("/var/lock/", "run"),
    ("/run/screen/", "run"),
    ("/var/spool/cups/", "run"),
    ("/var/crash/", "run"),
    ("/var/www/", "web"),
    ("/var/lib/php/sessions/", "tmp"),
];

const SYSTEM: &[&str] =
    &["/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/", "/opt/", "/snap/", "/nix/", "/gnu/", "/etc/", "/var/lib/"];

/// Kinds of volatile folders a path is below.
pub(super) fn volatile(path: &str) -> Option<&'static str> {
    // None of them begins otherwise, and most paths do.
    if !matches!(path.as_bytes(), [b'/', b't' | b'v' | b'd' | b'r', ..]) {
        return None;
    }
    VOLATILE.iter().find(|(folder, _)| path.starts_with(folder)).map(|(_, kind)| *kind)
}

/// Whether a part of a path is hidden and no tool chain's.
pub(super) fn is_hidden(words: &Words, path: &str) -> bool {
    path.contains("/.")
        && path.split('/').any(|part| part.len() > 1 && part.starts_with('.') && part != "..")
        && !path.split('/').any(|part| words.named("tool_chain_folder", part))
}

/// Whether a container runtime that is installed is above: it copies itself into memory before it starts a container.
fn below_runtime(words: &Words, exec: &Exec<'_>) -> bool {
    let installed =
        |path: &str| ["/usr/", "/opt/", "/snap/", "/var/lib/rancher/"].iter().any(|folder| path.starts_with(folder));
    let mut line = exec.ancestors.iter().copied().chain([exec.parent]);
    line.any(|path| installed(path) && (words.named("container_runtime", base_name(path))))
}

/// Whether it lies in no folder; that it does where none should, and what it gains, are facts.
pub(super) fn in_memory(words: &Words, exec: &Exec<'_>, facts: &mut Facts<'_>) -> bool {
    let by_descriptor = exec.filename.starts_with("/dev/fd/")
        || exec.filename.strip_prefix("/proc/").is_some_and(|rest| rest.contains("/fd/"))
        || exec.filename.starts_with("memfd:")
        || exec.exe.starts_with("memfd:")
        || exec.exe.starts_with("/memfd:");
    let fileless = exec.has("memfd") || by_descriptor;
    let copied_runtime = (fileless || exec.has("deleted")) && below_runtime(words, exec);
    facts.set(Field::Fileless, fileless && !copied_runtime);
    facts.set(Field::ExeDeleted, exec.has("deleted") && !fileless && !copied_runtime);
    facts.set(Field::PrivGain, gains(words, exec));
    fileless
}

/// Whether anybody may write there, and whether it is hidden.
pub(super) fn lies<'a>(words: &'a Words, exec: &Exec<'a>, facts: &mut Facts<'a>) {
    // A name without a slash is a task's, not a path.
    let both = [exec.path(), exec.filename];
    // Mostly they are one.
    let paths = if both[0] == both[1] { &both[..1] } else { &both[..] };
    for path in paths.iter().filter(|path| path.contains('/')) {
        let path = absolute(path, exec.cwd);
        if let Some(kind) = volatile(&path) {
            facts.add(Field::VolDir, kind);
        }
        facts.set(Field::HiddenPath, is_hidden(words, &path));
    }
}

/// The script an interpreter was given, or that was run by its own name.
pub(super) fn script(words: &Words, exec: &Exec<'_>, own: &Own, facts: &mut Facts<'_>) {
    if !own.shell && !own.interpreter {
        return;
    }
    let Given::File(script) = given(exec, own.shell) else { return };
    // `awk PROGRAM`, `sh` with a text for a name.
    if script.len() > 512 || script.contains(['{', '\n']) {
        return;
    }
    let path = absolute(script, exec.cwd);
    if let Some(kind) = volatile(&path) {
        facts.add(Field::ScriptPlace, kind);
    }
    if is_hidden(words, &path) {
        facts.add(Field::ScriptPlace, "hidden");
    }
    if is_odd_script(&path) {
        facts.add(Field::ScriptPlace, "odd");
    }
    words.program(base_name(&path), |class| {
        if matches!(class, "enumerator" | "dumper" | "exploit" | "miner" | "cracker") {
            facts.add(Field::Class, class.to_owned());
        }
    });
    facts.add(Field::Tool, base_name(&path).to_owned());
}

/// A script that goes by the name of a picture or a document.
fn is_odd_script(path: &str) -> bool {
    const DATA: &[&str] = &[
        ".png", ".jpg", ".jpeg", ".gif", ".pdf", ".doc", ".docx", ".xls", ".txt", ".log", ".zip", ".mp3", ".mp4",
        ".ico", ".bmp", ".svg", ".css", ".csv", ".tmp", ".dat", ".bak",
    ];
    let lower = base_name(path).to_ascii_lowercase();
    DATA.iter().any(|end| lower.ends_with(end)) || double_extension(&lower)
}

fn double_extension(name: &str) -> bool {
    let mut parts = name.rsplit('.');
    let (last, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    parts.next().is_some()
        && matches!(
            before,
            "pdf"
                | "doc"
                | "docx"
                | "xls"
                | "xlsx"
                | "jpg"
                | "jpeg"
                | "png"
                | "txt"
                | "mp3"
                | "mp4"
                | "gif"
                | "ppt"
                | "csv"
        )
        && matches!(last, "sh" | "py" | "pl" | "elf" | "bin" | "run" | "out" | "desktop" | "js" | "jar" | "rb" | "php")
}

/// A program that calls itself what it is not.
pub(super) fn disguise<'a>(words: &'a Words, exec: &Exec<'a>, facts: &mut Facts<'a>) {
    let (path, name) = (exec.path(), base_name(exec.path()));
    let own = exec.argv.first().copied().unwrap_or_default();
    let system = SYSTEM.iter().any(|folder| path.starts_with(folder));
    if is_kernel_thread(words, own) || is_kernel_thread(words, name) {
        facts.add(Field::Masquerade, "kernel_thread");
    }
    if name.ends_with(' ')
        || name.starts_with(' ')
        || exec.filename.split('/').any(|part| part.ends_with(' ') || part == "...")
    {
        facts.add(Field::Masquerade, "space");
    }
    if double_extension(&base_name(exec.filename).to_ascii_lowercase()) {
        facts.add(Field::Masquerade, "extension");
    }
    let known = words.named("system_program", name) || words.is_program(name, "shell");
    if known && !system && !path.is_empty() && path.starts_with('/') && !path.contains("busybox") {
        facts.add(Field::Masquerade, "system_name");
    }
    // `exec -a NAME`: a daemon's name on a shell or an interpreter.
    let called = base_name(own.trim_start_matches('-'));
    let runs_code = |name: &str| words.is_program(name, "shell") || words.is_program(name, "interpreter");
    if words.named("system_program", called) && runs_code(name) && !runs_code(called) && called != name {
        facts.add(Field::Masquerade, "renamed");
    }
}

fn is_kernel_thread(words: &Words, name: &str) -> bool {
    let bracketed = name.starts_with('[') && name.ends_with(']') && name.len() > 2;
    let plain = base_name(name).split([':', '/']).next().unwrap_or_default();
    bracketed || words.named("kernel_thread", plain.trim_end_matches(|c: char| c.is_ascii_digit()))
}

fn gains(words: &Words, exec: &Exec<'_>) -> bool {
    // The kernel's flag also stands for a change of group; root itself has nothing to gain.
    if !exec.has("privilege_gain") || exec.uid == Some(0) {
        return false;
    }
    let path = exec.path();
    let named = words.named("setuid_program", base_name(path)) || words.named("setuid_program", plain_name(path));
    let installed = ["/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/", "/snap/", "/opt/google/"];
    !(named && installed.iter().any(|folder| path.starts_with(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts_of(exec: &Exec<'_>) -> Vec<(Field, Vec<String>)> {
        let words = Words::parse(crate::pack::WORDS).unwrap();
        let own = Own::of(&words, exec);
        let mut facts = Facts::default();
        if !in_memory(&words, exec, &mut facts) {
            own.place.tell(&mut facts);
        }
        script(&words, exec, &own, &mut facts);
        disguise(&words, exec, &mut facts);
        [
            Field::Fileless,
            Field::ExeDeleted,
            Field::VolDir,
            Field::HiddenPath,
            Field::ScriptPlace,
            Field::Masquerade,
            Field::PrivGain,
        ]
        .into_iter()
        .map(|field| (field, facts.get(field).iter().map(|value| value.to_string()).collect::<Vec<_>>()))
        .filter(|(_, values)| !values.is_empty())
        .collect()
    }

    fn exec<'a>(exe: &'a str, argv: &[&'a str]) -> Exec<'a> {
        Exec { exe, filename: exe, argv: argv.to_vec(), cwd: "/home/ann", uid: Some(1000), ..Exec::default() }
    }

    #[test]
    fn places() {
        let memfd = Exec { flags: vec!["memfd"], ..exec("memfd:x", &["x"]) };
        assert_eq!(facts_of(&memfd)[0].0, Field::Fileless);
        assert_eq!(facts_of(&Exec { parent: "/usr/bin/runc", ..memfd }), []);
        assert_eq!(facts_of(&exec("/dev/shm/x", &["x"])), [(Field::VolDir, vec!["shm".to_owned()])]);
        assert_eq!(facts_of(&exec("/usr/bin/.sshd", &["x"])), [(Field::HiddenPath, vec!["true".to_owned()])]);
        assert_eq!(facts_of(&exec("/home/ann/.cargo/bin/cargo", &["cargo"])), []);
        assert_eq!(
            facts_of(&exec("/usr/bin/bash", &["bash", "/tmp/x.sh"])),
            [(Field::ScriptPlace, vec!["tmp".to_owned()])]
        );
        assert_eq!(facts_of(&exec("/usr/bin/vim", &["vim", "/tmp/x.sh"])), []);
    }

    #[test]
    fn disguises() {
        for (exe, argv, how) in [
            ("/home/ann/x", &["[kworker/0:1]"][..], "kernel_thread"),
            ("/home/ann/sshd", &["sshd"], "system_name"),
            ("/home/ann/report.pdf.sh", &["x"], "extension"),
            ("/home/ann/init ", &["init "], "space"),
            ("/usr/bin/bash", &["sshd"], "renamed"),
        ] {
            let found = facts_of(&exec(exe, argv));
            let values = found.iter().find(|(field, _)| *field == Field::Masquerade).map(|(_, values)| values.clone());
            assert!(values.unwrap_or_default().contains(&how.to_owned()), "{exe}: {found:?}");
        }
        for (exe, argv) in
            [("/usr/sbin/sshd", &["sshd: ann [priv]"][..]), ("/usr/bin/bash", &["-bash"]), ("/usr/bin/dash", &["sh"])]
        {
            assert_eq!(facts_of(&exec(exe, argv)), [], "{exe}");
        }
    }

    #[test]
    fn gaining_root() {
        let words = Words::parse(crate::pack::WORDS).unwrap();
        let gain = |exe| Exec { flags: vec!["privilege_gain"], ..exec(exe, &["x"]) };
        assert!(gains(&words, &gain("/home/ann/x")) && gains(&words, &gain("/tmp/sudo")));
        assert!(
            !gains(&words, &gain("/usr/bin/sudo")) && !gains(&words, &Exec { uid: Some(0), ..gain("/home/ann/x") })
        );
    }
}
