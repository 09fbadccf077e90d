//! Stories about logging out on several web servers.

use http::StatusCode;
use serde_json::{Value, json};

use crate::node::stage::{Api, Stage};
use crate::node::web::Source;

async fn user(web: &Api, token: &str) -> StatusCode {
    web.get("/api/user", token).await.status
}

async fn login(web: &Api, name: &str) -> String {
    let user = json!({"user": {"email": format!("{name}@example.org"), "password": "long enough"}});
    let answer = web.post("/api/users/login", "", &user).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["user"]["token"].as_str().unwrap().to_owned()
}

async fn logout(web: &Api, token: &str) -> StatusCode {
    web.post("/api/users/logout", token, &Value::Null)
        .await
        .status
}

#[tokio::test]
async fn a_logout_ends_the_session_on_every_server_at_once_and_no_other_session() {
    let mut stage = Stage::new().await;
    let (first, source) = stage.web("web-1").await;
    let (second, _) = stage.web("web-2").await;
    assert_eq!(source, Source::Queue);
    let here = first.register("ann").await;
    let elsewhere = login(&second, "ann").await;
    let bob = second.register("bob").await;
    for round in 0..3 {
        let doomed = login(&first, "ann").await;
        assert_eq!(user(&second, &doomed).await, StatusCode::OK);
        assert_eq!(logout(&first, &doomed).await, StatusCode::NO_CONTENT);
        for web in [&first, &second] {
            assert_eq!(
                user(web, &doomed).await,
                StatusCode::UNAUTHORIZED,
                "round {round}"
            );
        }
        // Whoever asks for it a second time has what was asked for.
        assert_eq!(logout(&second, &doomed).await, StatusCode::NO_CONTENT);
    }
    for token in [&here, &elsewhere, &bob] {
        for web in [&first, &second] {
            assert_eq!(user(web, token).await, StatusCode::OK);
        }
    }
    for token in ["", "x", &here[..here.len() - 3]] {
        assert_eq!(logout(&first, token).await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn without_the_queue_logins_and_reads_go_on_and_a_logout_changes_nothing() {
    let mut stage = Stage::new().await;
    let (first, _) = stage.web("web-1").await;
    let (second, _) = stage.web("web-2").await;
    let ann = first.register("ann").await;
    stage.queue_down().await;
    assert_eq!(logout(&first, &ann).await, StatusCode::SERVICE_UNAVAILABLE);
    for web in [&first, &second] {
        assert_eq!(user(web, &ann).await, StatusCode::OK);
    }
    login(&second, "ann").await;
    // It comes back on another port, and is found.
    stage.queue_up().await;
    let status = loop {
        match logout(&first, &ann).await {
            StatusCode::SERVICE_UNAVAILABLE => {}
            status => break status,
        }
    };
    assert_eq!(status, StatusCode::NO_CONTENT);
    let gone = async {
        // The other server finds the queue on its own time; from then on it is at once.
        while user(&second, &ann).await != StatusCode::UNAUTHORIZED {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::node::stage::PATIENCE, gone)
        .await
        .unwrap();
    assert_eq!(user(&first, &ann).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_server_that_starts_later_knows_who_has_logged_out() {
    let mut stage = Stage::new().await;
    let (first, _) = stage.web("web-1").await;
    let ann = first.register("ann").await;
    let mut doomed = Vec::new();
    for _ in 0..5 {
        doomed.push(login(&first, "ann").await);
        assert_eq!(
            logout(&first, doomed.last().unwrap()).await,
            StatusCode::NO_CONTENT
        );
    }
    // Of the queue's own process nothing is left but its folder.
    stage.queue_down().await;
    stage.queue_up().await;
    let (second, source) = stage.web("web-2").await;
    assert_eq!(source, Source::Queue);
    // Without the queue, another web server tells.
    stage.queue_down().await;
    let (third, source) = stage.web("web-3").await;
    assert_eq!(source, Source::Server);
    for web in [&second, &third] {
        for token in &doomed {
            assert_eq!(user(web, token).await, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(user(web, &ann).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_server_that_can_ask_nobody_does_not_serve() {
    let mut stage = Stage::new().await;
    stage.queue_down().await;
    let alone = tokio::time::timeout(std::time::Duration::from_millis(1_500), stage.web("web-1"));
    assert!(
        alone.await.is_err(),
        "it serves without knowing who has logged out"
    );
}
