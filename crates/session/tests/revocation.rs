//! Ending sessions: by prefix, for servers that follow a feed, and for connections that wait.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use stackbeam_session::{
    Applied, Claims, End, FeedError, Key, KeyRing, MemoryRevocations, Policy, Sessions, Timestamp,
    VerifyError, WhenStale,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

type Server = Sessions<u8, Arc<MemoryRevocations>>;

fn server(key: &Key, revocations: MemoryRevocations) -> Server {
    let ring = KeyRing::new(key.clone(), DAY).unwrap();
    let policy = Policy::new(HOUR, DAY);
    Sessions::new(ring, "login", "", policy, Arc::new(revocations)).unwrap()
}

fn new(key: &Key) -> MemoryRevocations {
    MemoryRevocations::new(key, DAY).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_tenant_ends_on_all_servers_and_the_others_go_on() {
    let key = Key::generate().unwrap();
    let (a, b) = (server(&key, new(&key)), server(&key, new(&key)));
    let tokens =
        ["acme/7", "acme/8", "acm", "beta/acme/7"].map(|subject| a.issue(subject, 0, NOW).unwrap());
    let message = a.revocations().revoke_prefix("acme/", NOW).unwrap();
    b.revocations().apply(&message, NOW).unwrap();
    let late = server(&key, new(&key));
    late.revocations()
        .load(&a.revocations().snapshot(NOW), NOW)
        .unwrap();
    for server in [&a, &b, &late] {
        let good = tokens
            .clone()
            .map(|token| server.verify(&token, NOW).is_ok());
        assert_eq!(good, [false, false, true, true]);
        let again = server.issue("acme/7", 0, NOW.after(secs(1))).unwrap();
        assert!(server.verify(&again, NOW.after(secs(1))).is_ok());
    }
    for number in 1..16 {
        a.revocations()
            .revoke_prefix(&number.to_string(), NOW)
            .unwrap();
    }
    assert_eq!(
        a.revocations().revoke_prefix("16", NOW),
        Err(FeedError::Full(16))
    );
    assert!(
        a.revocations().revoke_prefix("acme/", NOW).is_ok(),
        "known ones need no room"
    );
    let later = NOW.after(DAY + secs(1300));
    assert!(a.revocations().revoke_prefix("16", later).is_ok());
}

#[test]
fn a_server_that_follows_serves_nothing_before_the_snapshot_and_says_what_it_does_when_stale() {
    let key = Key::generate().unwrap();
    let old = server(&key, new(&key));
    let (token, ended) = (
        old.issue("7", 0, NOW).unwrap(),
        old.issue("8", 0, NOW).unwrap(),
    );
    old.revocations().revoke_subject("8", NOW).unwrap();
    for (when, after) in [
        (WhenStale::Continue, None),
        (WhenStale::Refuse, Some(VerifyError::Stale)),
    ] {
        let started = server(&key, new(&key).following(secs(30), when));
        let verify = |token: &str, now| started.verify(token, now).err();
        assert_eq!(verify(&token, NOW), Some(VerifyError::Stale));
        assert_eq!(started.revocations().staleness(NOW), None);
        started
            .revocations()
            .load(&old.revocations().snapshot(NOW), NOW)
            .unwrap();
        assert_eq!(verify(&token, NOW.after(secs(30))), None);
        assert_eq!(
            verify(&ended, NOW.after(secs(30))),
            Some(VerifyError::Revoked)
        );
        assert_eq!(verify(&token, NOW.after(secs(31))), after);
        assert_eq!(
            started.revocations().staleness(NOW.after(secs(31))),
            Some(secs(31))
        );
        started.revocations().mark_current(NOW.after(secs(31)));
        assert_eq!(verify(&token, NOW.after(secs(31))), None);
    }
}

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_connection_learns_of_the_end_of_its_session_and_of_no_other() {
    let key = Key::generate().unwrap();
    let server = server(&key, new(&key));
    let login = |subject: &str| {
        let token = server.issue(subject, 0, NOW).unwrap();
        server.verify(&token, NOW).unwrap().claims
    };
    let revocations = server.revocations();
    let (mine, other) = (login("7"), login("7"));
    let end_session =
        |claims: &Claims<u8>| revocations.revoke_session(claims.session, NOW).map(drop);
    type Way<'a> = (
        &'a str,
        Box<dyn Fn(&Claims<u8>) -> Result<(), FeedError> + 'a>,
    );
    let ways: [Way<'_>; 4] = [
        ("session", Box::new(end_session)),
        (
            "subject",
            Box::new(|claims| revocations.revoke_subject(&claims.subject, NOW).map(drop)),
        ),
        (
            "prefix",
            Box::new(|claims| {
                revocations
                    .revoke_prefix(&claims.subject[..1], NOW)
                    .map(drop)
            }),
        ),
        (
            "all",
            Box::new(|_| revocations.revoke_all(NOW.after(secs(1)), NOW).map(drop)),
        ),
    ];
    for (number, (way, end)) in ways.into_iter().enumerate() {
        let claims = login(&format!("{number}-9"));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut ended = pin!(server.ended(&claims, NOW, |left| {
            assert_eq!(left, HOUR);
            pending()
        }));
        assert_eq!(ended.as_mut().poll(&mut cx), Poll::Pending, "{way}");
        revocations.revoke_session(other.session, NOW).unwrap();
        assert_eq!(
            woken.0.load(Ordering::SeqCst),
            0,
            "{way}: woken for another's end"
        );
        end(&claims).unwrap();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1, "{way}");
        assert_eq!(
            ended.as_mut().poll(&mut cx),
            Poll::Ready(End::Revoked),
            "{way}"
        );
    }
    let mut cx = Context::from_waker(Waker::noop());
    let mut over = pin!(server.ended(&mine, NOW, |_| std::future::ready(())));
    assert_eq!(
        over.as_mut().poll(&mut cx),
        Poll::Ready(End::Revoked),
        "ended already"
    );
    let fresh = self::server(&key, new(&key));
    let mut over = pin!(fresh.ended(&mine, NOW, |_| std::future::ready(())));
    assert_eq!(over.as_mut().poll(&mut cx), Poll::Ready(End::Expired));
}

