//! Shells that nobody sits in front of.

use super::Rule;
use crate::detect::exec::{Exec, INTERPRETERS, SHELLS, plain_name};
use crate::detect::finding::Severity;

/// The rules of this file.
pub static RULES: &[Rule] = &[
    Rule {
        id: "shell-inet-stdio",
        title: "shell whose input or output is a network connection",
        severity: Severity::Critical,
        attack: &["T1059.004"],
        looks_at: &["exe", "argv", "parent_exe", "flags"],
        benign: "inetd-style services and rsh; none in the recorded execs",
        matches: |exec| {
            exec.is_any(INTERPRETERS) && (exec.has("stdin_inet") || exec.has("stdout_inet")) && !is_sshd(exec)
        },
    },
    Rule {
        id: "reverse-shell",
        title: "command line that hands a shell to a network connection",
        severity: Severity::Critical,
        attack: &["T1059.004", "T1095"],
        looks_at: &["exe", "argv", "parent_exe"],
        benign: "health checks that only probe a port through /dev/tcp have no shell on it and are left out",
        matches: is_reverse_shell,
    },
    Rule {
        id: "server-spawns-shell",
        title: "network server runs a shell or interpreter",
        severity: Severity::High,
        attack: &["T1505.003", "T1190"],
        looks_at: &["exe", "argv", "parent_exe", "ancestors"],
        benign: "servers that call helper scripts; maintenance of the database itself (initdb, locale) is left out",
        matches: server_spawns,
    },
    Rule {
        id: "download-to-shell",
        title: "download piped into a shell",
        severity: Severity::High,
        attack: &["T1105", "T1059.004"],
        looks_at: &["exe", "argv", "parent_exe"],
        benign: "installers of developer tools that are meant to be run this way",
        matches: |exec| exec.shell_script().is_some_and(|script| pipes(script, is_download, is_interpreter)),
    },
    Rule {
        id: "decode-to-shell",
        title: "encoded text decoded into a shell",
        severity: Severity::High,
        attack: &["T1140", "T1027"],
        looks_at: &["exe", "argv", "parent_exe"],
        benign: "configuration tools that ship scripts this way; the tool is the parent then",
        matches: decodes_to_shell,
    },
];

/// Programs that serve a network and have no business with shells.
const SERVERS: &[&str] = &[
    "apache",
    "httpd",
    "nginx",
    "lighttpd",
    "caddy",
    "haproxy",
    "php-fpm",
    "php-cgi",
    "uwsgi",
    "gunicorn",
    "unicorn",
    "puma",
    "passenger",
    "tomcat",
    "catalina",
    "java",
    "node",
    "mysqld",
    "mariadbd",
    "postgres",
    "mongod",
    "redis-server",
    "memcached",
    "named",
    "exim",
    "dovecot",
    "smbd",
    "vsftpd",
    "proftpd",
    "cups-browsed",
    "cupsd",
    "squid",
    "slapd",
    "asterisk",
    "openvpn",
    "w3wp",
    "elasticsearch",
    "influxd",
    "rabbitmq-server",
    "beam.smp",
    "varnishd",
    "envoy",
];

fn is_sshd(exec: &Exec<'_>) -> bool {
    matches!(plain_name(exec.parent), "sshd" | "sshd-session" | "in.rshd" | "dropbear")
}

fn is_reverse_shell(exec: &Exec<'_>) -> bool {
    let line = exec.command_line.as_str();
    let shell_named =
        SHELLS.iter().any(|shell| line.contains(&format!("/{shell}")) || line.contains(&format!("{shell} ")));
    let dev_tcp = (line.contains("/dev/tcp/") || line.contains("/dev/udp/"))
        && (line.contains(">&") || line.contains("<&") || line.contains("0<"))
        && (line.contains("sh -i") || line.contains("exec "));
    let netcat = exec.is_any(&["nc", "ncat", "netcat", "nc.traditional", "nc.openbsd"])
        && exec.arguments().iter().any(|argument| {
            matches!(*argument, "-e" | "-c" | "--exec" | "--sh-exec") || argument.starts_with("--exec=")
        })
        && shell_named;
    let socat = exec.is_any(&["socat"])
        && exec.arguments().iter().any(|a| {
            let a = a.to_ascii_lowercase();
            (a.starts_with("exec:") || a.starts_with("system:")) && a.contains("sh")
        });
    let inline = exec.is_any(&["python", "perl", "ruby", "php", "lua", "node"])
        && exec.says_any(&["socket", "Socket", "fsockopen", "TCPSocket"])
        && exec.says_any(&["dup2", "pty.spawn", "/bin/sh", "/bin/bash", "exec(", "IO.popen", "os.execute", "STDIN"]);
    let pipe = exec.shell_script().is_some_and(|script| {
        (script.contains("mkfifo") || script.contains("mknod"))
            && ["nc ", "ncat ", "telnet ", "openssl s_client"].iter().any(|tool| script.contains(tool))
            && script.contains("sh")
    });
    let quoted = exec.shell_script().is_some_and(|script| {
        ["nc -e", "ncat -e", "nc.traditional -e", "netcat -e"].iter().any(|call| script.contains(call))
    });
    dev_tcp || netcat || socat || inline || pipe || quoted
}

