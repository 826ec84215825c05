//! Passwords: argon2id hashes, and the thread that verifies them.
//!
//! A verification takes some 20 ms of a processor and 19 MiB, by intention. So it runs on one thread of low priority
//! with a bounded queue, and an attack costs viewers nothing. Whoever signs in where they did before goes first.

use super::{StateError, random};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use parking_lot::{Condvar, Mutex};
use ring::hmac;
use sluicegate_config::{PasswordHash, Secret};
use sluicegate_telemetry::contain;
use std::{collections::VecDeque, sync::Arc, thread};
use tokio::sync::oneshot;

/// Fewest characters of a new password.
pub(crate) const LEAST: usize = 8;
/// Most bytes of a password.
pub(crate) const MOST: usize = 1_024;
/// Most verifications that wait, of those who go first and of the others.
pub(crate) const MAX_WAITING: usize = 32;
/// Priority of the thread: nearly the lowest.
const NICE: i32 = 15;

/// What a hash costs to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    /// KiB of memory.
    memory: u32,
    passes: u32,
    lanes: u32,
}

/// The cost of new hashes, which OWASP recommends as of 2025 ("Password Storage Cheat Sheet").
const COST: Cost = Cost {
    memory: 19_456,
    passes: 2,
    lanes: 1,
};

/// Hashes a password with a new salt.
pub(crate) fn hash(password: &Secret) -> Result<Secret, StateError> {
    let salt: [u8; 16] = random::bytes()?;
    let mut hash = [0; 32];
    // The parameters are constants, so this cannot fail but for want of memory, which would end the process.
    let derived = derive(COST, password.expose().as_bytes(), &salt, &mut hash);
    derived.ok_or(StateError::NoRandomness)?;
    Ok(written(COST, &salt, &hash))
}

/// A hash that no password has, for names that do not exist. It costs as much as others.
pub(crate) fn dummy(cost: Cost) -> Result<Secret, StateError> {
    let (salt, hash): ([u8; 16], [u8; 32]) = (random::bytes()?, random::bytes()?);
    Ok(written(cost, &salt, &hash))
}

/// The cost of verifying a hash; that of new ones if it cannot be read.
pub(crate) fn cost(hash: &Secret) -> Cost {
    PasswordHash::parse(hash).map_or(COST, |hash| Cost {
        memory: hash.memory,
        passes: hash.passes,
        lanes: hash.lanes,
    })
}

impl Default for Cost {
    fn default() -> Cost {
        COST
    }
}

/// Whether the hash is of this password. Takes as long as it takes.
pub(crate) fn verify(password: &Secret, hash: &Secret) -> bool {
    let Ok(parsed) = PasswordHash::parse(hash) else {
        return false;
    };
    let decode = |text: &str| BASE64_STANDARD_NO_PAD.decode(text).ok();
    let (Some(salt), Some(wanted)) = (decode(parsed.salt), decode(parsed.hash)) else {
        return false;
    };
    let mut found = vec![0; wanted.len()];
    let password = password.expose().as_bytes();
    let derived = derive(cost(hash), password, &salt, &mut found);
    derived.is_some() && is_equal(&found, &wanted)
}

/// Whether two texts are equal, in a time that does not depend on where they differ.
pub(crate) fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let differ = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differ) == 0
}

fn derive(cost: Cost, password: &[u8], salt: &[u8], out: &mut [u8]) -> Option<()> {
    let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(out.len())).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password, salt, out).ok()
}

fn written(cost: Cost, salt: &[u8], hash: &[u8]) -> Secret {
    let Cost {
        memory,
        passes,
        lanes,
    } = cost;
    let encode = |bytes| BASE64_STANDARD_NO_PAD.encode(bytes);
    let (salt, hash) = (encode(salt), encode(hash));
    Secret::new(format!(
        "$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}"
    ))
}

/// Number of 64 bits by which two hashes of a user are told apart, in the key of the state file.
pub(crate) fn fingerprint(key: &hmac::Key, user: &str, hash: &Secret) -> u64 {
    super::ticket::short_tag(
        key,
        &[b"password", user.as_bytes(), hash.expose().as_bytes()],
    )
}

/// The thread that verifies passwords, which starts with the first one, and its queue.
pub(crate) struct Verifier {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Of those who signed in from their address before.
    first: VecDeque<Job>,
    others: VecDeque<Job>,
    runs: bool,
    closed: bool,
}

struct Job {
    password: Secret,
    hash: Secret,
    answer: oneshot::Sender<bool>,
}

/// More verifications wait than there is room for, or the thread cannot start.
#[derive(Debug)]
pub(crate) struct Full;

impl Verifier {
    pub(crate) fn new() -> Verifier {
        Verifier {
            queue: Arc::default(),
        }
    }

    /// Whether the hash is of this password; `first` if the client goes before others.
    pub(crate) async fn verify(
        &self,
        password: Secret,
        hash: Secret,
        first: bool,
    ) -> Result<bool, Full> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            password,
            hash,
            answer,
        };
        self.queue.add(job, first)?;
        // The sender is lost only by a panic, or when the gateway ends.
        answered.await.map_err(|_| Full)
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.queue.waiting.lock().closed = true;
        self.queue.arrived.notify_all();
    }
}

