//! Every kind of key, through the same sessions; and a ring that makes its own keys.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::time::Duration;

use stackbeam_session::{
    Binding, DerivedKey, IssuingKey, Key, KeyRing, KeyState, Level, NoRevocations, Policy,
    RingError, SecretKey, Sessions, Timestamp, Verifier, VerifyError,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn sessions<K: IssuingKey>(ring: &KeyRing<K>, purpose: &str) -> Sessions<u8, NoRevocations, K> {
    let policy = Policy::new(HOUR, DAY);
    Sessions::new(ring.clone(), purpose, "example.org", policy, NoRevocations).unwrap()
}

fn works<K: IssuingKey>(key: K, other: K) {
    let ring = KeyRing::new(key, DAY).unwrap();
    let sessions = sessions(&ring, "login");
    let token = sessions.issue_at(Level::Aal2, "user-42", 9, NOW).unwrap();
    let claims = sessions.verify(&token, NOW).unwrap().claims;
    assert_eq!((&*claims.subject, claims.data), ("user-42", 9));
    assert_eq!(claims.level, Level::Aal2);
    assert_eq!((claims.issued_at, claims.authenticated_at), (NOW, NOW));
    assert_eq!(
        (claims.expires_at, claims.ends_at),
        (NOW.after(HOUR), NOW.after(DAY))
    );
    let renewed = sessions.renew(claims.clone(), NOW.after(HOUR)).unwrap();
    let again = sessions.verify(&renewed, NOW.after(HOUR)).unwrap().claims;
    assert_eq!(
        (again.session, again.authenticated_at),
        (claims.session, NOW)
    );

    let err =
        |sessions: &Sessions<u8, NoRevocations, K>, token: &str| sessions.verify(token, NOW).err();
    assert_eq!(
        err(&self::sessions(&ring, "reset"), &token),
        Some(VerifyError::NotAuthentic)
    );
    assert_eq!(
        err(&sessions.for_cookie("__Host-id"), &token),
        Some(VerifyError::NotAuthentic)
    );
    let stranger = KeyRing::new(other, DAY).unwrap();
    assert_eq!(
        err(&self::sessions(&stranger, "login"), &token),
        Some(VerifyError::KeyNotAccepted)
    );
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(
            err(&sessions, &String::from_utf8(bytes).unwrap()).is_some(),
            "{at}"
        );
        assert!(err(&sessions, &token[..at]).is_some(), "{at}");
    }
}

#[test]
fn local_keys_work() {
    works(Key::generate().unwrap(), Key::generate().unwrap());
}

#[test]
fn key_pairs_work_and_the_public_half_verifies_and_cannot_issue() {
    let pair = SecretKey::generate().unwrap();
    works(pair.clone(), SecretKey::generate().unwrap());
    let token = sessions(&KeyRing::new(pair.clone(), DAY).unwrap(), "login")
        .issue("7", 9, NOW)
        .unwrap();
    let ring = KeyRing::new(pair.public().clone(), DAY).unwrap();
    let policy = Policy::new(HOUR, DAY);
    let gateway = Sessions::<u8, _, _>::new(ring, "login", "example.org", policy, NoRevocations);
    assert_eq!(gateway.unwrap().verify(&token, NOW).unwrap().claims.data, 9);

    let binding = Binding::new("login", "example.org");
    let alone = Verifier::<u8, _>::new([pair.public().clone()], binding.clone(), policy).unwrap();
    assert_eq!(alone.verify(&token, NOW).unwrap().data, 9);
    assert!(alone.verify(&token, NOW.after(DAY)).is_err());
    let other = Verifier::<u8, _>::new([pair.public().clone()], binding.cookie("a"), policy);
    assert_eq!(
        other.unwrap().verify(&token, NOW).err(),
        Some(VerifyError::NotAuthentic)
    );
}

#[cfg(feature = "compact")]
#[test]
fn compact_keys_work_and_their_tokens_are_short() {
    use stackbeam_session::CompactKey;
    works(
        CompactKey::generate().unwrap(),
        CompactKey::generate().unwrap(),
    );
    let ring = KeyRing::new(CompactKey::generate().unwrap(), DAY).unwrap();
    let policy = Policy::new(HOUR, DAY);
    let sessions =
        Sessions::<[&str; 3], _, _>::new(ring, "login", "example.org", policy, NoRevocations)
            .unwrap();
    let roles = ["admin", "editor", "reader"];
    let token = sessions.issue("user-42", roles, NOW).unwrap();
    assert!(token.len() <= 120, "{}", token.len());
    derived::<CompactKey>();
}

