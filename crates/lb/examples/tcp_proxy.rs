//! A TCP proxy in front of two servers, one of which dies: `cargo run --example tcp_proxy --features tokio`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example is a shell that prints"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stackbeam_lb::{Balancer, Config, Endpoint, Outcome, PeakEwma, TwoChoices};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that says its name to everybody who connects.
async fn server(name: &'static str) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _gone = stream.write_all(name.as_bytes()).await;
        }
    });
    Ok((addr, task))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (a, a_task) = server("a").await?;
    let (b, _b_task) = server("b").await?;
    let balancer = Balancer::new(TwoChoices::new(PeakEwma, 1), Config::default());
    balancer.set_endpoints(
        [Endpoint::new("a", a), Endpoint::new("b", b)],
        Instant::now(),
    );
    let mut answers = String::new();
    for round in 0..40 {
        if round == 20 {
            a_task.abort();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut tried: Vec<String> = Vec::new();
        loop {
            let tried_ids: Vec<&str> = tried.iter().map(String::as_str).collect();
            let lease = balancer.pick_except(&tried_ids, Instant::now())?;
            let mut said = String::new();
            let asked = async {
                TcpStream::connect(*lease.target())
                    .await?
                    .read_to_string(&mut said)
                    .await
            };
            if asked.await.is_ok() && !said.is_empty() {
                lease.report(Outcome::Success, Instant::now());
                answers.push_str(&said);
                break;
            }
            tried.push(lease.id().to_owned());
            lease.report(Outcome::Failure, Instant::now());
        }
    }
    println!("40 requests, 40 answers, one server died after 20: {answers}");
    Ok(())
}
