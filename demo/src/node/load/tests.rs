//! The generator and the checker against a web server in this process.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::check::{Findings, check, check_once};
use super::client::{Ask, Client, Payload};
use super::generator::{Pace, drive};
use super::ledger::{self, Deed, Expected, Known, Ledger};
use super::record::Recorder;
use super::words::Draft;
use super::world::World;
use crate::node::web::alone;

/// Users of a web server over two shards in memory, and the folder of their ledger.
async fn world() -> (Arc<World>, TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, alone(2)).await });
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(&super::ledger_path(folder.path()), "k3f9").unwrap();
    let recorder = Recorder::new(Instant::now(), true);
    let world = Arc::new(World::new(client, ledger, recorder, 2, 1));
    world.settle(&[], 4).await.unwrap();
    (world, folder)
}

fn expected(folder: &TempDir) -> Expected {
    let lines = ledger::read(&super::ledger_path(folder.path())).unwrap();
    Expected::of(&lines)
}

async fn drive_for(world: &Arc<World>, time: Duration) {
    let pace = Pace {
        per_second: 100,
        pulse: Some((2, Duration::from_millis(100))),
        seed: 3,
    };
    let (_crowds, none) = mpsc::unbounded_channel();
    drive(world, &pace, none, tokio::time::sleep(time))
        .await
        .unwrap();
}

async fn findings(world: &World, folder: &TempDir) -> Findings {
    check(&world.client, &expected(folder)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_users_do_is_found_again_and_what_is_taken_away_is_missed() {
    let (world, folder) = world().await;
    drive_for(&world, Duration::from_secs(2)).await;
    let totals = world.recorder.totals();
    assert!(totals.ok > 200, "{totals:?}");
    // Photos have a service of their own.
    let reasons: Vec<String> = world
        .recorder
        .reasons()
        .into_iter()
        .filter(|why| !why.contains("upload"))
        .collect();
    assert_eq!(reasons, Vec::<String>::new());
    let before = expected(&folder);
    assert_eq!(before.acked, totals.acked);
    assert!(!before.comments.is_empty() && !before.follows.is_empty());
    let found = findings(&world, &folder).await;
    assert_eq!(found.lost, Vec::<String>::new());
    assert!(found.is_clean(), "{found:?}");
    assert!(found.checked > 60, "{}", found.checked);

    // Now something goes wrong behind the ledger's back.
    let victim = before
        .articles
        .iter()
        .find(|article| article.known == Known::Acked)
        .unwrap();
    let author = world.crowd.lock().named(&victim.by).unwrap();
    let send = |ask: Ask| {
        let client = world.client.clone();
        let token = author.token();
        async move { client.send(ask.with_token(token)).await.unwrap() }
    };
    let delete = Ask::get(format!("/api/articles/{}", victim.slug)).with_method(Method::DELETE);
    assert!(send(delete).await.status.is_success());
    let twin = before
        .articles
        .iter()
        .find(|article| article.by == victim.by && article.n != victim.n)
        .unwrap();
    let again = Draft::new("k3f9", twin.n).request();
    let again = Ask::post("/api/articles", Payload::Json(again));
    assert!(send(again).await.status.is_success());
    // Readers without a position may get an answer that was right half a second ago.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let found = check_once(&world.client, &expected(&folder)).await;
    // By its address, in its author's list, and with it whatever others said about it.
    assert!(found.lost.len() >= 2, "{found:?}");
    assert!(found.lost.iter().all(|lost| lost.contains(&victim.slug)));
    assert_eq!(found.duplicated.len(), 1, "{found:?}");
    assert!(found.duplicated[0].contains(&twin.slug), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_nothing_stands_behind_is_a_loss() {
    let (world, folder) = world().await;
    let by = world.crowd.lock().everybody()[0].name.clone();
    let n = world
        .ledger
        .attempt(|_| Deed::Article { by: by.clone() })
        .unwrap();
    world
        .ledger
        .acknowledge(n, "bridge-seen-as-k3f9-0-0000000000001")
        .unwrap();
    let found = check_once(&world.client, &expected(&folder)).await;
    assert_eq!(
        found.lost.len(),
        2,
        "by its address and in the list: {found:?}"
    );
    // What was never acknowledged is nobody's loss.
    let (world, folder) = self::world().await;
    world.ledger.attempt(|_| Deed::Article { by }).unwrap();
    assert!(findings(&world, &folder).await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_an_earlier_life_come_back_and_their_names_are_not_used_again() {
    let (world, folder) = world().await;
    let before: Vec<String> = world
        .crowd
        .lock()
        .everybody()
        .iter()
        .map(|person| person.name.clone())
        .collect();
    let client = world.client.clone();
    drop(world);
    let (ledger, known) = Ledger::open(&super::ledger_path(folder.path()), "other").unwrap();
    let recorder = Recorder::new(Instant::now(), true);
    let again = Arc::new(World::new(client, ledger, recorder, 2, 2));
    again.settle(&known, 6).await.unwrap();
    let crowd = again.crowd.lock();
    assert_eq!(crowd.len(), 6);
    for name in before {
        assert!(crowd.named(&name).is_some(), "{name}");
    }
}

/// A server that acknowledges every article and has none of them.
async fn liar() -> Client {
    use axum::routing::{get, post};
    let user = || async {
        (
            http::StatusCode::CREATED,
            axum::Json(json!({ "user": {
                "username": "x", "token": "t"
            }})),
        )
    };
    let mut number = 0_u64;
    let numbers = Arc::new(parking_lot::Mutex::new(move || {
        number += 1;
        number
    }));
    let router = axum::Router::new()
        .route("/api/users", post(user))
        .route(
            "/api/articles",
            post(move |axum::Json(sent): axum::Json<Value>| {
                let id = crate::app::id::Id((numbers.lock())());
                let mut article = sent["article"].clone();
                article["slug"] = crate::app::slug::slug("x", id).into();
                async move { axum::Json(json!({ "article": article })) }
            }),
        )
        .route("/api/user", get(|| async { axum::Json(json!({})) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_its_writer_does_not_see_is_a_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(&super::ledger_path(folder.path()), "k3f9").unwrap();
    let recorder = Recorder::new(Instant::now(), true);
    let world = Arc::new(World::new(liar().await, ledger, recorder, 2, 1));
    world.settle(&[], 2).await.unwrap();
    drive_for(&world, Duration::from_millis(500)).await;
    let wrong: Vec<String> = world
        .recorder
        .reasons()
        .into_iter()
        .filter(|why| why.starts_with("own article: wrong"))
        .collect();
    assert!(!wrong.is_empty(), "{:?}", world.recorder.reasons());
}
