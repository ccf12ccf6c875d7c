//! What keeps an intruder on the host, or makes one more powerful there.

use super::Rule;
use super::origin::{VOLATILE, below, below_builder};
use super::tamper::below_package_manager;
use crate::detect::exec::{Exec, SHELLS, base_name};
use crate::detect::finding::Severity;

const COMMAND: &[&str] = &["exe", "argv", "cwd", "uid", "parent_exe"];

/// The rules of this file.
pub static RULES: &[Rule] = &[
    Rule {
        id: "kernel-module-load",
        title: "kernel module loaded from outside the module folders",
        severity: Severity::High,
        attack: &["T1547.006", "T1014"],
        looks_at: COMMAND,
        benign: "developers of kernel modules",
        matches: |exec| exec.is_any(&["insmod"]) && !installed_module(exec) && !below_package_manager(exec),
    },
    Rule {
        id: "shell-escape",
        title: "shell started through a program that is none",
        severity: Severity::High,
        attack: &["T1548.003", "T1059.004"],
        looks_at: COMMAND,
        benign: "hardly any: the argument forms are the known ways out of a restricted shell or a sudo rule",
        matches: escapes_to_shell,
    },
    Rule {
        id: "setuid-grant",
        title: "setuid bit or capability given to a file",
        severity: Severity::Medium,
        attack: &["T1548.001"],
        looks_at: COMMAND,
        benign: "installation of setuid tools; package managers and build tools among the ancestors are left out",
        matches: |exec| grants_setuid(exec) && !below_package_manager(exec) && !below_builder(exec),
    },
    Rule {
        id: "start-file-change",
        title: "file written that is run at login, at boot or by every program",
        severity: Severity::Medium,
        attack: &["T1037.004", "T1574.006", "T1548.003", "T1543.002"],
        looks_at: COMMAND,
        benign: "administration by hand; provisioning tools and package managers among the ancestors are left out",
        matches: |exec| writes_start_file(exec) && !below_package_manager(exec) && !below_builder(exec),
    },
    Rule {
        id: "volatile-start",
        title: "cron job or service taken from a folder anybody may write to",
        severity: Severity::High,
        attack: &["T1053.003", "T1569.003", "T1543.002"],
        looks_at: COMMAND,
        benign: "hardly any",
        matches: starts_from_volatile,
    },
    Rule {
        id: "timestomp",
        title: "file's times set to look old",
        severity: Severity::Medium,
        attack: &["T1070.006"],
        looks_at: COMMAND,
        benign: "reproducible builds and backups; build tools and package managers among the ancestors are left out",
        matches: |exec| sets_old_times(exec) && !below_package_manager(exec) && !below_builder(exec),
    },
    Rule {
        id: "drop-upload",
        title: "upload to a public drop site or chat hook",
        severity: Severity::Medium,
        attack: &["T1567", "T1048", "T1102.002"],
        looks_at: COMMAND,
        benign: "a team's own notifications through a chat hook",
        matches: uploads_to_drop,
    },
];

fn installed_module(exec: &Exec<'_>) -> bool {
    let module = exec.arguments().iter().find(|argument| !argument.starts_with('-'));
    module.is_some_and(|path| below(path, &["/lib/modules/", "/usr/lib/modules/"]))
}

/// GTFOBins-like argument forms: a pager, editor, archiver or interpreter whose argument is a shell.
fn escapes_to_shell(exec: &Exec<'_>) -> bool {
    let shells = ["/bin/sh", "/bin/bash", "/bin/dash", "/bin/zsh"];
    if !exec.says_any(&shells) && !exec.says("bash -i") {
        return false;
    }
    // Behind sudo the program is one of its arguments.
    let is = |names: &[&str]| {
        exec.is_any(names)
            || exec.is_any(&["sudo", "doas"]) && exec.arguments().iter().any(|word| names.contains(&base_name(word)))
    };
    let has = |texts: &[&str]| exec.says_any(texts);
    is(&["vim", "vi", "nvim", "view", "ed", "ex"]) && has(&[":!/", "+!/", ":shell"])
        || is(&["awk", "gawk", "mawk", "nawk"]) && has(&["system("])
        || is(&["find"]) && ends_in_shell(exec, "-exec")
        || is(&["tar"]) && has(&["--checkpoint-action=exec", "--to-command=/bin", "-I /bin"])
        || is(&["python", "python3", "perl", "ruby", "lua"])
            && has(&["setuid(0)", "pty.spawn", "os.setuid", "exec \"/bin/"])
        || is(&["emacs"]) && has(&["(term \"/bin"])
        || is(&["env", "nice", "ionice", "stdbuf", "flock", "taskset", "unshare", "xargs"]) && ends_in_shell(exec, "-p")
        || SHELLS.iter().any(|shell| exec.is_any(&[shell])) && exec.has_argument("-p") && exec.has("privilege_gain")
}

/// `find . -exec /bin/sh ;`: a shell right behind the option and no script for it.
fn ends_in_shell(exec: &Exec<'_>, option: &str) -> bool {
    let arguments = exec.arguments();
    let at = arguments.iter().position(|argument| *argument == option);
    let shell = at.and_then(|at| arguments.get(at + 1)).is_some_and(|next| SHELLS.contains(&base_name(next)));
    shell && !exec.has_argument("-c")
}

fn grants_setuid(exec: &Exec<'_>) -> bool {
    let chmod = exec.is_any(&["chmod"]) && exec.arguments().iter().any(|mode| sets_special_bit(mode));
    let powers = ["cap_setuid", "cap_setgid", "cap_sys_admin", "cap_dac_override", "cap_sys_ptrace", "cap_sys_module"];
    chmod || exec.is_any(&["setcap"]) && exec.says_any(&powers)
}

