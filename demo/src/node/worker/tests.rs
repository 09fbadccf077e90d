//! Stories about workers that die, shards that do not answer, and jobs that are lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use stackbeam_mq::worker::Outcome;
use stackbeam_mq::{Consumer, Delivery};

use super::pictures::drawn;
use super::{BEGUN_MAX, Step, Trouble, Worker};
use crate::app::id::Id;
use crate::app::store::{PhotoResult, Write};
use crate::node::now_ms;
use crate::node::objects::Format;
use crate::node::stage::Stage;

async fn begin(worker: &Worker, photo: Id) -> crate::app::store::PhotoRow {
    let start = Write::StartPhoto {
        id: photo,
        now_ms: now_ms(),
    };
    match worker
        .write(photo, Step::Start { life: worker.life }, start)
        .await
    {
        Ok(row) => row,
        Err(Trouble::Later(why) | Trouble::Never(why)) => panic!("{why}"),
    }
}

#[tokio::test]
async fn a_worker_that_dies_between_the_sizes_and_the_result_leaves_one_result_to_the_next() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let id = web.upload(&ann, drawn(500, 400, Format::Png)).await;
    let photo = Id::parse(&id).unwrap();
    let dead = stage.worker("worker-1");
    let row = begin(&dead, photo).await;
    let Ok(Ok(made)) = dead.make(&row, 1).await else {
        panic!("sizes")
    };
    let kept = || std::fs::read_dir(stage.folder("photos")).unwrap().count();
    assert_eq!((made.len(), kept()), (3, 3));
    assert_eq!(web.photo(&id).await["status"], json!("processing"));

    let next = stage.worker("worker-2");
    assert_eq!(next.handle(id.as_bytes(), 2).await, Outcome::Done);
    let photo_json = web.result(&id).await;
    assert_eq!(
        (&photo_json["status"], &photo_json["attempts"]),
        (&json!("ready"), &json!(2))
    );
    assert_eq!(kept(), 3, "the same files");

    // The first one was only very slow, and comes to another end: the first result stays.
    let late = Write::FinishPhoto {
        id: photo,
        result: PhotoResult::Failed("late".to_owned()),
        now_ms: now_ms(),
    };
    let Ok(row) = dead.write(photo, Step::Finish, late).await else {
        panic!("an answer")
    };
    assert_eq!(row.result, Some(PhotoResult::Ready(made)));
    assert_eq!(web.result(&id).await, photo_json);
    assert_eq!(next.handle(id.as_bytes(), 3).await, Outcome::Done);
    assert_eq!(next.status()["repeated"], json!(1));
}

#[tokio::test]
async fn a_job_that_one_worker_lets_fall_comes_to_another() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let id = web.upload(&ann, drawn(50, 40, Format::Png)).await;
    let jobs = stage.link().jobs();
    let mut taken = jobs.receive(std::num::NonZeroUsize::MIN).await.unwrap();
    let job = taken.pop().unwrap();
    assert_eq!(
        (job.message().body().as_ref(), job.attempt()),
        (id.as_bytes(), 1)
    );
    drop(job);
    let worker = stage.worker("worker-1");
    let pool = Arc::clone(&worker).start(jobs);
    assert_eq!(web.result(&id).await["status"], json!("ready"));
    let (stats, _) = pool.drain().await;
    assert_eq!((stats.taken, stats.done), (1, 1));
    assert_eq!(
        (&worker.status()["done"], &worker.status()["working_on"]),
        (&json!(1), &json!(null))
    );
    let status = stage.queue.as_ref().unwrap().status();
    assert_eq!(
        (&status["deliveries"], &status["depth"]),
        (&json!(2), &json!(0)),
        "{status}"
    );
}

