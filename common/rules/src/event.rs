//! What happened, borrowed from whoever recorded it.

/// A program began to run.
#[derive(Debug, Clone, Default)]
pub struct Exec<'a> {
    /// When, in microseconds of the wall clock.
    pub time_us: i64,
    /// Process id on its node; 0 when unknown.
    pub pid: i64,
    /// Its parent's; 0 when unknown.
    pub ppid: i64,
    /// When the process started, which makes its id unique; 0 when unknown.
    pub start_ns: i64,
    /// Resolved executable; empty when unknown.
    pub exe: &'a str,
    /// Path given to execve: of a script, the script.
    pub filename: &'a str,
    /// Argument vector.
    pub argv: Vec<&'a str>,
    /// The arguments joined by blanks.
    pub command_line: &'a str,
    /// Working directory; empty when unknown.
    pub cwd: &'a str,
    /// Parent's resolved executable, else its task name.
    pub parent: &'a str,
    /// The parent's command line; empty when unknown.
    pub parent_command_line: &'a str,
    /// Executables from parent outwards, as far as known.
    pub ancestors: Vec<&'a str>,
    /// Facts the kernel told, by the names of `skep_common::exec_flag`.
    pub flags: Vec<&'a str>,
    /// Whether `flags` says anything of the standard streams; where it does not, links are guessed.
    pub streams_known: bool,
    /// Environment variables that were recorded, `NAME=value`.
    pub env: Vec<&'a str>,
    /// Real user.
    pub uid: Option<i64>,
    /// Effective user.
    pub euid: Option<i64>,
    /// Name of the user; empty when unknown.
    pub user: &'a str,
    /// Who logged in, whatever the process became since.
    pub login_uid: Option<i64>,
    /// Audit session.
    pub session: Option<i64>,
    /// Controlling terminal; empty for none.
    pub tty: &'a str,
    /// Inode of standard input where it is a pipe or a socket; 0 for none.
    pub stdin_inode: i64,
    /// Inode of standard output likewise.
    pub stdout_inode: i64,
    /// Who it belongs to, for baselines; empty when unknown.
    pub workload: &'a str,
    /// On which node; empty when there is only one.
    pub node: &'a str,
}

impl<'a> Exec<'a> {
    /// Whether the kernel told this fact.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The path that was executed: resolved where known.
    pub fn path(&self) -> &'a str {
        if self.exe.is_empty() { self.filename } else { self.exe }
    }
}

/// A TCP connection opened.
#[derive(Debug, Clone, Default)]
pub struct Connection<'a> {
    /// When, in microseconds of the wall clock.
    pub time_us: i64,
    /// Process id on its node.
    pub pid: i64,
    /// Resolved executable, else the task name.
    pub exe: &'a str,
    /// Its command line; empty when unknown.
    pub command_line: &'a str,
    /// Whether this host opened it.
    pub outgoing: bool,
    /// The other end.
    pub remote_address: &'a str,
    /// Its port.
    pub remote_port: i64,
    /// This end.
    pub local_address: &'a str,
    /// Its port.
    pub local_port: i64,
    /// Real user.
    pub uid: Option<i64>,
    /// Name of the user; empty when unknown.
    pub user: &'a str,
    /// Who it belongs to, for baselines; empty when unknown.
    pub workload: &'a str,
    /// On which node; empty when there is only one.
    pub node: &'a str,
}
