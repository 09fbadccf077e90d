//! One request of a synthetic user through the edge, and in which way it failed if it did.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

/// The longest that a person waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may lie idle. Well below the time after which the edge closes it, so that no
/// request is sent on a connection that is just being closed.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// In which way a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    /// No connection to the edge.
    Connect,
    /// The connection broke before the answer was whole.
    Reset,
    /// No answer in time.
    Timeout,
    /// 500 to 599.
    ServerError,
    /// 400 to 499 where the request was in order.
    Refused,
    /// An answer that cannot be right.
    Wrong,
}

impl Class {
    pub(crate) const ALL: [Self; 6] = [
        Self::Connect,
        Self::Reset,
        Self::Timeout,
        Self::ServerError,
        Self::Refused,
        Self::Wrong,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::ServerError => "server_error",
            Self::Refused => "refused",
            Self::Wrong => "wrong",
        }
    }
}

/// A request that failed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    pub(crate) why: String,
}

/// What a request carries.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    None,
    Json(Value),
    /// One file as `multipart/form-data`.
    File {
        name: String,
        content_type: &'static str,
        bytes: Vec<u8>,
    },
    /// These bytes, whatever they are.
    Raw {
        content_type: &'static str,
        bytes: Vec<u8>,
    },
}

/// A request to the service.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    /// The user's `position` cookie, as the service gave it.
    pub(crate) cookie: Option<String>,
    pub(crate) payload: Payload,
}

impl Ask {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            token: None,
            cookie: None,
            payload: Payload::None,
        }
    }

    pub(crate) fn post(path: impl Into<String>, payload: Payload) -> Self {
        Self {
            method: Method::POST,
            payload,
            ..Self::get(path)
        }
    }

    pub(crate) fn with_method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    pub(crate) fn with_cookie(mut self, cookie: Option<String>) -> Self {
        self.cookie = cookie;
        self
    }
}

/// An answer below 500.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: String,
    /// The `position` cookie that came with it.
    pub(crate) cookie: Option<String>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Status and the beginning of the body, for a person.
    pub(crate) fn summary(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.chars().take(200).collect();
        format!("{} {text}", self.status.as_u16())
    }
}

/// A keep-alive client of the edge. It repeats nothing by itself. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    edge: Arc<Mutex<SocketAddr>>,
    patience: Duration,
}

impl Client {
    pub(crate) fn new(edge: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(1)));
        Self {
            http: HttpClient::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_MAX)
                .retry_canceled_requests(false)
                .build(connector),
            edge: Arc::new(Mutex::new(edge)),
            patience: PATIENCE,
        }
    }

    /// The edge has moved.
    pub(crate) fn follow(&self, edge: SocketAddr) {
        *self.edge.lock() = edge;
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the request up; it may have been carried out.
    pub(crate) async fn send(&self, ask: Ask) -> Result<Answer, Failure> {
        let edge = *self.edge.lock();
        let request = build(edge, ask).map_err(|error| Failure {
            class: Class::Wrong,
            why: error.to_string(),
        })?;
        tokio::time::timeout(self.patience, self.exchange(request))
            .await
            .unwrap_or_else(|_| {
                Err(Failure {
                    class: Class::Timeout,
                    why: format!("no answer within {:?}", self.patience),
                })
            })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let response = self.http.request(request).await.map_err(|error| Failure {
            class: if error.is_connect() {
                Class::Connect
            } else {
                Class::Reset
            },
            why: chain(&error),
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| Failure {
                class: Class::Reset,
                why: format!("in the middle of the answer: {}", chain(error.as_ref())),
            })?
            .to_bytes();
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let answer = Answer {
            status: head.status,
            content_type: head
                .headers
                .get(header::CONTENT_TYPE)
                .map(text)
                .unwrap_or_default(),
            cookie: head
                .headers
                .get_all(header::SET_COOKIE)
                .iter()
                .filter_map(|value| value.to_str().ok()?.split(';').next())
                .find(|pair| pair.starts_with("position="))
                .map(str::to_owned),
            body,
        };
        if answer.status.is_server_error() {
            return Err(Failure {
                class: Class::ServerError,
                why: answer.summary(),
            });
        }
        Ok(answer)
    }
}

fn build(edge: SocketAddr, ask: Ask) -> Result<Request<Full<Bytes>>, http::Error> {
    // Between the parts of a form; any text that the file does not hold will do.
    const BOUNDARY: &str = "stackbeam-7d93c1a45e0b4f2c";
    let mut request = Request::builder()
        .method(ask.method)
        .uri(format!("http://{edge}{}", ask.path));
    if let Some(token) = ask.token {
        request = request.header(header::AUTHORIZATION, format!("Token {token}"));
    }
    if let Some(cookie) = ask.cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let (kind, body) = match ask.payload {
        Payload::None => return request.body(Full::default()),
        Payload::Json(value) => (
            "application/json".to_owned(),
            value.to_string().into_bytes(),
        ),
        Payload::Raw {
            content_type,
            bytes,
        } => (content_type.to_owned(), bytes),
        Payload::File {
            name,
            content_type,
            bytes,
        } => {
            let mut body = format!(
                "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"photo\"; \
                 filename=\"{name}\"\r\ncontent-type: {content_type}\r\n\r\n"
            )
            .into_bytes();
            body.extend_from_slice(&bytes);
            body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
            (format!("multipart/form-data; boundary={BOUNDARY}"), body)
        }
    };
    request
        .header(header::CONTENT_TYPE, kind)
        .body(Full::new(body.into()))
}

/// An error with its causes, since the outermost one alone rarely says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers one request on each connection with these bytes, then closes.
    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _read = stream.read(&mut head).await;
                let _written = stream.write_all(answer).await;
            }
        });
        addr
    }

    async fn class_of(answer: &'static [u8]) -> Class {
        let client = Client::new(server(answer).await);
        client.send(Ask::get("/")).await.unwrap_err().class
    }

    #[tokio::test]
    async fn each_way_to_fail_has_its_class() {
        assert_eq!(class_of(b"").await, Class::Reset);
        assert_eq!(
            class_of(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab").await,
            Class::Reset
        );
        assert_eq!(
            class_of(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await,
            Class::ServerError
        );
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = closed.local_addr().unwrap();
        drop(closed);
        let failure = Client::new(addr).send(Ask::get("/")).await.unwrap_err();
        assert_eq!(failure.class, Class::Connect, "{}", failure.why);
    }

    #[tokio::test]
    async fn the_position_comes_back_without_its_attributes() {
        let addr = server(
            b"HTTP/1.1 404 No\r\nset-cookie: a=b\r\nset-cookie: position=0.7; Path=/\r\n\
              content-length: 2\r\n\r\n{}",
        )
        .await;
        let answer = Client::new(addr).send(Ask::get("/")).await.unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.cookie.as_deref(), Some("position=0.7"));
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::new(listener.local_addr().unwrap());
        client.patience = Duration::from_millis(50);
        // Holds the connection open and never answers.
        tokio::spawn(async move {
            let held = listener.accept().await;
            std::future::pending::<()>().await;
            drop(held);
        });
        let failure = client.send(Ask::get("/")).await.unwrap_err();
        assert_eq!(failure.class, Class::Timeout);
    }
}
