//! Classes of errors a system call returns.
//!
//! Sixty distinct numbers would be sixty columns; a class says what kind of thing went wrong, and is what people ask for.
//! The numbers are those of include/uapi/asm-generic/errno.h, which x86-64 and arm64 share.

/// The call succeeded.
pub const OK: u8 = 0;
/// A signal came; most of these calls are begun again by the kernel (`ERESTARTSYS` and kin, `EINTR`).
pub const INTERRUPTED: u8 = 1;
/// Not now: `EAGAIN`, `EINPROGRESS`, `EALREADY`.
pub const AGAIN: u8 = 2;
/// What was named is not there: `ENOENT`, `ESRCH`, `ENXIO`, `ECHILD`, `ENODEV`, `ENOTDIR`, `ENODATA`.
pub const NOT_FOUND: u8 = 3;
/// Not allowed: `EPERM`, `EACCES`, `EROFS`.
pub const DENIED: u8 = 4;
/// The request made no sense here: `EINVAL`, `EBADF`, `EFAULT`, `ENOTTY`, `ENOSYS`, `ESPIPE`, `EOPNOTSUPP` and kin.
pub const INVALID: u8 = 5;
/// A limit or a lack: `ENOMEM`, `EMFILE`, `ENFILE`, `ENOSPC`, `EDQUOT`, `E2BIG`, `EFBIG`, `ENOBUFS`, `EMSGSIZE`.
pub const LIMIT: u8 = 6;
/// The network or the peer: `EPIPE`, `ECONNREFUSED`, `ECONNRESET`, `ENETUNREACH`, `EHOSTUNREACH` and kin.
pub const NETWORK: u8 = 7;
/// It took too long: `ETIMEDOUT`, `ETIME`.
pub const TIMEOUT: u8 = 8;
/// Something stands in the way: `EEXIST`, `EBUSY`, `ENOTEMPTY`, `EISDIR`, `ETXTBSY`, `EXDEV`, `EDEADLK`.
pub const CONFLICT: u8 = 9;
/// A device or file system failed: `EIO`, `EUCLEAN`, `ESTALE`, `EREMOTEIO`.
pub const IO: u8 = 10;
/// Any other number.
pub const OTHER: u8 = 11;
/// How many classes there are.
pub const LEN: usize = 12;

/// Names, by class; the first is not an error.
pub const NAMES: [&str; LEN] = [
    "ok",
    "interrupted",
    "again",
    "not_found",
    "denied",
    "invalid",
    "limit",
    "network",
    "timeout",
    "conflict",
    "io",
    "other",
];

/// Largest number an error can have.
const MAX_ERRNO: i64 = 4095;

/// `ERESTARTSYS` to `ERESTART_RESTARTBLOCK`, include/linux/errno.h: seen by tracers only, never by the caller.
const RESTARTS: core::ops::RangeInclusive<usize> = 512..=516;

/// One more than the largest number in [`CLASSES`].
const KNOWN: usize = 134;

/// Class by number. Read-only data of the probes.
static CLASSES: [u8; KNOWN] = classes();

const fn classes() -> [u8; KNOWN] {
    const GROUPS: [(u8, &[usize]); 10] = [
        (INTERRUPTED, &[4]),
        (AGAIN, &[11, 114, 115]),
        (NOT_FOUND, &[2, 3, 6, 10, 19, 20, 61]),
        (DENIED, &[1, 13, 30]),
        (INVALID, &[8, 9, 14, 15, 22, 25, 29, 33, 34, 36, 38, 40, 75, 84, 88, 89, 91, 92, 93, 94, 95, 96, 97]),
        (LIMIT, &[7, 12, 23, 24, 27, 28, 31, 90, 105, 122]),
        (NETWORK, &[32, 98, 99, 100, 101, 102, 103, 104, 106, 107, 108, 111, 112, 113]),
        (TIMEOUT, &[62, 110]),
        (CONFLICT, &[16, 17, 18, 21, 26, 35, 39]),
        (IO, &[5, 116, 117, 121]),
    ];
    let mut table = [OTHER; KNOWN];
    let mut group = 0;
    while group < GROUPS.len() {
        let (class, numbers) = GROUPS[group];
        let mut i = 0;
        while i < numbers.len() {
            table[numbers[i]] = class;
            i += 1;
        }
        group += 1;
    }
    table
}

/// Class of what a system call returned.
#[inline(always)]
pub fn class(returned: i64) -> u8 {
    if !(-MAX_ERRNO..0).contains(&returned) {
        return OK;
    }
    let number = (-returned) as usize;
    match CLASSES.get(number) {
        Some(class) => *class,
        None if RESTARTS.contains(&number) => INTERRUPTED,
        None => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_error_is_none() {
        for returned in [0, 1, i64::MAX, i64::MIN, -4096] {
            assert_eq!(class(returned), OK, "{returned}");
        }
    }

    #[test]
    fn numbers_fall_into_their_classes() {
        for (number, expected) in [
            (1, DENIED),
            (2, NOT_FOUND),
            (4, INTERRUPTED),
            (512, INTERRUPTED),
            (516, INTERRUPTED),
            (11, AGAIN),
            (22, INVALID),
            (24, LIMIT),
            (111, NETWORK),
            (110, TIMEOUT),
            (17, CONFLICT),
            (5, IO),
            (133, OTHER),
            (517, OTHER),
            (4095, OTHER),
        ] {
            assert_eq!(class(-number), expected, "errno {number}");
        }
    }

    #[test]
    fn every_class_has_a_name() {
        assert!((0..KNOWN as i64).all(|number| (class(-number) as usize) < NAMES.len()));
    }
}
