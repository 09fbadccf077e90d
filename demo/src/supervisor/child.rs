//! One child process: started with its configuration on stdin, heard on stdout, ended by signals.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::handle::{Heard, Message};
use crate::node::config::{FromNode, NodeConfig, ToNode};

/// A log file above this size is started anew when its node starts.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Orders that wait for a child to read them. A child that reads none for so long is stuck; it gets
/// the newest topology again when it restarts.
const ORDERS_MAX: usize = 256;

/// Blocks from this size on are mapped by themselves in a child: 1 MiB.
const MMAP_FROM_BYTES: &str = "1048576";

/// The program to start for a further process: this very one, also when its file has been replaced by
/// a newer build since. All processes of a run are of one build, and the guard tells its own by it.
pub(crate) fn program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let is_there = path.exists() || !Path::new(SELF).exists();
    Ok(if is_there { path } else { SELF.into() })
}

/// What Linux calls the program of whoever looks, even without a file.
const SELF: &str = "/proc/self/exe";

/// A running child. Dropping it closes its stdin, which ends it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    orders: mpsc::Sender<String>,
}

impl Running {
    /// Starts this very program as the node that `config` describes. What it says and how it ends
    /// arrives on `heard` under `(id, life)`.
    pub(crate) fn start(
        config: &NodeConfig,
        life: u64,
        logs: &Path,
        heard: &mpsc::UnboundedSender<Message>,
    ) -> std::io::Result<Self> {
        let log_path = logs.join(format!("{}.log", config.id));
        let too_long = log_path
            .metadata()
            .is_ok_and(|log| log.len() > LOG_BYTES_MAX);
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .append(!too_long)
            .truncate(too_long)
            .open(&log_path)?;
        let mut child = Command::new(program()?)
            .arg("node")
            // Only for the reader of a process list.
            .arg(&config.id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // For glibc, which else keeps what a large block took for each thread that ever had one:
            // password hashes of 7 MiB and decoded photos go back to the system when they are done.
            .env("MALLOC_ARENA_MAX", "2")
            .env("MALLOC_MMAP_THRESHOLD_", MMAP_FROM_BYTES)
            // Ctrl-C in the terminal is for the supervisor, which then ends its children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap_or(0);
        let (orders, queue) = mpsc::channel(ORDERS_MAX);
        let first = serde_json::to_string(config)?;
        orders.try_send(first).map_err(std::io::Error::other)?;
        if let Some(stdin) = child.stdin.take() {
            tokio::spawn(dictate(stdin, queue));
        }
        tokio::spawn(listen(child, config.id.clone(), life, heard.clone()));
        Ok(Self { pid, orders })
    }

    /// Sends an order. A child that is stuck misses it.
    pub(crate) fn order(&self, order: &ToNode) {
        if let Ok(line) = serde_json::to_string(order) {
            let _missed = self.orders.try_send(line);
        }
    }

    /// Sends a signal: a real one, to a real process.
    pub(crate) fn signal(&self, signal: Signal) -> std::io::Result<()> {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(std::io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, signal)?)
    }
}

/// Writes orders to the child; ends, and so closes its stdin, when there can be no more.
async fn dictate(mut stdin: tokio::process::ChildStdin, mut orders: mpsc::Receiver<String>) {
    while let Some(mut line) = orders.recv().await {
        line.push('\n');
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Hears the child out, then says how it ended.
async fn listen(mut child: Child, id: String, life: u64, heard: mpsc::UnboundedSender<Message>) {
    let say = |what| {
        let _over = heard.send(Message::Heard {
            id: id.clone(),
            life,
            what,
        });
    };
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str::<FromNode>(&line) {
                Ok(report) => say(Heard::Report(report)),
                Err(_) => tracing::warn!(id, line, "a child said what no report is"),
            }
        }
    }
    let how = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    say(Heard::Exit(how));
}
