//! Two servers with one key: log in on one, be known on the other, log out everywhere.
//!
//! `cargo run --example alone`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use stackbeam_session::{Key, KeyRing, MemoryRevocations, Policy, Sessions, Timestamp};

type Server = (
    Sessions<String, Arc<MemoryRevocations>>,
    Arc<MemoryRevocations>,
);

fn server(key: &Key, policy: Policy) -> Result<Server, Box<dyn Error>> {
    let revocations = Arc::new(MemoryRevocations::new(key, policy.absolute())?);
    let ring = KeyRing::new(key.clone(), policy.absolute())?;
    let sessions = Sessions::new(
        ring,
        "login",
        "example.org",
        policy,
        Arc::clone(&revocations),
    )?;
    Ok((sessions, revocations))
}

fn main() -> Result<(), Box<dyn Error>> {
    let key = Key::generate()?;
    let ((a, revoke_at_a), (b, revoke_at_b)) =
        (server(&key, Policy::aal2())?, server(&key, Policy::aal2())?);

    let now = Timestamp::now();
    let token = a.issue("user-42", "dark theme".to_owned(), now)?;
    println!("{} characters: {}…", token.len(), &token[..24]);
    let verified = b.verify(&token, now)?;
    println!(
        "server b: {} likes a {}",
        verified.claims.subject, verified.claims.data
    );

    // Half an hour later the token is made anew, on whichever server is asked.
    let later = now.after(Duration::from_secs(1800));
    let verified = b.verify(&token, later)?;
    println!("renew after half an hour: {}", verified.renew);
    let renewed = b.renew(verified.claims, later)?;

    // The message goes to the other servers over any bus; here, by hand.
    let message = revoke_at_a.revoke_subject("user-42", later)?;
    println!(
        "server b, before the message: {:?}",
        b.verify(&renewed, later).map(|_| "in")
    );
    revoke_at_b.apply(&message, later)?;
    println!(
        "server b, after it: {:?}",
        b.verify(&renewed, later).map(|_| "in")
    );
    Ok(())
}
