//! For tests: a small run in this process. The queue and the web servers' peer routes are served on
//! real sockets, the shards are in memory, and the API is called directly.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::config::{NodeInfo, NodeState, Role, Secrets, Topology};
use super::objects::Objects;
use super::peer::PeerClient;
use super::queue::QueueNode;
use super::queue::link::QueueLink;
use super::shards::Shards;
use super::shards::local::Local;
use super::web::{self, Source};
use super::worker::Worker;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    dir: tempfile::TempDir,
    pub(crate) secrets: Secrets,
    pub(crate) local: Arc<Local>,
    topology: watch::Sender<Arc<Topology>>,
    pub(crate) queue: Option<Arc<QueueNode>>,
    serving: Vec<(String, JoinHandle<()>)>,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let mut stage = Self {
            dir: tempfile::tempdir().unwrap(),
            secrets: Secrets {
                token_key: "9f2c51d07be84a3364c1f0a8d95e7b123c6a08f4e7519d2bb04f86c2a1d37e55"
                    .to_owned(),
                peer: "only for peers".to_owned(),
            },
            local: Arc::new(Local::new(3).unwrap()),
            topology: watch::Sender::new(Arc::default()),
            queue: None,
            serving: Vec::new(),
        };
        stage.queue_up().await;
        stage
    }

    async fn join(&mut self, id: &str, role: Role, router: Router) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = NodeInfo {
            id: id.to_owned(),
            role,
            addr: listener.local_addr().unwrap(),
            shard: None,
            state: NodeState::Live,
        };
        self.topology.send_modify(|topology| {
            let mut new = Topology::clone(topology);
            new.nodes.retain(|node| node.id != id);
            new.nodes.push(node);
            new.version += 1;
            *topology = Arc::new(new);
        });
        let served = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        self.serving.push((id.to_owned(), served));
    }

    /// The queue's process starts, on the folder that it had.
    pub(crate) async fn queue_up(&mut self) {
        let dir = self.dir.path().join("queue");
        std::fs::create_dir_all(&dir).unwrap();
        let node = Arc::new(QueueNode::open("queue", &dir, &self.secrets).await.unwrap());
        self.queue = Some(Arc::clone(&node));
        let routes = node.routes(&self.secrets.peer);
        self.join("queue", Role::Queue, routes).await;
    }

    /// The queue's process ends.
    pub(crate) async fn queue_down(&mut self) {
        let (gone, rest) = std::mem::take(&mut self.serving)
            .into_iter()
            .partition(|(id, _)| id == "queue");
        self.serving = rest;
        for (_, served) in gone {
            served.abort();
            let _ended = served.await;
        }
        let mut node = self.queue.take().unwrap();
        // A request under way has it for a moment.
        while let Err(shared) = Arc::try_unwrap(node) {
            node = shared;
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn shards(&self) -> Shards {
        Shards::Local(Arc::clone(&self.local))
    }

    pub(crate) fn shards_down(&self, down: bool) {
        self.local.down.store(down, Ordering::Relaxed);
    }

    pub(crate) fn objects(&self, id: &str) -> Objects {
        Objects::open(&self.dir.path().join("objects"), id).unwrap()
    }

    pub(crate) fn folder(&self, of: &str) -> std::path::PathBuf {
        self.dir.path().join("objects").join(of)
    }

    pub(crate) fn link(&self) -> QueueLink {
        QueueLink::follow(
            self.topology.subscribe(),
            PeerClient::new(&self.secrets.peer),
            &self.secrets.peer,
        )
    }

    /// A link that has found the queue.
    pub(crate) async fn linked(&self) -> QueueLink {
        let link = self.link();
        let found = async {
            while !link.is_found() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap();
        link
    }

    /// A web server starts; also says where it had its ended sessions from.
    pub(crate) async fn web(&mut self, id: &str) -> (Api, Source) {
        let (link, topology) = (self.link(), self.topology.subscribe());
        let started = web::in_run(
            id,
            self.shards(),
            self.objects(id),
            link,
            &self.secrets,
            &topology,
        );
        let (router, source) = tokio::time::timeout(PATIENCE, started).await.unwrap();
        self.join(id, Role::Web, router.clone()).await;
        (Api(router), source)
    }

    pub(crate) fn worker(&self, id: &str) -> Arc<Worker> {
        Arc::new(Worker::new(id, self.shards(), self.objects(id)).unwrap())
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// The API of one web server.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Router);

impl Api {
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let answered = self.0.clone().oneshot(request);
        let response = tokio::time::timeout(PATIENCE, answered)
            .await
            .unwrap()
            .unwrap();
        let (head, body) = response.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: to_bytes(body, 64 << 20).await.unwrap(),
        }
    }

    /// Sends a request with these headers; an empty token is left out.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Token {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, &[], Body::empty())
            .await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        self.call(Method::POST, path, token, &json, body.to_string())
            .await
    }

    /// Registers a user; returns the token.
    pub(crate) async fn register(&self, name: &str) -> String {
        let user = json!({"user": {
            "username": name, "email": format!("{name}@example.org"), "password": "long enough"
        }});
        let answer = self.post("/api/users", "", &user).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.json()["user"]["token"].as_str().unwrap().to_owned()
    }

    /// Uploads; returns the photo's id.
    pub(crate) async fn upload(&self, token: &str, image: Vec<u8>) -> String {
        let answer = self
            .call(Method::POST, "/api/photos", token, &[], image)
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.json()["photo"]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn photo(&self, id: &str) -> Value {
        let answer = self.get(&format!("/api/photos/{id}"), "").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()["photo"].clone()
    }

    /// Waits until a photo has a result.
    pub(crate) async fn result(&self, id: &str) -> Value {
        let result = async {
            loop {
                let photo = self.photo(id).await;
                if ["ready", "failed"].contains(&photo["status"].as_str().unwrap()) {
                    return photo;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, result)
            .await
            .expect("a result")
    }
}
