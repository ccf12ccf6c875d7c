//! A statement as a client carries it between two calls.

use prost::bytes::Bytes;
use tonic::Status;

/// Longest statement taken: a client sends it twice, and we send it once.
pub const MAX_STATEMENT_BYTES: usize = 64 << 10;

/// The handle of a statement.
///
/// # Errors
/// `INVALID_ARGUMENT` for one that is too long.
pub fn handle(sql: String) -> Result<Bytes, Status> {
    if sql.len() > MAX_STATEMENT_BYTES {
        let said = format!("the statement has {} bytes; at most {MAX_STATEMENT_BYTES} are taken", sql.len());
        return Err(Status::invalid_argument(said));
    }
    Ok(sql.into())
}

/// The statement of a handle. It is checked as any other, so that a forged one gets nothing by it.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no handle of ours.
pub fn read(handle: &Bytes) -> Result<&str, Status> {
    let text = (handle.len() <= MAX_STATEMENT_BYTES).then(|| std::str::from_utf8(handle).ok()).flatten();
    text.ok_or_else(|| Status::invalid_argument("this is no ticket or handle of this collector"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_reads_as_what_it_was_made_of() {
        let made = handle("SELECT 'µ'".to_owned()).unwrap();
        assert_eq!(read(&made).unwrap(), "SELECT 'µ'");
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        let refused = handle("x".repeat(MAX_STATEMENT_BYTES + 1)).unwrap_err();
        assert!(refused.message().starts_with("the statement has 65537 bytes"), "{refused}");
        assert!(read(&Bytes::from_static(&[0xff, 0xfe])).is_err());
        assert!(read(&Bytes::from(vec![b'x'; MAX_STATEMENT_BYTES + 1])).is_err());
    }
}
