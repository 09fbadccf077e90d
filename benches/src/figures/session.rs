//! session beside the PASETO crates.

use std::{error::Error, hint::black_box, time::Duration};

use pasetors::{
    keys::{Generate, SymmetricKey},
    token::UntrustedToken,
    version4::{LocalToken, V4},
};
use rusty_paseto::core::{
    Key as RustyKey, Local, Paseto, PasetoNonce, PasetoSymmetricKey, Payload, V4 as RustyV4,
};
use serde::{Deserialize, Serialize};
use stackbeam_session::{Key, KeyRing, NoRevocations, Policy, Sessions, Timestamp};

use crate::kit::{Duel, Goal, Report, keys};

/// Tokens in one batch.
const TOKENS: usize = 64;

/// What a rival's user would put into a token to say what ours says.
#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    jti: String,
    iat: String,
    nbf: String,
    exp: String,
    data: Data,
}

#[derive(Serialize, Deserialize, Clone)]
struct Data {
    id: u64,
    roles: Vec<String>,
}

fn data() -> Data {
    Data {
        id: 42,
        roles: ["admin", "editor", "reader"].map(str::to_owned).to_vec(),
    }
}

fn claims() -> Claims {
    Claims {
        sub: "user-42".to_owned(),
        jti: "BXDVEHlY9GwBmlD_oXZBEA".to_owned(),
        iat: "2026-01-01T00:00:00Z".to_owned(),
        nbf: "2026-01-01T00:00:00Z".to_owned(),
        exp: "2126-01-02T00:00:00Z".to_owned(),
        data: data(),
    }
}

/// What does a login cost (claims to text), and what does each request cost (text to checked claims)?
pub(super) fn figures(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let policy = Policy::new(Duration::from_secs(3600), Duration::from_secs(86_400));
    let ring = KeyRing::new(Key::generate()?, policy.absolute())?;
    let sessions = Sessions::<Data, _>::new(ring, "login", "example.org", policy, NoRevocations)?;
    let now = Timestamp::now();
    let token = sessions.issue("user-42", data(), now)?;

    let pasetors_key = SymmetricKey::<V4>::generate()?;
    let seal = |claims: &Claims| -> Result<String, Box<dyn Error>> {
        let payload = serde_json::to_vec(claims)?;
        Ok(LocalToken::encrypt(
            &pasetors_key,
            &payload,
            None,
            Some(b"login"),
        )?)
    };
    let pasetors_token = seal(&claims())?;

    let mut secret = [0_u8; 32];
    for (part, key) in secret.chunks_exact_mut(8).zip(keys(7)) {
        part.copy_from_slice(&key.to_le_bytes());
    }
    let rusty_key = PasetoSymmetricKey::<RustyV4, Local>::from(RustyKey::from(secret));
    let rusty_seal = |claims: &Claims| -> Result<String, Box<dyn Error>> {
        let payload = serde_json::to_string(claims)?;
        let nonce = RustyKey::<32>::try_new_random()?;
        let nonce = PasetoNonce::<RustyV4, Local>::from(&nonce);
        Ok(Paseto::<RustyV4, Local>::builder()
            .set_payload(Payload::from(payload.as_str()))
            .try_encrypt(&rusty_key, &nonce)?)
    };
    let rusty_token = rusty_seal(&claims())?;

    Duel::new("v4.local issue", TOKENS as u64, || {
        for _ in 0..TOKENS {
            black_box(sessions.issue("user-42", data(), now).expect("a token"));
        }
    })
    .against("pasetors", || {
        for _ in 0..TOKENS {
            black_box(seal(&claims()).expect("a token"));
        }
    })
    .against("rusty_paseto", || {
        for _ in 0..TOKENS {
            black_box(rusty_seal(&claims()).expect("a token"));
        }
    })
    .goal(Goal::Times(1.7))
    .how("subject, id, times, a number and three roles; nonce, JSON and sealing included")
    .run(report);

    Duel::new("v4.local verify", TOKENS as u64, || {
        for _ in 0..TOKENS {
            black_box(sessions.verify(black_box(&token), now).expect("authentic"));
        }
    })
    .against("pasetors", || {
        for _ in 0..TOKENS {
            let untrusted = UntrustedToken::try_from(black_box(&pasetors_token).as_str()).expect("a token");
            let trusted = LocalToken::decrypt(&pasetors_key, &untrusted, None, Some(b"login"))
                .expect("authentic");
            let claims: Claims = serde_json::from_str(trusted.payload()).expect("claims");
            assert!(claims.exp.as_str() > "2026-01-01T00:00:00Z");
            black_box(claims);
        }
    })
    .against("rusty_paseto", || {
        for _ in 0..TOKENS {
            let payload =
                Paseto::<RustyV4, Local>::try_decrypt(black_box(&rusty_token), &rusty_key, None, None)
                    .expect("authentic");
            let claims: Claims = serde_json::from_str(&payload).expect("claims");
            assert!(claims.exp.as_str() > "2026-01-01T00:00:00Z");
            black_box(claims);
        }
    })
    .goal(Goal::Times(1.35))
    .how("text to claims whose times were checked; ours checks key id, purpose and all times, the rivals' expiry is a comparison of texts")
    .run(report);
    Ok(())
}