fn derived<K: DerivedKey>() {
    let master = Key::generate().unwrap();
    let ring = || KeyRing::<K>::derived(&master, "login", HOUR * 6, DAY).unwrap();
    let (here, there) = (ring(), ring());
    let token = sessions(&here, "login").issue("7", 9, NOW).unwrap();
    let verified = sessions(&there, "login").verify(&token, NOW).unwrap();
    assert!(!verified.renew);
    // A server whose clock is in the next slot: its tokens verify where the slot has not begun.
    let end = Timestamp::from_secs(NOW.as_secs().next_multiple_of(6 * 3600));
    let ahead = sessions(&here, "login").issue("7", 9, end).unwrap();
    let late = end.before(Duration::from_secs(20));
    assert!(sessions(&there, "login").verify(&ahead, late).is_ok());
    let states = there.states(late);
    assert_eq!(
        states
            .iter()
            .filter(|(_, state)| *state == KeyState::Active)
            .count(),
        1
    );
    assert_eq!(states.last().unwrap().1, KeyState::Pending);
    // The next slot: still good, and to be made anew.
    let verified = sessions(&there, "login")
        .verify(&ahead, end.after(HOUR / 6))
        .unwrap();
    assert!(!verified.renew);
    let before = sessions(&here, "login").issue("7", 9, late).unwrap();
    assert!(
        sessions(&there, "login")
            .verify(&before, end)
            .unwrap()
            .renew
    );
    // A day after its slot a key verifies nothing.
    let long = end.after(DAY);
    assert_eq!(
        sessions(&there, "login").verify(&before, long).err(),
        Some(VerifyError::KeyNotAccepted)
    );
    // Another purpose or master has other keys.
    let other = KeyRing::<K>::derived(&master, "reset", HOUR * 6, DAY).unwrap();
    assert_eq!(
        sessions(&other, "login").verify(&token, NOW).err(),
        Some(VerifyError::KeyNotAccepted)
    );
    assert!(matches!(
        KeyRing::<K>::derived(&master, "login", HOUR / 60, DAY),
        Err(RingError::SlotTooShort { .. })
    ));
    // A revoked key stays so when the slots move on.
    let active = here
        .states(NOW)
        .iter()
        .find(|(_, state)| *state == KeyState::Active)
        .unwrap()
        .0;
    here.revoke(active).unwrap();
    assert!(sessions(&here, "login").issue("7", 9, NOW).is_err());
    assert!(sessions(&here, "login").issue("7", 9, end).is_ok());
    assert!(sessions(&here, "login").verify(&token, end).is_err());
}

#[test]
fn a_derived_ring_has_the_same_keys_everywhere_and_rotates_by_itself() {
    derived::<Key>();
    derived::<SecretKey>();
}

#[test]
fn tokens_issued_in_a_barred_interval_are_refused_and_others_hold() {
    let ring = KeyRing::new(Key::generate().unwrap(), DAY).unwrap();
    let sessions = sessions(&ring, "login");
    let at = |seconds: u64| NOW.after(Duration::from_secs(seconds));
    let tokens = [0, 10, 20].map(|seconds| sessions.issue("7", 0, at(seconds)).unwrap());
    let key = ring.states(NOW)[0].0;
    ring.revoke_issued_between(at(5), at(20), Some(key), at(30))
        .unwrap();
    let good = tokens.map(|token| sessions.verify(&token, at(30)).is_ok());
    assert_eq!(good, [true, false, true]);
    for _ in 1..16 {
        ring.revoke_issued_between(at(5), at(20), None, at(30))
            .unwrap();
    }
    let full = |now| ring.revoke_issued_between(at(5), at(20), None, now);
    assert!(matches!(full(at(30)), Err(RingError::Full)));
    full(at(30).after(DAY)).unwrap();
}

