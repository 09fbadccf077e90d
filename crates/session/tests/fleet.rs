//! A day of several servers: keys rotate, servers restart, one clock is off, and nobody is logged out.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::sync::Arc;
use std::time::Duration;

use stackbeam_session::{
    Key, KeyRing, KeyState, MemoryRevocations, Policy, Sessions, SourceError, Timestamp, paseto,
};
use zeroize::Zeroizing;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const BEGIN: Timestamp = Timestamp::from_secs(1_800_000_000);

type Server = Sessions<u32, Arc<MemoryRevocations>>;

/// What all servers read their keys from.
#[derive(Default)]
struct Vault(String);

impl Vault {
    fn add(&mut self, activates: Timestamp) {
        let key = Key::generate().unwrap();
        // As an operator writes it.
        let time = jiff::Timestamp::from_second(activates.as_secs().try_into().unwrap()).unwrap();
        self.0 += &format!("{} {time}\n", key.to_paserk().as_str());
    }

    fn read(&self) -> Result<Option<Zeroizing<String>>, SourceError> {
        Ok(Some(Zeroizing::new(self.0.clone())))
    }
}

fn start(vault: &Vault, secret: &Key, known: Option<&Server>, now: Timestamp) -> Server {
    let policy = Policy::aal2();
    let revocations = MemoryRevocations::new(secret, policy.absolute()).unwrap();
    if let Some(known) = known {
        let snapshot = known.revocations().snapshot(now);
        revocations.load(&snapshot, now).unwrap();
    }
    let ring = KeyRing::from_source(&|| vault.read(), policy.absolute()).unwrap();
    Sessions::new(ring, "login", "a", policy, Arc::new(revocations)).unwrap()
}

/// SplitMix64.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % below
}

fn at(server: usize, now: Timestamp, ahead: bool) -> Timestamp {
    let off = Duration::from_secs(30);
    match server {
        0 if ahead => now.after(off),
        0 => now.before(off),
        _ => now,
    }
}

fn a_day(ahead: bool) {
    let seed = stackbeam_session::fresh_version().unwrap();
    let mut state = seed;
    let (mut vault, secret) = (Vault::default(), Key::generate().unwrap());
    vault.add(BEGIN.before(HOUR));
    let mut servers: Vec<Server> = (0..3)
        .map(|_| start(&vault, &secret, None, BEGIN))
        .collect();
    let mut tokens: Vec<String> = (0..40)
        .map(|user: u32| {
            let server = usize::try_from(user % 3).unwrap();
            servers[server]
                .issue(&user.to_string(), user, at(server, BEGIN, ahead))
                .unwrap()
        })
        .collect();
    let ended = servers[1].issue("gone", 0, BEGIN).unwrap();
    let message = servers[1]
        .revocations()
        .revoke_subject("gone", BEGIN)
        .unwrap();
    servers[0].revocations().apply(&message, BEGIN).unwrap();
    servers[2].revocations().apply(&message, BEGIN).unwrap();
    let (mut renewed, mut keys) = (0, 1);
    for minute in 1..23 * 60_u32 {
        let now = BEGIN.after(MINUTE * minute);
        if minute % 120 == 0 {
            // Ten minutes before it signs; the servers look at the vault at different times.
            vault.add(now.after(MINUTE * 10));
            keys += 1;
        }
        let which = usize::try_from(draw(&mut state, 3)).unwrap();
        let theirs = at(which, now, ahead);
        match draw(&mut state, 100) {
            0 | 1 => {
                servers[which] = start(&vault, &secret, Some(&servers[(which + 1) % 3]), theirs);
            }
            2 | 3 => {
                servers[which]
                    .ring()
                    .sync(&|| vault.read(), theirs)
                    .unwrap();
            }
            _ => {}
        }
        if minute % 120 == 5 {
            for (number, server) in servers.iter().enumerate() {
                let theirs = at(number, now, ahead);
                server.ring().sync(&|| vault.read(), theirs).unwrap();
            }
        }
        // Each user asks about every twenty minutes, anywhere.
        for (user, token) in tokens.iter_mut().enumerate() {
            if draw(&mut state, 20) != 0 && minute % 29 != 0 {
                continue;
            }
            let server = usize::try_from(draw(&mut state, 3)).unwrap();
            let theirs = at(server, now, ahead);
            let verified = servers[server].verify(token, theirs);
            let verified = verified.unwrap_or_else(|why| {
                panic!("seed {seed}, minute {minute}, user {user}, server {server}: {why}")
            });
            assert_eq!(usize::try_from(verified.claims.data).unwrap(), user);
            if verified.renew {
                renewed += 1;
                *token = servers[server].renew(verified.claims, theirs).unwrap();
            }
        }
        assert!(
            servers[which]
                .verify(&ended, at(which, now, ahead))
                .is_err()
        );
    }
    assert!(
        renewed > 500 && keys == 12,
        "{renewed} renewals, {keys} keys"
    );
    let states = servers[1].ring().states(BEGIN.after(HOUR * 23));
    let active = states
        .iter()
        .filter(|(_, state)| *state == KeyState::Active);
    assert_eq!(active.count(), 1);
}

#[test]
fn nobody_is_logged_out_while_keys_rotate_servers_restart_and_a_clock_is_30_s_ahead() {
    a_day(true);
}

#[test]
fn nor_while_it_is_30_s_behind() {
    a_day(false);
}

#[test]
fn clocks_six_minutes_apart_refuse_each_others_tokens() {
    let (mut vault, secret) = (Vault::default(), Key::generate().unwrap());
    vault.add(BEGIN.before(HOUR));
    let server = start(&vault, &secret, None, BEGIN);
    let token = server.issue("7", 7, BEGIN.after(MINUTE * 6)).unwrap();
    assert!(server.verify(&token, BEGIN).is_err());
    assert!(server.verify(&token, BEGIN.after(MINUTE * 6)).is_ok());
}

#[test]
fn a_token_names_its_key_in_full_when_asked_to_and_every_server_reads_both_names() {
    let key = Key::generate().unwrap();
    let (id, lid) = (key.id(), key.paserk_id());
    let server = |key: Key| {
        let ring = KeyRing::new(key, HOUR * 24).unwrap();
        Sessions::<u32>::new(
            ring,
            "login",
            "a",
            Policy::aal2(),
            stackbeam_session::NoRevocations,
        )
        .unwrap()
    };
    let (short, whole) = (server(key.clone()), server(key).whole_key_ids());
    let tokens = [&short, &whole].map(|server| server.issue("7", 7, BEGIN).unwrap());
    assert_eq!(paseto::untrusted_footer(&tokens[0]).unwrap(), id.as_bytes());
    let footer = format!("{{\"kid\":\"{lid}\"}}");
    assert_eq!(
        paseto::untrusted_footer(&tokens[1]).unwrap(),
        footer.as_bytes()
    );
    for token in &tokens {
        assert!(short.verify(token, BEGIN).is_ok() && whole.verify(token, BEGIN).is_ok());
    }
    // The footer is authentic: the one of the other token does not do.
    let mixed = |body: &str, footer: &str| {
        let body = body.rsplit_once('.').unwrap().0;
        let footer = footer.rsplit_once('.').unwrap().1;
        format!("{body}.{footer}")
    };
    assert!(short.verify(&mixed(&tokens[0], &tokens[1]), BEGIN).is_err());
    assert!(short.verify(&mixed(&tokens[1], &tokens[0]), BEGIN).is_err());
    let other = server(Key::generate().unwrap()).whole_key_ids();
    assert!(other.verify(&tokens[1], BEGIN).is_err());
}
