//! Finding a run and talking to its control API: for the command line and the drills.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::supervisor::Snapshot;
use crate::supervisor::events::Event;

/// The longest that the control API may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a run can be reached; one file a run, readable by its owner alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunFile {
    pub(crate) control: SocketAddr,
    pub(crate) token: String,
    pub(crate) pid: u32,
}

/// Why a command did not reach a run, or was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("no run was found; start one with `stackbeam up`")]
    NoRun,
    #[error("several runs were found, at control ports {0:?}; say which with --port")]
    Several(Vec<u16>),
    #[error("the run at {addr} does not answer: {reason}")]
    Unreachable { addr: SocketAddr, reason: String },
    #[error("{0}")]
    Refused(String),
}

impl RunFile {
    fn folder() -> PathBuf {
        let base =
            std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        base.join(format!(
            "stackbeam-runs-{}",
            rustix::process::getuid().as_raw()
        ))
    }

    fn path(&self) -> PathBuf {
        Self::folder().join(format!("{}.json", self.control.port()))
    }

    /// Makes the run findable.
    pub(crate) fn write(&self) -> std::io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(Self::folder())?;
        let text = serde_json::to_vec(self)?;
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(self.path())?
            .write_all(&text)
    }

    /// Removes the file, and the folder when it was the last one in it.
    pub(crate) fn remove(&self) {
        let _gone = std::fs::remove_file(self.path());
        let _others = std::fs::remove_dir(Self::folder());
    }

    /// The run at `port`, or the only one there is. Files of runs that were killed are swept away.
    pub(crate) fn find(port: Option<u16>) -> Result<Self, ControlError> {
        let mut runs: Vec<Self> = std::fs::read_dir(Self::folder())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
            .collect();
        runs.retain(|run| {
            let alive = i32::try_from(run.pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
                .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
            if !alive {
                run.remove();
            }
            alive && port.is_none_or(|port| port == run.control.port())
        });
        if runs.len() > 1 {
            return Err(ControlError::Several(
                runs.iter().map(|run| run.control.port()).collect(),
            ));
        }
        runs.pop().ok_or(ControlError::NoRun)
    }
}

/// Talks to one run.
#[derive(Clone, Debug)]
pub(crate) struct ControlClient {
    run: RunFile,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl ControlClient {
    pub(crate) fn new(run: RunFile) -> Self {
        Self {
            run,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    pub(crate) async fn status(&self) -> Result<Snapshot, ControlError> {
        self.json("/api/status").await
    }

    pub(crate) async fn events(&self, after: u64) -> Result<Vec<Event>, ControlError> {
        self.json(&format!("/api/events?after={after}")).await
    }

    /// Sends an order such as `/api/nodes/web-1/kill`.
    pub(crate) async fn order(&self, path: &str) -> Result<(), ControlError> {
        self.call(Method::POST, path).await.map(|_| ())
    }

    async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        let body = self.call(Method::GET, path).await?;
        serde_json::from_slice(&body).map_err(|error| ControlError::Unreachable {
            addr: self.run.control,
            reason: error.to_string(),
        })
    }

    async fn call(&self, method: Method, path: &str) -> Result<Bytes, ControlError> {
        let addr = self.run.control;
        let lost = |reason: String| ControlError::Unreachable { addr, reason };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{addr}{path}"))
            .header(super::TOKEN_HEADER, &self.run.token)
            .body(Full::default())
            .map_err(|error| lost(error.to_string()))?;
        let answer = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| lost(error.to_string()))?;
            let status = response.status();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(|error| lost(error.to_string()))?
                .to_bytes();
            if status == StatusCode::CONFLICT || status.is_client_error() {
                let why = String::from_utf8_lossy(&body).trim().to_owned();
                return Err(ControlError::Refused(why));
            }
            Ok(body)
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .map_err(|_| lost("it took too long".to_owned()))?
    }
}