#[test]
fn a_connection_that_is_dropped_at_any_point_leaves_nothing_behind() {
    let key = Key::generate().unwrap();
    let server = server(&key, new(&key));
    let token = server.issue("7", 0, NOW).unwrap();
    let claims = server.verify(&token, NOW).unwrap().claims;
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    for polls in 0..3 {
        let mut ended = Box::pin(server.ended(&claims, NOW, |_| pending()));
        for _ in 0..polls {
            assert!(
                ended
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        drop(ended);
    }
    server
        .revocations()
        .revoke_session(claims.session, NOW)
        .unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    // One reference here, one in the waker: none is held by the set.
    assert_eq!(Arc::strong_count(&woken), 2);
}

/// What may be done to a group of servers.
#[derive(Clone, Copy, Debug)]
enum Step {
    Login(usize, u8),
    EndSession(usize, usize),
    EndSubject(usize, u8),
    /// The oldest message that a server has not seen arrives, or one that it has seen comes again.
    Deliver(usize, bool),
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_usize, 0..4_u8).prop_map(|(at, who)| Step::Login(at, who)),
        (0..3_usize, 0..50_usize).prop_map(|(at, which)| Step::EndSession(at, which)),
        (0..3_usize, 0..4_u8).prop_map(|(at, who)| Step::EndSubject(at, who)),
        (0..3_usize, any::<bool>()).prop_map(|(at, again)| Step::Deliver(at, again)),
        (0..20_000_u16).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    /// The model: a session has ended for a server if a message that ends it has reached that server.
    #[test]
    fn servers_with_a_feed_are_as_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let key = Key::generate().unwrap();
        let servers: Vec<_> = (0..3).map(|_| server(&key, new(&key))).collect();
        let mut now = NOW;
        // Token, subject, and the messages that end it.
        let mut sessions: Vec<(String, u8, Timestamp, HashSet<usize>)> = Vec::new();
        let mut messages: Vec<Vec<u8>> = Vec::new();
        let mut reached: HashMap<usize, HashSet<usize>> = HashMap::new();
        for step in steps {
            match step {
                Step::Login(at, who) => {
                    let token = servers[at].issue(&who.to_string(), 0, now).unwrap();
                    sessions.push((token, who, now, HashSet::new()));
                }
                Step::EndSession(at, which) if !sessions.is_empty() => {
                    let which = which % sessions.len();
                    let Ok(verified) = servers[at].verify(&sessions[which].0, now) else { continue };
                    let session = verified.claims.session;
                    messages.push(servers[at].revocations().revoke_session(session, now).unwrap());
                    sessions[which].3.insert(messages.len() - 1);
                    reached.entry(at).or_default().insert(messages.len() - 1);
                }
                Step::EndSession(..) => {}
                Step::EndSubject(at, who) => {
                    // A server that ends a subject knows of the others' ends first, as it would from a store.
                    for (number, message) in messages.iter().enumerate() {
                        servers[at].revocations().apply(message, now).unwrap();
                        reached.entry(at).or_default().insert(number);
                    }
                    messages.push(servers[at].revocations().revoke_subject(&who.to_string(), now).unwrap());
                    for session in sessions.iter_mut().filter(|session| session.1 == who) {
                        session.3.insert(messages.len() - 1);
                    }
                    reached.entry(at).or_default().insert(messages.len() - 1);
                    // Everybody hears of it before the subject logs in anew.
                    for (other, server) in servers.iter().enumerate() {
                        for (number, message) in messages.iter().enumerate() {
                            server.revocations().apply(message, now).unwrap();
                            reached.entry(other).or_default().insert(number);
                        }
                    }
                }
                Step::Deliver(at, again) => {
                    let seen = reached.entry(at).or_default();
                    let next = (0..messages.len()).find(|number| seen.contains(number) == again);
                    if let Some(number) = next {
                        let applied = servers[at].revocations().apply(&messages[number], now).unwrap();
                        prop_assert!(!again || applied != Applied::InOrder);
                        seen.insert(number);
                    }
                }
                Step::Pass(seconds) => now = now.after(secs(seconds.into())),
            }
            for (at, server) in servers.iter().enumerate() {
                for (token, _, begun, ends) in &sessions {
                    let over = now.since(*begun) >= HOUR + secs(30);
                    let known = reached.get(&at).is_some_and(|seen| !seen.is_disjoint(ends));
                    let verdict = server.verify(token, now).err();
                    match (over, known, verdict) {
                        (true, _, Some(VerifyError::Expired))
                        | (false, true, Some(VerifyError::Revoked))
                        | (false, false, None) => {}
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
            }
        }
    }
}
