//! Starts servers by hand and keeps them until standard input closes:
//! `cargo run -p stackbeam-test-support --bin servers -- redis postgres:2 nats`.
//!
//! Prints one line a server, its process id and its URL, then `ready`.

#![expect(clippy::print_stdout, reason = "a command speaks on standard output")]

use std::{
    env,
    error::Error,
    io::{self, Read},
};

use stackbeam_test_support::{Server, memcached, nats, nginx, postgres, redis};

fn main() -> Result<(), Box<dyn Error>> {
    let mut servers: Vec<Server> = Vec::new();
    let mut clusters = Vec::new();
    for word in env::args().skip(1) {
        let (name, count) = word.split_once(':').unwrap_or((&word, "0"));
        match name {
            "redis" => servers.push(redis::start()?),
            "memcached" => servers.push(memcached::start()?),
            "nats" => servers.push(nats::start()?),
            "nginx" => servers.push(nginx::start(|listen| {
                format!("server {{ listen {listen}; return 200 nginx; }}")
            })?),
            "postgres" => clusters.push(postgres::Cluster::start(count.parse()?)?),
            other => {
                return Err(format!(
                    "no server named {other}: redis, memcached, nats, nginx, postgres[:replicas]"
                )
                .into());
            }
        }
    }
    for server in &servers {
        println!(
            "{} {} {}",
            server.id(),
            server.url(),
            server.folder().display()
        );
    }
    for node in clusters.iter().flat_map(postgres::Cluster::nodes) {
        let server = node.server();
        println!(
            "{} {} {}",
            server.id(),
            node.url(),
            server.folder().display()
        );
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
