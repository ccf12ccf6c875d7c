//! A folder nobody runs on: the collector program beside this one reads it and writes one Arrow IPC stream.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use arrow::buffer::Buffer;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::ConnectError;
use super::answer::{Answer, AskError, Pieces};
use crate::programs;

/// Read at most this much of what the program says about a failure.
const STDERR_BYTES: u64 = 64 << 10;

/// A data folder to be read through the collector program.
#[derive(Debug, Clone)]
pub struct Folder {
    data: PathBuf,
    program: PathBuf,
}

impl Folder {
    /// # Errors
    /// [`ConnectError::NoFolder`], [`ConnectError::Unreadable`].
    pub(super) fn open(data: &Path) -> Result<Self, ConnectError> {
        if data.is_dir() {
            // The program may be started from anywhere.
            let data =
                data.canonicalize().map_err(|source| ConnectError::Unreadable { path: data.to_owned(), source })?;
            Ok(Self { data, program: programs::beside_this("skep-collector") })
        } else {
            Err(ConnectError::NoFolder { data: data.to_owned() })
        }
    }

    /// Where it is.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts the program on one statement.
    pub(super) async fn ask(&self, sql: &str, timeout_s: Option<u64>) -> Result<Answer, AskError> {
        let mut command = Command::new(&self.program);
        command.arg("query").arg("--data").arg(&self.data);
        if let Some(timeout_s) = timeout_s {
            command.arg("--timeout").arg(timeout_s.to_string());
        }
        let mut child = command
            .arg("--")
            .arg(sql)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| AskError::NoCollectorProgram { program: self.program.clone(), source })?;
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take().map(|stderr| tokio::spawn(said(stderr)));
        Answer::start(Pieces::Folder(FolderPieces { data: self.data.clone(), child, stdout, stderr })).await
    }
}

/// The program's stdout, then its verdict.
#[derive(Debug)]
pub(super) struct FolderPieces {
    data: PathBuf,
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<JoinHandle<String>>,
}

impl FolderPieces {
    pub(super) async fn next(&mut self) -> Result<Option<Buffer>, AskError> {
        let broken = |source| AskError::Folder { data: self.data.clone(), source };
        if let Some(stdout) = &mut self.stdout {
            let mut piece = Vec::with_capacity(64 << 10);
            if stdout.read_buf(&mut piece).await.map_err(broken)? > 0 {
                return Ok(Some(Buffer::from_vec(piece)));
            }
            self.stdout = None;
        }
        let status = self.child.wait().await.map_err(broken)?;
        let said = match self.stderr.take() {
            Some(task) => task.await.unwrap_or_default(),
            None => String::new(),
        };
        if status.success() {
            return Ok(None);
        }
        let message =
            last_line(&said).map_or_else(|| format!("the collector program ended with {status}"), str::to_owned);
        Err(AskError::Failed { message })
    }
}

async fn said(stderr: ChildStderr) -> String {
    let mut bytes = Vec::new();
    // Whatever could be read is what there is to say; the exit status decides.
    match stderr.take(STDERR_BYTES).read_to_end(&mut bytes).await {
        Ok(_) | Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// The line that says why: the last one, without the prefix every program of ours puts in front.
fn last_line(said: &str) -> Option<&str> {
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(["error: ", "Error: "].iter().find_map(|prefix| line.strip_prefix(prefix)).unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_line_without_its_prefix() {
        assert_eq!(last_line("warning: x\nerror: no table named y\n\n"), Some("no table named y"));
        assert_eq!(last_line("  \n"), None);
    }
}