#[cfg(feature = "cache")]
#[test]
fn a_token_that_was_verified_is_found_and_still_checked_for_all_that_can_change() {
    use stackbeam_session::MemoryRevocations;
    use std::sync::Arc;
    let pair = SecretKey::generate().unwrap();
    let ring = KeyRing::new(pair.clone(), DAY).unwrap();
    let revocations = Arc::new(MemoryRevocations::new(&Key::generate().unwrap(), DAY).unwrap());
    let policy = Policy::new(HOUR, DAY);
    let shared = Arc::clone(&revocations);
    let sessions = Sessions::<u8, _, _>::new(ring.clone(), "login", "", policy, shared)
        .unwrap()
        .cached(100)
        .unwrap();
    let verify = |token: &str, now| sessions.verify_shared(token, now);
    let token = sessions.issue("7", 9, NOW).unwrap();
    let first = verify(&token, NOW).unwrap();
    let again = verify(&token, NOW).unwrap();
    assert!(Arc::ptr_eq(&first.claims, &again.claims), "found");
    assert!(verify(&token, NOW.after(HOUR / 2)).unwrap().renew);
    let other = sessions.for_cookie("__Host-id");
    assert_eq!(
        other.verify_shared(&token, NOW).err(),
        Some(VerifyError::NotAuthentic)
    );
    assert_eq!(
        verify(&token, NOW.after(HOUR * 2)).err(),
        Some(VerifyError::Expired)
    );
    assert_eq!(verify(&token[1..], NOW).err(), Some(VerifyError::Malformed));
    revocations
        .revoke_session(first.claims.session, NOW)
        .unwrap();
    assert_eq!(verify(&token, NOW).err(), Some(VerifyError::Revoked));
    let token = sessions.issue("8", 9, NOW).unwrap();
    assert!(verify(&token, NOW).is_ok());
    ring.add(SecretKey::generate().unwrap(), NOW, NOW).unwrap();
    assert!(verify(&token, NOW).unwrap().renew, "its key has retired");
    ring.revoke(pair.id()).unwrap();
    assert_eq!(verify(&token, NOW).err(), Some(VerifyError::KeyNotAccepted));
}

#[test]
fn keys_come_from_a_file_are_added_when_it_changes_and_end_when_they_leave_it() {
    use stackbeam_session::KeysInFile;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let (one, two) = (Key::generate().unwrap(), Key::generate().unwrap());
    let write = |text: String| std::fs::write(&path, text).unwrap();
    write(format!("# the keys of this run\n\n{}\n", *one.to_paserk()));
    let source = KeysInFile::new(&path);
    let ring = KeyRing::<Key>::from_source(&source, DAY).unwrap();
    let sessions = sessions(&ring, "login");
    let old = sessions.issue("7", 0, NOW).unwrap();
    assert_eq!(ring.sync(&source, NOW).unwrap(), (0, 0), "nothing changed");
    let later = NOW.after(Duration::from_secs(600));
    write(format!(
        "{}\n{} 2027-01-15T08:10:00Z\n",
        *one.to_paserk(),
        *two.to_paserk()
    ));
    assert_eq!(ring.sync(&source, NOW).unwrap(), (1, 0));
    assert_eq!(
        ring.states(NOW),
        [(one.id(), KeyState::Active), (two.id(), KeyState::Pending)]
    );
    assert_eq!(ring.states(later)[1], (two.id(), KeyState::Active));
    assert!(sessions.verify(&old, later).unwrap().renew);
    let other = KeyRing::<Key>::from_source(&KeysInFile::new(&path), DAY).unwrap();
    assert_eq!(
        other.states(later),
        ring.states(later),
        "a server that starts has the same ring"
    );
    write(format!("{}\n", *two.to_paserk()));
    assert_eq!(ring.sync(&source, later).unwrap(), (0, 1));
    assert_eq!(
        sessions.verify(&old, later).err(),
        Some(VerifyError::KeyNotAccepted)
    );
    for bad in ["", "# none\n", "k4.local.AAAA\n", "not a key\n"] {
        write(bad.to_owned());
        assert!(ring.sync(&source, later).is_err(), "{bad:?}");
        assert!(sessions.issue("7", 0, later).is_ok(), "the ring stays");
    }
    write(format!("{} tomorrow\n", *two.to_paserk()));
    assert!(ring.sync(&source, later).is_err());
    let text = zeroize::Zeroizing::new(two.to_paserk().to_string());
    let custom = move || Ok(Some(text.clone()));
    assert!(KeyRing::<Key>::from_source(&custom, DAY).is_ok());
    let nothing = stackbeam_session::KeysInEnv::new("STACKBEAM_NO_SUCH_KEYS");
    assert!(KeyRing::<Key>::from_source(&nothing, DAY).is_err());
}
