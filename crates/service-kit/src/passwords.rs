//! Passwords: hashed with Argon2id, and remembered for a while once they were right, because hashing is slow on purpose.
//!
//! Whoever guesses learns nothing from how long an answer takes, and takes no more than a core's time and some 20 MB for each core.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

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

/// The hash of a password that nobody has.
static NOBODYS: LazyLock<String> = LazyLock::new(|| hash(SaltString::generate(&mut OsRng).as_str()));

/// Passwords that were right a moment ago, as hashes of name, stored hash and password: one that was changed is not found.
#[derive(Clone)]
pub(crate) struct Remembered {
    known: Arc<Mutex<HashMap<[u8; 32], Instant>>>,
    /// As many passwords are hashed at once as there are cores.
    cores: Arc<Semaphore>,
}

impl Default for Remembered {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Self { known: Arc::default(), cores: Arc::new(Semaphore::new(cores)) }
    }
}

impl Remembered {
    /// Whether a password is right; slow the first time, and whenever it is wrong or nothing is `stored` for that name.
    pub(crate) async fn is_right(&self, username: &str, password: &str, stored: Option<&str>) -> bool {
        let mark = stored.map(|stored| mark(&[username, stored, password]));
        if mark.as_ref().is_some_and(|mark| self.holds(mark)) {
            return true;
        }
        let Ok(core) = self.cores.clone().acquire_owned().await else { return false };
        let (password, stored) = (password.to_owned(), stored.map(str::to_owned));
        let check = move || {
            let _core = core; // held until the hash is made, even if nobody waits for it any more
            is_right(&password, stored.as_deref().unwrap_or(&NOBODYS))
        };
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        let Some(mark) = mark.filter(|_| right) else { return false };
        let mut known = self.known.lock().expect("no holder of this lock can panic");
        known.retain(|_, since| since.elapsed() < REMEMBERED);
        known.insert(mark, Instant::now());
        true
    }

    fn holds(&self, mark: &[u8; 32]) -> bool {
        let known = self.known.lock().expect("no holder of this lock can panic");
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
    #[tokio::test]
    async fn a_wrong_password_takes_as_long_as_one_of_nobody_and_a_right_one_is_remembered() {
        let (remembered, stored) = (Remembered::default(), hash("correct horse"));
        let timed = async |password: &'static str, stored: Option<&str>| {
            let began = Instant::now();
            let right = remembered.is_right("anna", password, stored).await;
            (right, began.elapsed())
        };
        assert!(!timed("wrong horse", None).await.0); // makes the hash that nobody has
        let (known, unknown) = (timed("wrong horse", Some(&stored)).await, timed("wrong horse", None).await);
        assert!(!known.0 && !unknown.0);
        let shortest = known.1.min(unknown.1);
        assert!(shortest * 5 > known.1.max(unknown.1), "{known:?} {unknown:?}");
        assert!(timed("correct horse", Some(&stored)).await.0);
        let again = timed("correct horse", Some(&stored)).await;
        assert!(again.0 && again.1 < shortest / 5, "{again:?} {shortest:?}");
    }

    #[tokio::test]
    async fn however_many_guess_at_once_no_more_are_hashed_than_there_are_cores() {
        let (remembered, stored) = (Remembered::default(), hash("correct horse"));
        let cores = remembered.cores.available_permits();
        let all = Arc::clone(&remembered.cores).acquire_many_owned(cores as u32).await.unwrap();
        let guess = tokio::spawn({
            let remembered = remembered.clone();
            async move { remembered.is_right("anna", "correct horse", Some(&stored)).await }
        });
        tokio::task::yield_now().await;
        assert!(!guess.is_finished(), "it was hashed without a core");
        drop(all);
        assert!(guess.await.unwrap());
        assert_eq!(remembered.cores.available_permits(), cores);
    }
}
