//! Ids and nonces that nobody can foresee, from one seed.

use sha2::{Digest, Sha256};

/// Draws 128-bit values from a seed of the system's randomness; no two draws are equal.
#[derive(Debug)]
pub struct Draw {
    seed: [u8; 32],
    drawn: u64,
}

impl Draw {
    /// `seed` must be fresh at every start.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// 32 lower-case hex digits.
    pub fn hex(&mut self) -> String {
        self.drawn += 1;
        let mut hash = Sha256::new();
        hash.update(b"skep.draw\0");
        hash.update(self.seed);
        hash.update(self.drawn.to_le_bytes());
        hex(&hash.finalize()[..16])
    }
}

/// Lower-case hex digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_between_calls_and_seeds() {
        let mut one = Draw::new([1; 32]);
        let mut two = Draw::new([2; 32]);
        let drawn = [one.hex(), one.hex(), two.hex()];
        assert!(drawn.iter().all(|id| id.len() == 32));
        assert!(drawn[0] != drawn[1] && drawn[0] != drawn[2]);
    }
}
