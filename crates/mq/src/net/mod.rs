//! One queue for several processes: a [`Server`] in the process that owns the files, a [`Client`] in the others,
//! over TCP on loopback or a unix socket.
//!
//! A client reconnects by itself and sends again what was not answered. Publishes carry a dedup id (the client
//! adds one where you set none), so a publish that is sent twice is stored once. A message that a dead
//! connection had leased comes back when its lease ends.
//!
//! Bind to loopback or to a socket file with the right permissions. On loopback every user and program of the
//! machine can connect: [`Server::bind_with_secret`] serves only those that show a secret.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! use stackbeam_mq::net::{Client, Server};
//! use stackbeam_mq::{Delivery, GroupOptions, Queue, TopicOptions};
//!
//! let server = Server::bind(Queue::open(dir)?, "127.0.0.1:0".parse::<std::net::SocketAddr>()?).await?;
//!
//! let client = Client::connect(server.address().clone());
//! let photos = client.topic("photos", TopicOptions::new()).await?;
//! photos.publish("resize 17").await?;
//! let workers = photos.group("workers", GroupOptions::new()).await?;
//! for delivery in workers.take(10).await? {
//!     delivery.ack().await?;
//! }
//! # Ok(()) }
//! ```

mod client;
mod counters;
mod link;
mod server;
mod wire;

pub use client::{Client, RemoteGroup, RemoteLease, RemoteTopic};
pub use server::Server;
pub use wire::Address;