/// A server among the nearest ancestors (nothing but shells between) runs a shell, an interpreter or a download.
fn server_spawns(exec: &Exec<'_>) -> bool {
    if !exec.is_any(INTERPRETERS) && !exec.is_any(&["curl", "wget", "nc", "ncat", "socat", "whoami", "id"]) {
        return false;
    }
    let line = if exec.ancestors.is_empty() { vec![exec.parent] } else { exec.ancestors.clone() };
    let nearest = line.into_iter().find(|ancestor| !SHELLS.contains(&plain_name(ancestor)));
    let Some(server) = nearest.map(plain_name) else { return false };
    // A server may start itself again, and an interpreter that serves may run more of its own kind.
    if !SERVERS.contains(&server) || exec.is_any(&[server]) {
        return false;
    }
    match server {
        "postgres" | "mysqld" | "mariadbd" => !exec.says_any(&["locale -a", "postgres", "mysqld", "mariadb"]),
        // These two are tool chains as often as servers.
        "java" | "node" => exec.is_any(SHELLS) && suspicious_script(exec.shell_script().unwrap_or_default()),
        _ => true,
    }
}

/// What an intruder types first.
fn suspicious_script(script: &str) -> bool {
    let first = script.split_whitespace().next().unwrap_or_default();
    matches!(plain_name(first), "id" | "whoami" | "curl" | "wget" | "nc" | "uname" | "hostname")
        || ["/etc/passwd", "/dev/tcp", "/tmp/", "base64 -d", "chmod +x"].iter().any(|text| script.contains(text))
}

/// Whether a script pipes a command that is `from` into one that is `into`, at any distance in the same pipeline.
fn pipes(script: &str, from: fn(&str) -> bool, into: fn(&str) -> bool) -> bool {
    script.split([';', '\n', '&']).any(|statement| {
        let mut commands = statement.split('|').map(str::trim);
        commands.by_ref().any(from) && commands.any(into)
    }) || substitutes(script, from)
}

/// `sh -c "$(curl ...)"`, `bash <(curl ...)`, `eval $(...)`.
fn substitutes(script: &str, from: fn(&str) -> bool) -> bool {
    ["sh -c \"$(", "sh -c $(", "sh <(", "bash <(", "eval $(", "eval \"$(", "eval `", "source <(", ". <("]
        .iter()
        .filter_map(|opening| script.split_once(opening))
        .any(|(_, inner)| inner.split('|').any(|command| from(command.trim())))
}

fn program_of(command: &str) -> &str {
    let mut words = command.split_whitespace().skip_while(|word| {
        matches!(*word, "sudo" | "env" | "nohup" | "exec" | "-E" | "-n" | "!" | "if" | "then" | "do" | "(" | "{")
            || word.contains('=') && !word.starts_with('-')
    });
    plain_name(
        words.next().unwrap_or_default().trim_start_matches(['(', '{', '`']).trim_end_matches([')', '}', '`', '"']),
    )
}

fn is_download(command: &str) -> bool {
    matches!(program_of(command), "curl" | "wget" | "fetch" | "aria2c" | "lwp-download")
}

fn is_interpreter(command: &str) -> bool {
    let program = program_of(command);
    INTERPRETERS.contains(&program) && {
        // `| python -m json.tool`, `| perl -pe ...`: the pipe is data there, not code.
        let own_code = ["-c", "-e", "-pe", "-ne", "-nle", "-lne", "-m", "-r", "-n", "-p", "-ane", "-lane", "-0pe"];
        !command.split_whitespace().skip(1).any(|word| own_code.contains(&word)) || SHELLS.contains(&program)
    }
}

fn is_decoder(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    let has = |flags: &[&str]| words.iter().any(|word| flags.contains(word));
    match program_of(command) {
        "base64" | "base" | "basenc" => has(&["-d", "-D", "--decode", "-di"]),
        "xxd" => has(&["-r", "-rp", "-r -p"]),
        "openssl" => has(&["base64", "enc"]) && has(&["-d", "-D"]),
        "uudecode" => true,
        _ => command.contains("{base64,-d}"),
    }
}

fn decodes_to_shell(exec: &Exec<'_>) -> bool {
    if let Some(script) = exec.shell_script() {
        return pipes(script, is_decoder, is_interpreter)
            || script.contains("{base64,-d}")
            || script.contains("\\x") && script.contains("$'\\x");
    }
    let inline = exec.is_any(&["python", "perl", "ruby", "php"])
        && exec.arguments().iter().any(|argument| matches!(*argument, "-c" | "-e" | "-r"));
    inline
        && exec.says_any(&["b64decode", "decode_base64", "base64_decode", "Base64.decode", "fromhex", "decode('hex')"])
        && exec.says_any(&["exec(", "eval", "system(", "os.system", "subprocess", "popen"])
}
