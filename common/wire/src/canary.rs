//! What a canary is called with and how it ends: the agent runs it so, the collector knows it by that.

/// Its own name, the first argument.
pub const PROGRAM: &str = "skep-agent";

/// The subcommand.
pub const COMMAND: &str = "canary";

/// How it ends when all went as meant; nothing else ends so.
pub const EXIT_CODE: u8 = 67;

/// What must arrive of it, and the domain of the probe that sees it.
pub const PARTS: [(&str, &str); 3] = [("exec", "process"), ("exit", "process"), ("connect", "tcp")];

/// Its whole argument vector.
pub fn argv(marker: &str, port: i64) -> [String; 6] {
    [PROGRAM, COMMAND, "--marker", marker, "--port", &port.to_string()].map(str::to_owned)
}
