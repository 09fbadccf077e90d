//! What a user of the crate relies on, through its public API.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::time::Duration;

use proptest::prelude::*;
use stackbeam_session::{
    Applied, FeedError, IssueError, Key, KeyRing, KeyState, MemoryRevocations, NoRevocations,
    Policy, Sessions, Timestamp, VerifyError,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ring() -> KeyRing {
    KeyRing::new(Key::generate().unwrap(), DAY).unwrap()
}

fn sessions(ring: &KeyRing) -> Sessions<u8> {
    Sessions::new(
        ring.clone(),
        "login",
        "example.org",
        Policy::new(HOUR, DAY),
        NoRevocations,
    )
    .unwrap()
}

#[test]
fn what_is_counted_adds_up() {
    let key = Key::generate().unwrap();
    let revocations = MemoryRevocations::new(&key, DAY).unwrap();
    let ring = KeyRing::new(key, DAY).unwrap();
    let policy = Policy::new(HOUR, DAY);
    let sessions = Sessions::<u8, _>::new(ring, "login", "a", policy, revocations).unwrap();
    let tokens = ["7", "8"].map(|subject| sessions.issue(subject, 0, NOW).unwrap());
    sessions.revocations().revoke_subject("8", NOW).unwrap();
    let long = "x".repeat(5000);
    let forged =
        tokens[0]
            .replacen("v4.local.A", "v4.local.B", 1)
            .replacen("v4.local.", "v4.local.A", 1);
    let late = NOW.after(HOUR * 2);
    for (token, now) in [
        (&tokens[0], NOW),
        (&tokens[1], NOW),
        (&tokens[0], late),
        (&long, NOW),
        (&forged, NOW),
    ] {
        drop(sessions.clone().verify_shared(token, now));
        drop(sessions.verify(token, now));
    }
    let stats = sessions.stats();
    assert_eq!((stats.issued, stats.verified, stats.refused()), (2, 2, 8));
    assert_eq!((stats.revoked, stats.out_of_time), (2, 2));
    assert_eq!(stats.malformed + stats.not_authentic, 4);
}

#[test]
fn a_token_opens_on_another_server_with_the_same_key_and_nowhere_else() {
    let ring = ring();
    let token = sessions(&ring).issue("7", 9, NOW).unwrap();
    let verified = sessions(&ring).verify(&token, NOW).unwrap();
    assert_eq!(
        (verified.claims.subject.as_str(), verified.claims.data),
        ("7", 9)
    );
    assert!(!verified.renew);
    for (purpose, audience) in [
        ("reset", "example.org"),
        ("login", "evil.org"),
        ("logine", "xample.org"),
    ] {
        let other = Sessions::<u8>::new(
            ring.clone(),
            purpose,
            audience,
            Policy::new(HOUR, DAY),
            NoRevocations,
        )
        .unwrap();
        assert_eq!(
            other.verify(&token, NOW).err(),
            Some(VerifyError::NotAuthentic)
        );
    }
    let stranger = sessions(&self::ring());
    assert_eq!(
        stranger.verify(&token, NOW).err(),
        Some(VerifyError::KeyNotAccepted)
    );
}

#[test]
fn clocks_half_a_minute_apart_agree_and_six_minutes_apart_refuse() {
    let sessions = sessions(&ring());
    let token = sessions.issue("7", 9, NOW).unwrap();
    assert!(sessions.verify(&token, NOW.before(secs(30))).is_ok());
    assert_eq!(
        sessions.verify(&token, NOW.before(secs(31))).err(),
        Some(VerifyError::FromTheFuture)
    );
    assert!(sessions.verify(&token, NOW.after(secs(3629))).is_ok());
    assert_eq!(
        sessions.verify(&token, NOW.after(secs(3630))).err(),
        Some(VerifyError::Expired)
    );
}

#[test]
fn an_active_session_is_renewed_until_its_absolute_end_and_never_past_it() {
    let sessions = sessions(&ring());
    let mut token = sessions.issue("7", 9, NOW).unwrap();
    let mut now = NOW;
    loop {
        now = now.after(secs(1800));
        match sessions.verify(&token, now) {
            Ok(verified) if verified.renew => token = sessions.renew(verified.claims, now).unwrap(),
            Ok(verified) => {
                assert!(matches!(
                    sessions.renew(verified.claims, now),
                    Err(IssueError::Ended)
                ));
            }
            Err(error) => {
                assert_eq!(error, VerifyError::Expired);
                break;
            }
        }
    }
    assert_eq!(now, NOW.after(DAY + secs(1800)));
}

#[test]
fn a_rotation_logs_nobody_out_and_a_revoked_key_everybody_under_it() {
    let ring = ring();
    let sessions = sessions(&ring);
    let old = sessions.issue("7", 9, NOW).unwrap();
    let first = ring.states(NOW)[0].0;
    let second = ring
        .add(Key::generate().unwrap(), NOW.after(secs(600)), NOW)
        .unwrap();
    assert_eq!(
        ring.states(NOW),
        [(first, KeyState::Active), (second, KeyState::Pending)]
    );
    assert_eq!(
        sessions
            .verify(&sessions.issue("7", 9, NOW).unwrap(), NOW)
            .unwrap()
            .key,
        first
    );

    let later = NOW.after(secs(600));
    assert_eq!(
        ring.states(later),
        [(first, KeyState::Retired), (second, KeyState::Active)]
    );
    let verified = sessions.verify(&old, later).unwrap();
    assert!(verified.renew, "a token under a retired key is made anew");
    let new = sessions.renew(verified.claims, later).unwrap();
    assert_eq!(sessions.verify(&new, later).unwrap().key, second);

    ring.revoke(first).unwrap();
    assert_eq!(
        sessions.verify(&old, later).err(),
        Some(VerifyError::KeyNotAccepted)
    );
    assert!(sessions.verify(&new, later).is_ok());
    assert_eq!(ring.states(later.after(DAY))[0].1, KeyState::Revoked);
}

#[test]
fn a_key_past_its_grace_verifies_nothing_and_leaves_the_ring() {
    let ring = ring();
    let first = ring.states(NOW)[0].0;
    ring.add(Key::generate().unwrap(), NOW, NOW).unwrap();
    assert_eq!(ring.states(NOW.after(DAY))[0], (first, KeyState::Expired));
    ring.add(Key::generate().unwrap(), NOW.after(DAY), NOW.after(DAY))
        .unwrap();
    assert!(
        ring.states(NOW.after(DAY))
            .iter()
            .all(|(id, _)| *id != first)
    );
}

#[test]
fn an_activation_in_the_past_does_not_cut_the_grace_of_the_key_before() {
    let ring = ring();
    let sessions = sessions(&ring);
    let old = sessions.issue("7", 9, NOW).unwrap();
    ring.add(Key::generate().unwrap(), Timestamp::from_secs(0), NOW)
        .unwrap();
    assert!(sessions.verify(&old, NOW).is_ok());
}

#[test]
fn revoked_keys_leave_the_ring_when_their_grace_has_passed() {
    let ring = ring();
    let mut now = NOW;
    for _ in 0..100 {
        let id = ring.add(Key::generate().unwrap(), now, now).unwrap();
        now = now.after(DAY);
        ring.revoke(id).unwrap();
    }
    assert!(ring.states(now).len() < 5);
}

#[test]
fn a_login_where_a_revocation_is_forgotten_holds_where_it_is_not_yet() {
    let key = Key::generate().unwrap();
    let ((a, revoke_a), (b, revoke_b)) = (server(&key), server(&key));
    let message = revoke_a.revoke_subject("7", NOW).unwrap();
    revoke_b.apply(&message, NOW).unwrap();
    // A new server that has never heard of it, and one that still holds the entry.
    let (fresh, _) = server(&key);
    let later = NOW.after(DAY + secs(1300));
    let token = fresh.issue("7", 0, later).unwrap();
    assert!(a.verify(&token, later).is_ok());
    assert!(b.verify(&token, later).is_ok());
    // While the entry may count anywhere, a snapshot still carries it.
    let (newcomer, revoke) = server(&key);
    let soon = NOW.after(DAY + secs(700));
    revoke.load(&revoke_a.snapshot(soon), soon).unwrap();
    let token = newcomer.issue("7", 0, soon).unwrap();
    assert!(
        b.verify(&token, soon.before(secs(300))).is_err(),
        "its clock is beyond the leeway"
    );
    assert!(b.verify(&token, soon.before(secs(30))).is_ok());
}

#[test]
fn a_grace_shorter_than_a_session_is_refused_when_built() {
    let ring = KeyRing::new(Key::generate().unwrap(), HOUR).unwrap();
    assert!(Sessions::<u8>::new(ring, "login", "", Policy::new(HOUR, DAY), NoRevocations).is_err());
}

#[test]
fn revocations_that_forget_before_a_session_ends_are_refused_when_built() {
    let key = Key::generate().unwrap();
    let build = |remembered| {
        let revocations = MemoryRevocations::new(&key, remembered).unwrap();
        let policy = Policy::new(HOUR, DAY);
        Sessions::<u8, _>::new(
            ring(),
            "login",
            "",
            policy,
            std::sync::Arc::new(revocations),
        )
        .is_ok()
    };
    assert!(build(DAY));
    assert!(!build(DAY - secs(1)));
}

#[test]
fn placeholder_and_short_keys_are_refused() {
    let counting: Vec<u8> = (0..32).collect();
    for placeholder in [&[0; 32][..], &counting] {
        let key = Key::from_bytes(placeholder).unwrap();
        assert!(KeyRing::new(key.clone(), DAY).is_err());
        assert!(ring().add(key.clone(), NOW, NOW).is_err());
        assert!(MemoryRevocations::new(&key, DAY).is_err());
    }
    assert!(Key::from_bytes(&[1; 31]).is_err());
    assert!(Key::from_text(&"é".repeat(32)).is_err());
    let key = Key::generate().unwrap();
    assert_eq!(Key::from_text(&key.to_paserk()).unwrap().id(), key.id());
}

fn server(
    key: &Key,
) -> (
    Sessions<u8, std::sync::Arc<MemoryRevocations>>,
    std::sync::Arc<MemoryRevocations>,
) {
    let revocations = std::sync::Arc::new(MemoryRevocations::new(key, DAY).unwrap());
    let ring = KeyRing::new(key.clone(), DAY).unwrap();
    let shared = std::sync::Arc::clone(&revocations);
    (
        Sessions::new(ring, "login", "", Policy::new(HOUR, DAY), shared).unwrap(),
        revocations,
    )
}

#[test]
fn a_logout_everywhere_reaches_the_other_server_and_a_login_after_it_holds() {
    let key = Key::generate().unwrap();
    let ((a, revoke_a), (b, revoke_b)) = (server(&key), server(&key));
    let (mine, other) = (a.issue("7", 0, NOW).unwrap(), a.issue("8", 0, NOW).unwrap());
    let message = revoke_a.revoke_subject("7", NOW).unwrap();
    assert!(b.verify(&mine, NOW).is_ok(), "the message has not arrived");
    assert_eq!(revoke_b.apply(&message, NOW), Ok(Applied::InOrder));
    assert_eq!(revoke_b.apply(&message, NOW), Ok(Applied::Duplicate));
    assert_eq!(b.verify(&mine, NOW).err(), Some(VerifyError::Revoked));
    assert!(b.verify(&other, NOW).is_ok());
    let again = b.issue("7", 0, NOW).unwrap();
    assert!(
        a.verify(&again, NOW).is_ok(),
        "the same second is no obstacle"
    );
}

#[test]
fn one_session_ends_and_the_others_of_its_subject_go_on() {
    let key = Key::generate().unwrap();
    let (a, revoke) = server(&key);
    let (one, two) = (a.issue("7", 0, NOW).unwrap(), a.issue("7", 0, NOW).unwrap());
    let verified = a.verify(&one, NOW).unwrap();
    revoke.revoke_session(verified.claims.session, NOW).unwrap();
    assert_eq!(a.verify(&one, NOW).err(), Some(VerifyError::Revoked));
    // The id stays when a token is renewed, so a copy in flight ends too.
    let renewed = a.renew(verified.claims, NOW.after(HOUR)).unwrap();
    assert_eq!(
        a.verify(&renewed, NOW.after(HOUR)).err(),
        Some(VerifyError::Revoked)
    );
    assert!(a.verify(&two, NOW).is_ok());
    revoke.revoke_all(NOW.after(secs(1)), NOW).unwrap();
    assert_eq!(a.verify(&two, NOW).err(), Some(VerifyError::Revoked));
}

#[test]
fn a_missing_message_shows_and_a_snapshot_closes_the_gap() {
    let key = Key::generate().unwrap();
    let ((a, revoke_a), (b, revoke_b)) = (server(&key), server(&key));
    let token = a.issue("lost", 0, NOW).unwrap();
    revoke_a.revoke_subject("lost", NOW).unwrap();
    assert_eq!(
        revoke_b.apply(&revoke_a.beat(NOW), NOW),
        Ok(Applied::Gap { missing: 1 })
    );
    let next = revoke_a.revoke_subject("8", NOW).unwrap();
    assert_eq!(revoke_b.apply(&next, NOW), Ok(Applied::Gap { missing: 1 }));
    assert!(b.verify(&token, NOW).is_ok());
    revoke_b.load(&revoke_a.snapshot(NOW), NOW).unwrap();
    assert_eq!(b.verify(&token, NOW).err(), Some(VerifyError::Revoked));
    assert_eq!(
        revoke_b.apply(&revoke_a.beat(NOW), NOW),
        Ok(Applied::InOrder)
    );
    let last = revoke_a.revoke_subject("9", NOW).unwrap();
    assert_eq!(revoke_b.apply(&last, NOW), Ok(Applied::InOrder));
}

#[test]
fn the_bound_on_revocations_refuses_and_time_makes_room() {
    let key = Key::generate().unwrap();
    let revoke = MemoryRevocations::new(&key, DAY).unwrap().capacity(2);
    revoke.revoke_subject("1", NOW).unwrap();
    revoke.revoke_subject("2", NOW).unwrap();
    assert_eq!(revoke.revoke_subject("3", NOW), Err(FeedError::Full(2)));
    assert!(
        revoke.revoke_subject("2", NOW).is_ok(),
        "known entries need no room"
    );
    assert!(revoke.revoke_all(NOW, NOW).is_ok());
    let later = NOW.after(DAY + secs(1201));
    revoke.revoke_subject("3", later).unwrap();
    assert_eq!(revoke.len(), 1);
}

#[test]
fn a_generation_does_not_come_again_after_its_entry_was_forgotten() {
    let key = Key::generate().unwrap();
    let (a, revoke) = server(&key);
    for _ in 0..9 {
        revoke.revoke_subject("7", NOW).unwrap();
    }
    let token = a.issue("7", 0, NOW.after(DAY)).unwrap();
    let later = NOW.after(DAY + secs(700));
    let small = MemoryRevocations::new(&key, DAY).unwrap();
    let message = small.revoke_subject("7", later).unwrap();
    revoke.apply(&message, later).unwrap();
    assert_eq!(a.verify(&token, later).err(), Some(VerifyError::Revoked));
}

#[test]
fn debug_shows_no_secret_and_no_id() {
    let key = Key::generate().unwrap();
    let (a, revoke) = server(&key);
    let token = a.issue("subject-text", 0, NOW).unwrap();
    let verified = a.verify(&token, NOW).unwrap();
    let all = format!(
        "{key:?} {a:?} {revoke:?} {verified:?} {:?}",
        verified.claims.session
    );
    assert!(!all.contains("subject-text"));
    assert!(!all.contains(&key.to_paserk()[9..]));
    assert!(!all.contains(&format!("{:?}", verified.claims.session.as_bytes())[1..20]));
}

#[test]
fn a_token_too_long_for_a_cookie_is_an_error_and_not_a_lost_cookie() {
    let sessions =
        Sessions::<String>::new(ring(), "login", "", Policy::new(HOUR, DAY), NoRevocations)
            .unwrap();
    assert!(sessions.issue("7", "x".repeat(2500), NOW).is_ok());
    assert!(matches!(
        sessions.issue("7", "x".repeat(3000), NOW),
        Err(IssueError::TooLong(_))
    ));
    assert_eq!(
        sessions.verify(&"v4.local.".repeat(500), NOW).err(),
        Some(VerifyError::TooLong)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_mutated_token_is_accepted(at in 0_usize..1000, byte in any::<u8>(), kind in 0_u8..4) {
        let sessions = sessions(&ring());
        let token = sessions.issue("7", 9, NOW).unwrap();
        let mut bytes = token.clone().into_bytes();
        let at = at % bytes.len();
        match kind {
            0 => bytes[at] = byte & 0x7f,
            1 => bytes.insert(at, byte & 0x7f),
            2 => bytes.truncate(at),
            _ => drop(bytes.remove(at)),
        }
        let mutated = String::from_utf8(bytes).unwrap();
        prop_assume!(mutated != token);
        prop_assert!(sessions.verify(&mutated, NOW).is_err());
    }

    #[test]
    fn no_text_and_no_message_makes_a_panic(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = Key::generate().unwrap();
        let (a, revoke) = server(&key);
        prop_assert!(a.verify(&text, NOW).is_err());
        let framed = format!("v4.local.{text}");
        prop_assert!(a.verify(&framed, NOW).is_err());
        prop_assert_eq!(revoke.apply(&bytes, NOW), Err(FeedError::Malformed));
        prop_assert_eq!(revoke.load(&bytes, NOW), Err(FeedError::Malformed));
    }
}
