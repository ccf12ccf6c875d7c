//! The key pair that signs commands: the collector holds the private half, the executor trusts the public one.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};

use super::UpError;
use super::folder::{Folder, read_if_there, write_with_mode};

/// Makes `keys/command.key` when there is none, and `keys/command.pub` to match it.
///
/// # Errors
/// [`UpError::Key`] when the private half is damaged: it is not replaced, executors elsewhere may trust it.
pub fn ensure(folder: &Folder) -> Result<(), UpError> {
    let private = folder.keys("command.key");
    let public = folder.keys("command.pub");
    let fault = |reason: String| UpError::Key { path: private.clone(), reason };
    let key = match read_if_there(&private)? {
        Some(pem) => SigningKey::from_pkcs8_pem(&pem).map_err(|error| fault(error.to_string()))?,
        None => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| fault(error.to_string()))?;
            let key = SigningKey::from_bytes(&seed);
            let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| fault(error.to_string()))?;
            write_with_mode(&private, pem.as_bytes(), 0o600)?;
            key
        }
    };
    let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|error| fault(error.to_string()))?;
    if read_if_there(&public)?.as_deref() != Some(pem.as_str()) {
        write_with_mode(&public, pem.as_bytes(), 0o644)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::VerifyingKey;
    use ed25519_dalek::pkcs8::DecodePublicKey;

    use super::*;

    #[test]
    fn the_halves_match_and_stay() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::create(temp.path()).unwrap();
        ensure(&folder).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.keys(name)).unwrap();
        let key = SigningKey::from_pkcs8_pem(&read("command.key")).unwrap();
        assert_eq!(VerifyingKey::from_public_key_pem(&read("command.pub")).unwrap(), key.verifying_key());
        std::fs::write(folder.keys("command.pub"), "old").unwrap();
        ensure(&folder).unwrap();
        assert_eq!(SigningKey::from_pkcs8_pem(&read("command.key")).unwrap(), key);
        assert_eq!(VerifyingKey::from_public_key_pem(&read("command.pub")).unwrap(), key.verifying_key());
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::create(temp.path()).unwrap();
        std::fs::write(folder.keys("command.key"), "nonsense").unwrap();
        assert!(matches!(ensure(&folder), Err(UpError::Key { .. })));
        assert_eq!(std::fs::read_to_string(folder.keys("command.key")).unwrap(), "nonsense");
    }
}
