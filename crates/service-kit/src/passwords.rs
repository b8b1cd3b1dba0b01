//! Passwords: hashed with Argon2id, and remembered for a while once they were right, because hashing is slow on purpose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use sha2::{Digest, Sha256};

/// How long a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The hash of a password, with a salt of its own.
pub fn hash(password: &str) -> String {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.expect("the default parameters and a fresh salt are valid").to_string()
}

/// Whether a password is the one that was hashed.
pub fn is_right(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Passwords that were right a moment ago, as hashes of name, stored hash and password: one that was changed is not found.
#[derive(Clone, Default)]
pub(crate) struct Remembered(Arc<Mutex<HashMap<[u8; 32], Instant>>>);

impl Remembered {
    /// Whether a password is right; slow the first time.
    pub(crate) async fn is_right(&self, username: &str, password: &str, stored: &str) -> bool {
        let mark = mark(&[username, stored, password]);
        if self.holds(&mark) {
            return true;
        }
        let (password, stored) = (password.to_owned(), stored.to_owned());
        let right = tokio::task::spawn_blocking(move || is_right(&password, &stored)).await.unwrap_or(false);
        if right {
            let mut known = self.0.lock().expect("no holder of this lock can panic");
            known.retain(|_, since| since.elapsed() < REMEMBERED);
            known.insert(mark, Instant::now());
        }
        right
    }

    fn holds(&self, mark: &[u8; 32]) -> bool {
        let known = self.0.lock().expect("no holder of this lock can panic");
        known.get(mark).is_some_and(|since| since.elapsed() < REMEMBERED)
    }
}

fn mark(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_recognised_and_another_is_not() {
        let stored = hash("correct horse");
        assert!(stored.starts_with("$argon2id$") && !stored.contains("horse"));
        assert!(is_right("correct horse", &stored) && !is_right("wrong horse", &stored));
        assert_ne!(stored, hash("correct horse"), "each hash has a salt of its own");
    }
}