#[tokio::test]
async fn a_shard_that_does_not_answer_is_waited_for_and_costs_the_photo_nothing() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let id = web.upload(&ann, drawn(50, 40, Format::Png)).await;
    let worker = stage.worker("worker-1");
    stage.shards_down(true);
    for attempt in 1..20 {
        assert_eq!(worker.handle(id.as_bytes(), attempt).await, Outcome::Retry);
    }
    stage.shards_down(false);
    // Down again between the beginning and the end, over and over.
    let photo = Id::parse(&id).unwrap();
    for _ in 0..2 * BEGUN_MAX {
        assert_eq!(
            begin(&worker, photo).await.attempts,
            1,
            "one life begins once"
        );
    }
    assert_eq!(worker.handle(id.as_bytes(), 20).await, Outcome::Done);
    let photo = web.result(&id).await;
    assert_eq!(
        (&photo["status"], &photo["attempts"]),
        (&json!("ready"), &json!(1))
    );
    assert_eq!(worker.status()["retried"], json!(19));
}

#[tokio::test]
async fn a_photo_that_kills_every_worker_is_given_up() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let id = web.upload(&ann, drawn(50, 40, Format::Png)).await;
    for life in 1..=BEGUN_MAX {
        let dead = stage.worker("worker-1");
        assert_eq!(begin(&dead, Id::parse(&id).unwrap()).await.attempts, life);
    }
    let worker = stage.worker("worker-1");
    assert_eq!(worker.handle(id.as_bytes(), 6).await, Outcome::Done);
    let photo = web.result(&id).await;
    assert_eq!(
        photo["error"],
        json!("5 workers have begun it and none has finished")
    );
}

#[tokio::test]
async fn a_job_that_names_no_photo_is_buried_with_the_reason() {
    let stage = Stage::new().await;
    let worker = stage.worker("worker-1");
    let unknown = Id::scattered(77).text();
    for job in [b"\xff\xfe".as_slice(), b"", b"nonsense", unknown.as_bytes()] {
        assert!(
            matches!(worker.handle(job, 1).await, Outcome::Dead(_)),
            "{job:?}"
        );
    }
    assert_eq!(worker.status()["buried"], json!(4));
}

#[tokio::test]
async fn an_upload_that_is_gone_from_the_store_fails() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let id = web.upload(&ann, drawn(50, 40, Format::Png)).await;
    for file in std::fs::read_dir(stage.folder("originals")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_eq!(
        stage.worker("worker-1").handle(id.as_bytes(), 1).await,
        Outcome::Done
    );
    assert_eq!(
        web.result(&id).await["error"],
        json!("what was uploaded is no longer there")
    );
}

#[tokio::test]
async fn a_sweep_hands_over_what_did_not_reach_the_queue_and_nothing_twice() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let known = web.upload(&ann, drawn(30, 20, Format::Png)).await;
    stage.queue_down().await;
    // Accepted all the same: the row is there, and the row is the promise.
    let lost = web.upload(&ann, drawn(31, 20, Format::Png)).await;
    stage.queue_up().await;
    let link = stage.linked().await;
    let worker = stage.worker("worker-1");
    // What was touched just now is left alone.
    worker.sweep(&link, now_ms() - 60_000).await.unwrap();
    assert_eq!(worker.counts.swept.load(Ordering::Relaxed), 0);
    for _ in 0..3 {
        worker.sweep(&link, now_ms() + 1).await.unwrap();
        assert_eq!(worker.counts.swept.load(Ordering::Relaxed), 1);
    }
    let pool = Arc::clone(&worker).start(link.jobs());
    for id in [known, lost] {
        assert_eq!(web.result(&id).await["status"], json!("ready"));
    }
    worker.sweep(&link, now_ms() + 1).await.unwrap();
    let (stats, _) = pool.drain().await;
    assert_eq!((stats.taken, stats.done), (2, 2));
}

#[tokio::test]
async fn a_second_process_on_the_queues_folder_is_kept_out() {
    let stage = Stage::new().await;
    let dir = stage.folder("..").join("queue");
    let second = crate::node::queue::QueueNode::open("queue", &dir, &stage.secrets).await;
    let refused = second.unwrap_err().to_string();
    assert!(
        refused.contains("another process has the queue"),
        "{refused}"
    );
}