/// `4755`, `06755`, `u+s`, `g+xs`. Not `g+s` and not `2755`: a folder with the group bit hands its group to new files,
/// which is daily bread.
fn sets_special_bit(mode: &str) -> bool {
    let octal = mode.trim_start_matches('0');
    if octal.len() == 4 && octal.bytes().all(|digit| digit.is_ascii_digit()) {
        return octal.starts_with(['4', '5', '6', '7']);
    }
    mode.split(',').any(|part| {
        let Some((who, what)) = part.split_once('+') else { return false };
        let plain = who.bytes().all(|b| b"ugoa".contains(&b)) && what.bytes().all(|b| b"rwxXst".contains(&b));
        plain && what.contains('s') && (who, what) != ("g", "s")
    })
}

/// Run by every program, at boot, or deciding who may become root.
const START_FILES: &[&str] = &[
    "/etc/ld.so.preload",
    "/etc/rc.local",
    "/etc/rc.common",
    "/etc/rc.d/rc.local",
    "/etc/sudoers",
    "/etc/pam.d/",
    "/etc/profile",
    "/etc/profile.d/",
    "/etc/bash.bashrc",
    "/etc/init.d/",
    "/etc/cron.d/",
    "/etc/crontab",
    "/etc/systemd/system/",
    "/usr/lib/systemd/system/",
    "/lib/systemd/system/",
    "/var/spool/cron/",
    "/etc/udev/rules.d/",
    "/etc/update-motd.d/",
    "/root/.ssh/authorized_keys",
];

fn writes_start_file(exec: &Exec<'_>) -> bool {
    let is_start_file = |path: &str| {
        START_FILES.iter().any(|start| {
            if start.ends_with('/') {
                path.starts_with(start)
            } else {
                path == *start || path.starts_with(&format!("{start}.d/"))
            }
        }) || path.ends_with("/.ssh/authorized_keys")
    };
    let names = exec.arguments().iter().any(|argument| is_start_file(argument.trim_start_matches("of=")));
    let in_place = exec.is_any(&["sed", "perl"])
        && exec.arguments().iter().any(|a| a.starts_with("-i") || *a == "--in-place" || a.starts_with("-pi"));
    let writer = exec.is_any(&["tee", "chattr", "vim", "vi", "nano", "ed"])
        || exec.is_any(&["dd"]) && exec.says("of=")
        || in_place;
    let script = exec.shell_script().is_some_and(|script| {
        [">> ", "> ", ">>", ">"].iter().any(|arrow| {
            script.split(arrow).skip(1).any(|rest| {
                rest.split_whitespace().next().is_some_and(|word| is_start_file(&word.replace('~', "/root")))
            })
        })
    });
    names && writer || script
}

fn starts_from_volatile(exec: &Exec<'_>) -> bool {
    let volatile = |argument: &str| below(argument, VOLATILE) || below(argument, &["/dev/shm/"]);
    let names = exec.arguments().iter().any(|argument| volatile(argument));
    exec.is_any(&["crontab"]) && names
        || exec.is_any(&["systemctl"]) && (exec.has_argument("link") || exec.has_argument("enable")) && names
}

fn sets_old_times(exec: &Exec<'_>) -> bool {
    if !exec.is_any(&["touch"]) {
        return false;
    }
    let short = |letter: char| {
        exec.arguments().iter().any(|argument| {
            argument.len() > 1 && argument.starts_with('-') && !argument.starts_with("--") && argument.contains(letter)
        })
    };
    let long = |name: &str| exec.arguments().iter().any(|argument| argument.starts_with(name));
    // `-d now` and the like set nothing back.
    let date = exec.arguments().windows(2).any(|pair| {
        pair[0].ends_with('d') && pair[0].starts_with('-') && pair[1].starts_with(|c: char| c.is_ascii_digit())
    });
    short('t') || short('r') && !long("--re") || date || long("--date=1") || long("--date=2") || long("--reference")
}

/// Where stolen data goes because nobody blocks it.
const DROPS: &[&str] = &[
    "transfer.sh",
    "file.io",
    "paste.rs",
    "pastebin.com",
    "hastebin",
    "ix.io",
    "0x0.st",
    "termbin.com",
    "anonfiles",
    "gofile.io",
    "discord.com/api/webhooks",
    "discordapp.com/api/webhooks",
    "hooks.slack.com/services",
    "api.telegram.org/bot",
    "webhook.site",
    "requestbin",
    "ngrok.io",
    "ngrok-free",
    "mega:",
    "mega.nz",
    "catbox.moe",
    "bashupload.com",
    "temp.sh",
    "oshi.at",
];

fn uploads_to_drop(exec: &Exec<'_>) -> bool {
    let sends = exec.is_any(&["curl"])
        && exec.arguments().iter().any(|a| {
            matches!(*a, "-F" | "-T" | "-d" | "--data" | "--data-binary" | "--data-raw" | "--upload-file" | "--form")
                || a.starts_with("-F")
                || a.starts_with("-T")
                || a.starts_with("--data")
                || a.starts_with("--form=")
                || a.starts_with("--upload-file=")
        })
        || exec.is_any(&["wget"]) && exec.says("--post-")
        || exec.is_any(&["nc", "ncat", "rclone", "megaput"]);
    sends && exec.says_any(DROPS) || exec.is_any(&["megaput"])
}
