//! Reads the kernel's own description of its types (BTF).
//!
//! Only what the probes ask for: where a member of a struct is, how many arguments a tracepoint has, what an enumerator
//! stands for. The loader's own reader does not give out members.
//!
//! Source: Documentation/bpf/btf.rst.

use std::collections::HashMap;

use super::error::ProbeError;

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;

/// Kinds of types, include/uapi/linux/btf.h.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const POINTER: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// The kernel's types.
#[derive(Debug)]
pub(super) struct KernelBtf {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins; index 0 is `void`.
    types: Vec<usize>,
    structs: HashMap<String, u32>,
    hooks: HashMap<String, u32>,
    enums: HashMap<String, u32>,
}

/// A type's first twelve bytes.
#[derive(Clone, Copy)]
struct Head {
    name: u32,
    kind: u32,
    entries: usize,
    flag: bool,
    /// Size or the type it refers to.
    size_or_type: u32,
}

impl KernelBtf {
    /// Indexes a description.
    ///
    /// Errors: [`ProbeError::DamagedBtf`] when it is not one.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, ProbeError> {
        let damaged = |offset| ProbeError::DamagedBtf { offset };
        let magic = bytes.get(..2).and_then(|two| two.try_into().ok()).map(u16::from_ne_bytes);
        if magic != Some(MAGIC) || bytes.len() < HEADER_BYTES {
            return Err(damaged(0));
        }
        let word = |at| word_at(&bytes, at).map(|value| value as usize).ok_or(damaged(at));
        let header = word(4)?;
        let (begin, length) = (header + word(8)?, word(12)?);
        let strings = header + word(16)?;
        let mut btf = Self {
            strings,
            types: vec![0],
            structs: HashMap::new(),
            hooks: HashMap::new(),
            enums: HashMap::new(),
            bytes,
        };
        let mut at = begin;
        while at < begin + length {
            let head = btf.head_at(at).ok_or(damaged(at))?;
            let id = btf.types.len() as u32;
            btf.types.push(at);
            btf.index(id, head);
            at += 12 + trailing_bytes(head).ok_or(damaged(at))?;
        }
        Ok(btf)
    }

    /// Offset of a member in bits. `path` names members from outermost to innermost, with dots; anonymous ones are
    /// looked through.
    pub(super) fn member_bits(&self, object: &str, path: &str) -> Option<u64> {
        let mut id = *self.structs.get(object)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, inner) = self.find_member(id, name)?;
            bits += offset;
            id = inner;
        }
        Some(bits)
    }

    /// How many arguments a tracepoint hands to a program; `None` when the kernel does not have it.
    pub(super) fn hook_arguments(&self, hook: &str) -> Option<usize> {
        let pointer = self.head(*self.hooks.get(hook)?)?.size_or_type;
        let prototype = self.head(self.head(pointer)?.size_or_type)?;
        // The first parameter is the tracepoint's own.
        (prototype.kind == kind::FUNC_PROTO).then(|| prototype.entries.saturating_sub(1))
    }

    /// Value of an enumerator.
    pub(super) fn enumerator(&self, enumeration: &str, name: &str) -> Option<u64> {
        let id = *self.enums.get(enumeration)?;
        let at = *self.types.get(id as usize)?;
        (0..self.head(id)?.entries).find_map(|entry| {
            let at = at + 12 + entry * 8;
            (self.text(word_at(&self.bytes, at)?) == Some(name.as_bytes()))
                .then(|| word_at(&self.bytes, at + 4).map(u64::from))?
        })
    }

    fn index(&mut self, id: u32, head: Head) {
        let Some(name) = self.text(head.name).filter(|name| !name.is_empty()) else { return };
        let name = String::from_utf8_lossy(name).into_owned();
        match head.kind {
            kind::STRUCT => _ = self.structs.entry(name).or_insert(id),
            kind::ENUM => _ = self.enums.entry(name).or_insert(id),
            kind::TYPEDEF => {
                if let Some(hook) = name.strip_prefix("btf_trace_") {
                    self.hooks.entry(hook.to_owned()).or_insert(id);
                }
            }
            _ => {}
        }
    }

    /// Offset in bits and type of a member, found also inside anonymous structs and unions.
    fn find_member(&self, id: u32, name: &str) -> Option<(u64, u32)> {
        let id = self.resolve(id)?;
        let head = self.head(id)?;
        if head.kind != kind::STRUCT && head.kind != kind::UNION {
            return None;
        }
        let at = self.types[id as usize] + 12;
        for entry in 0..head.entries {
            let at = at + entry * 12;
            let member = self.text(word_at(&self.bytes, at)?)?;
            let inner = word_at(&self.bytes, at + 4)?;
            let raw = word_at(&self.bytes, at + 8)?;
            let offset = u64::from(if head.flag { raw & 0x00ff_ffff } else { raw });
            if member == name.as_bytes() {
                return Some((offset, inner));
            }
            if member.is_empty()
                && let Some((deeper, inner)) = self.find_member(inner, name)
            {
                return Some((offset + deeper, inner));
            }
        }
        None
    }

    /// Follows names and qualifiers to the type itself.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..32 {
            let head = self.head(id)?;
            match head.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = head.size_or_type;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn head(&self, id: u32) -> Option<Head> {
        if id == 0 {
            return None;
        }
        self.head_at(*self.types.get(id as usize)?)
    }

    fn head_at(&self, at: usize) -> Option<Head> {
        let info = word_at(&self.bytes, at + 4)?;
        Some(Head {
            name: word_at(&self.bytes, at)?,
            kind: info >> 24 & 0x1f,
            entries: (info & 0xffff) as usize,
            flag: info >> 31 == 1,
            size_or_type: word_at(&self.bytes, at + 8)?,
        })
    }

    fn text(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.bytes.get(self.strings + offset as usize..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

/// Bytes that follow a type's head; `None` for a kind this reader does not know, whose length nobody can tell.
fn trailing_bytes(head: Head) -> Option<usize> {
    Some(match head.kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * head.entries,
        kind::ENUM | kind::FUNC_PROTO => 8 * head.entries,
        // Pointer, forward, typedef, qualifiers, function, float, type tag.
        kind::POINTER | 7..=12 | 16 | kind::TYPE_TAG => 0,
        _ => return None,
    })
}

fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::sys::BTF_PATH;

    fn running_kernel() -> KernelBtf {
        KernelBtf::parse(std::fs::read(BTF_PATH).expect("this kernel describes its types")).expect("it makes sense")
    }

    #[test]
    fn members_are_found_where_the_kernel_has_them() {
        let btf = running_kernel();
        let pid = btf.member_bits("task_struct", "pid").expect("tasks have one");
        assert_eq!(btf.member_bits("task_struct", "tgid"), Some(pid + 32));
        // Inside an anonymous union, and through a nested struct.
        assert!(btf.member_bits("inode", "i_nlink").is_some());
        let remote = btf.member_bits("sock", "__sk_common.skc_daddr").expect("sockets have one");
        assert_eq!(btf.member_bits("sock", "__sk_common.skc_rcv_saddr"), Some(remote + 32));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let btf = running_kernel();
        assert_eq!(btf.member_bits("task_struct", "no_such_member"), None);
        assert_eq!(btf.member_bits("no_such_struct", "pid"), None);
        assert_eq!(btf.member_bits("task_struct", "pid.deeper"), None);
        assert_eq!(btf.hook_arguments("no_such_hook"), None);
    }

    #[test]
    fn hooks_tell_their_arguments() {
        let btf = running_kernel();
        assert_eq!(btf.hook_arguments("sys_enter"), Some(2));
        assert_eq!(btf.hook_arguments("inet_sock_set_state"), Some(3));
        assert_eq!(btf.enumerator("sock_flags", "SOCK_DONE"), Some(1));
    }

    #[test]
    fn damage_is_an_error() {
        let whole = std::fs::read(BTF_PATH).expect("this kernel describes its types");
        assert!(matches!(KernelBtf::parse(Vec::new()), Err(ProbeError::DamagedBtf { offset: 0 })));
        assert!(KernelBtf::parse(vec![0; 64]).is_err());
        assert!(KernelBtf::parse(whole[..1_000].to_vec()).is_err());
        let mut unknown_kind = whole;
        unknown_kind[HEADER_BYTES + 7] = 0x1e;
        assert!(KernelBtf::parse(unknown_kind).is_err());
    }
}
