//! Tokens and passwords.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use stackbeam_session::{
    Key, KeyRing, KeyState, KeysInFile, MemoryRevocations, SessionId, Sessions, Timestamp,
    VerifyError,
};
use tokio::sync::Semaphore;

use super::fault::Fault;
use super::revoked::Logouts;
use crate::app::id::Id;
use crate::keys::LOOK_EVERY;
use crate::node::NodeError;
use crate::node::queue::session_policy;

/// OWASP's setting for little memory: 7 MiB, five passes, one lane.
const MEMORY_KIB: u32 = 7 * 1024;
const PASSES: u32 = 5;

/// Passwords that are hashed at one time; more wait their turn. Bounds memory and leaves CPU for others.
const HASHES_AT_ONCE: usize = 2;
/// How long a request waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// Checks and makes tokens and password hashes.
pub(crate) struct Auth {
    sessions: Sessions<(), Arc<MemoryRevocations>>,
    ring: KeyRing,
    logouts: Logouts,
    turns: Semaphore,
    /// What a password is compared with when there is no such user, so that both take as long.
    nobody: tokio::sync::OnceCell<String>,
}

impl Auth {
    /// `ring` has the keys of tokens; `key` hides what the feed of ended sessions speaks of.
    pub(crate) fn new(key: &str, ring: KeyRing) -> Result<Self, NodeError> {
        let failed = |error: &dyn std::fmt::Display| NodeError::Role(format!("sessions: {error}"));
        let key = Key::from_text(key).map_err(|error| failed(&error))?;
        let policy = session_policy();
        let logouts = Logouts::new(key)?;
        let sessions = Sessions::new(
            ring.clone(),
            "login",
            "conduit",
            policy,
            Arc::clone(logouts.known()),
        )
        .map_err(|error| failed(&error))?;
        Ok(Self {
            sessions,
            ring,
            logouts,
            turns: Semaphore::new(HASHES_AT_ONCE),
            nobody: tokio::sync::OnceCell::new(),
        })
    }

    /// Takes over the keys that a rotation adds to the file, for as long as the server runs.
    pub(crate) async fn follow_keys(&self, file: &KeysInFile) {
        loop {
            tokio::time::sleep(LOOK_EVERY.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
            if let Err(error) = self.ring.sync(file, Timestamp::now()) {
                tracing::warn!(%error, "session keys stay as they were");
            }
        }
    }

    /// How many keys there are, and the id of the one that signs.
    pub(crate) fn keys(&self) -> (usize, Option<String>) {
        let states = self.ring.states(Timestamp::now());
        let signs = states.iter().find(|(_, state)| *state == KeyState::Active);
        (states.len(), signs.map(|(id, _)| format!("{id:?}")))
    }

    /// What ends sessions, and knows those that have ended.
    pub(crate) const fn logouts(&self) -> &Logouts {
        &self.logouts
    }

    /// The session of a token; `None` when it has ended already.
    pub(crate) fn session(&self, token: &str) -> Result<Option<SessionId>, Fault> {
        match self.sessions.verify(token, Timestamp::now()) {
            Ok(verified) => Ok(Some(verified.claims.session)),
            Err(VerifyError::Revoked) => Ok(None),
            Err(error) => Err(Fault::BadToken(error.to_string())),
        }
    }

    /// A new token for a user.
    pub(crate) fn issue(&self, user: Id) -> Result<String, Fault> {
        self.sessions
            .issue(&user.text(), (), Timestamp::now())
            .map_err(|error| Fault::Unavailable(error.to_string()))
    }

    /// Whose token this is.
    pub(crate) fn verify(&self, token: &str) -> Result<Id, Fault> {
        let verified = self
            .sessions
            .verify(token, Timestamp::now())
            .map_err(|error| Fault::BadToken(error.to_string()))?;
        Id::parse(&verified.claims.subject)
            .ok_or_else(|| Fault::BadToken("its subject is no user".to_owned()))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let _turn = tokio::time::timeout(TURN_WAIT, self.turns.acquire())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| Fault::Unavailable("too many passwords to check".to_owned()))?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Fault::Unavailable(error.to_string()))
    }

    /// The hash to keep of a password.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Fault> {
        self.blocking(move || {
            hasher()?
                .hash_password(password.as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|error| Fault::Unavailable(error.to_string()))
        })
        .await?
    }

    /// Whether this is the password that was hashed. `None` stands for a user that does not exist;
    /// it takes as long and is never right.
    pub(crate) async fn matches(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, Fault> {
        let exists = hash.is_some();
        let hash = match hash {
            Some(hash) => hash,
            None => self
                .nobody
                .get_or_try_init(|| self.hash("nobody".to_owned()))
                .await?
                .clone(),
        };
        let same = self
            .blocking(move || {
                let parsed = PasswordHash::new(&hash)
                    .map_err(|error| Fault::Unavailable(error.to_string()))?;
                Ok::<_, Fault>(
                    hasher()?
                        .verify_password(password.as_bytes(), &parsed)
                        .is_ok(),
                )
            })
            .await??;
        Ok(same && exists)
    }
}

fn hasher() -> Result<Argon2<'static>, Fault> {
    Params::new(MEMORY_KIB, PASSES, 1, None)
        .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
        .map_err(|error| Fault::Unavailable(error.to_string()))
}
