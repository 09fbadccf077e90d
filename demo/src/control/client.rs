//! Talking to the control API of a run: for the command line and the drills.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

use super::admit::TOKEN_HEADER;
use super::run_file::RunFile;
use crate::supervisor::Snapshot;
use crate::supervisor::events::Event;

/// The longest that the control API may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a command did not reach a run, or was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("no run was found; start one with `stackbeam up`")]
    NoRun,
    #[error("there is no run with its page at port {port}; {}", known(ports))]
    NoRunAt { port: u16, ports: Vec<u16> },
    #[error("several runs were found, with their pages at ports {0:?}; say which with --port")]
    Several(Vec<u16>),
    #[error("the run at {addr} does not answer: {reason}")]
    Unreachable { addr: SocketAddr, reason: String },
    #[error("{0}")]
    Refused(String),
}

fn known(ports: &[u16]) -> String {
    match ports {
        [] => "nor anywhere else".to_owned(),
        ports => format!("there is at {ports:?}"),
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
            .header(TOKEN_HEADER, &self.run.token)
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
            if !status.is_success() {
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