impl Queue {
    fn add(self: &Arc<Queue>, job: Job, first: bool) -> Result<(), Full> {
        let mut waiting = self.waiting.lock();
        let jobs = match first {
            true => &mut waiting.first,
            false => &mut waiting.others,
        };
        // Who has gone needs no answer, and no room.
        if jobs.len() >= MAX_WAITING {
            jobs.retain(|job| !job.answer.is_closed());
        }
        if jobs.len() >= MAX_WAITING {
            return Err(Full);
        }
        jobs.push_back(job);
        if !waiting.runs {
            let queue = Arc::clone(self);
            let thread = thread::Builder::new().name("passwords".into());
            match thread.spawn(move || queue.run()) {
                Ok(_) => waiting.runs = true,
                Err(error) => {
                    tracing::error!("cannot start the thread that verifies passwords: {error}");
                    waiting.first.clear();
                    waiting.others.clear();
                    return Err(Full);
                }
            }
        }
        self.arrived.notify_one();
        Ok(())
    }

    fn run(&self) {
        // Without permission the priority stays as it is.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        while let Some(job) = self.next() {
            match contain(|| verify(&job.password, &job.hash)) {
                // Whoever asked may have gone.
                Ok(good) => drop(job.answer.send(good)),
                Err(panicked) => tracing::error!("verifying a password {panicked}"),
            }
        }
    }

    /// The next job whose client still waits; `None` when the gateway ends.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.closed {
                return None;
            }
            let job = waiting.first.pop_front();
            match job.or_else(|| waiting.others.pop_front()) {
                Some(job) if job.answer.is_closed() => {}
                Some(job) => return Some(job),
                None => self.arrived.wait(&mut waiting),
            }
        }
    }
}

/// Checks that a password may be given to a user.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_new(password: &Secret) -> Result<(), String> {
    let text = password.expose();
    if text.chars().count() < LEAST {
        return Err(format!(
            "the password is too short; use at least {LEAST} characters"
        ));
    }
    if text.len() > MOST {
        return Err(format!(
            "the password is longer than {MOST} bytes; use a shorter one"
        ));
    }
    match text.contains(char::is_control) {
        true => Err("the password contains a control character; use others".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn a_hash_is_of_its_password_only() {
        let hashed = hash(&secret("correct horse")).unwrap();
        assert!(verify(&secret("correct horse"), &hashed));
        assert!(!verify(&secret("correct horsf"), &hashed));
        assert!(!verify(&secret(""), &hashed));
        assert_ne!(hashed, hash(&secret("correct horse")).unwrap());
        assert_eq!(cost(&hashed), COST);
    }

    #[test]
    fn a_hash_of_the_reference_program_is_understood() {
        // echo -n password | argon2 somesalt -id -t 2 -k 256 -p 1 -l 32 -e
        let reference =
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert!(verify(&secret("password"), &secret(reference)));
        assert!(!verify(&secret("Password"), &secret(reference)));
    }

    #[test]
    fn a_dummy_is_of_no_password() {
        let hash = dummy(COST).unwrap();
        assert!(PasswordHash::parse(&hash).is_ok());
        assert!(!verify(&secret(""), &hash));
    }

    #[test]
    fn what_is_no_hash_fits_no_password() {
        for text in [
            "",
            "password",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=99999999,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        ] {
            assert!(!verify(&secret("password"), &secret(text)), "{text}");
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    #[test]
    fn the_thread_answers_and_ends_with_its_owner() {
        let verifier = Verifier::new();
        let hashed = hash(&secret("correct horse")).unwrap();
        let queue = Arc::downgrade(&verifier.queue);
        runtime().block_on(async {
            let ask = |text: &str| verifier.verify(secret(text), hashed.clone(), false);
            assert!(ask("correct horse").await.unwrap());
            assert!(!ask("battery").await.unwrap());
        });
        drop(verifier);
        let began = Instant::now();
        while queue.strong_count() > 0 {
            assert!(began.elapsed().as_secs() < 10, "the thread goes on");
            thread::yield_now();
        }
    }

    #[test]
    fn the_queue_is_bounded_and_forgets_who_has_gone() {
        let queue = Arc::new(Queue::default());
        // Nobody takes anything out.
        queue.waiting.lock().runs = true;
        let job = || {
            let (answer, answered) = oneshot::channel();
            let job = Job {
                password: secret("x"),
                hash: secret("y"),
                answer,
            };
            (job, answered)
        };
        let mut waiting = Vec::new();
        for _ in 0..MAX_WAITING {
            let (job, answered) = job();
            queue.add(job, false).unwrap();
            waiting.push(answered);
        }
        assert!(queue.add(job().0, false).is_err());
        // Others have a queue of their own, from which the next is taken.
        let (urgent, urgent_answered) = job();
        queue.add(urgent, true).unwrap();
        queue.next().unwrap().answer.send(true).unwrap();
        assert!(runtime().block_on(urgent_answered).unwrap());
        waiting.pop();
        queue.add(job().0, false).unwrap();
    }

    #[test]
    fn a_new_password_has_a_length_that_can_be_guessed_at_least() {
        assert!(check_new(&secret("12345678")).is_ok());
        assert!(check_new(&secret("pässword")).is_ok());
        for bad in ["", "1234567", "12345678\n", &"x".repeat(1_025)] {
            assert!(check_new(&secret(bad)).is_err(), "{bad}");
        }
    }
}
