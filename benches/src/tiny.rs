//! The smallest program there is: it exits with 0, or sleeps until it is killed.
//!
//! Source: elf(5); the calls are those of the architecture's syscall table.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the file is mapped.
const ADDRESS: u64 = 0x40_0000;

/// ELF header and one program header.
const HEADERS: u64 = 64 + 56;

#[cfg(target_arch = "x86_64")]
mod code {
    pub(super) const MACHINE: u16 = 62;
    /// `mov eax, 60; xor edi, edi; syscall`
    pub(super) const EXIT: &[u8] = &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    /// `mov eax, 34; syscall; jmp` back: pause()
    pub(super) const SLEEP: &[u8] = &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
}

#[cfg(target_arch = "aarch64")]
mod code {
    pub(super) const MACHINE: u16 = 183;
    /// `mov x8, 93; mov x0, 0; svc 0`
    pub(super) const EXIT: &[u8] = &[0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 1, 0, 0, 0xd4];
    /// `mov x0, 0; mov x1, 0; mov x2, 0; mov x3, 0; mov x8, 73; svc 0; b` back: ppoll() of nothing
    pub(super) const SLEEP: &[u8] = &[
        0, 0, 0x80, 0xd2, 1, 0, 0x80, 0xd2, 2, 0, 0x80, 0xd2, 3, 0, 0x80, 0xd2, 0x28, 0x09, 0x80, 0xd2, 1, 0, 0, 0xd4,
        0xfa, 0xff, 0xff, 0x17,
    ];
}

/// Writes the program that exits at once.
pub(crate) fn write_exit(folder: &Path) -> Result<PathBuf> {
    write(folder.join("exit"), code::EXIT)
}

/// Writes the program that sleeps.
pub(crate) fn write_sleep(folder: &Path) -> Result<PathBuf> {
    write(folder.join("sleep"), code::SLEEP)
}

fn write(path: PathBuf, code: &[u8]) -> Result<PathBuf> {
    fs::write(&path, elf(code)).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

fn elf(code: &[u8]) -> Vec<u8> {
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // Executable, machine, version; entry, program headers, section headers.
    for half in [2, code::MACHINE] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes());
    for word in [ADDRESS + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    // Flags; sizes of the header and of a program header, of which there is one.
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // Load, readable and executable: offset, address twice, size twice, alignment.
    file.extend(1u32.to_le_bytes());
    file.extend(5u32.to_le_bytes());
    for word in [0, ADDRESS, ADDRESS, size, size, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_do_as_they_should() {
        let folder = tempfile::tempdir().expect("a folder");
        let exit = write_exit(folder.path()).expect("it is written");
        assert!(std::process::Command::new(exit).status().expect("it runs").success());
        let sleep = write_sleep(folder.path()).expect("it is written");
        let mut child = std::process::Command::new(sleep).spawn().expect("it runs");
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(child.try_wait().expect("it is ours").is_none(), "it sleeps");
        child.kill().expect("it can be killed");
        child.wait().expect("it is ours");
    }
}
