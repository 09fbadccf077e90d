//! Stories about one shard.

use rusqlite::Connection;

use super::*;
use crate::app::id::{Id, Slot};

fn shard() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    migrate(&db).unwrap();
    migrate(&db).unwrap();
    db
}

#[expect(
    clippy::unwrap_in_result,
    reason = "the result is the shard's answer; the rest must work"
)]
fn run(db: &mut Connection, command: &Write) -> Result<WriteReply, Refusal> {
    let tx = db.transaction().unwrap();
    let reply = write(&tx, command).unwrap();
    tx.commit().unwrap();
    reply
}

fn ask(db: &Connection, query: &Read) -> ReadReply {
    read(db, query).unwrap().unwrap()
}

fn claim(name: &str, user: u64, claim: u64, now_ms: u64) -> Claim {
    Claim {
        kind: NameKind::Username,
        name: name.to_owned(),
        user: Id(user),
        claim: Id(claim),
        now_ms,
    }
}

fn new_user(id: u64, name: &str, claim: u64) -> Write {
    Write::CreateUser(NewUser {
        id: Id(id),
        username: Held {
            name: name.to_owned(),
            claim: Id(claim),
        },
        email: Held {
            name: format!("{name}@example.org"),
            claim: Id(claim + 1),
        },
        password_hash: "hash".to_owned(),
        now_ms: 1,
    })
}

fn new_article(id: u64, author: u64, tags: &[&str]) -> Write {
    Write::CreateArticle(NewArticle {
        id: Id(id),
        author: Id(author),
        title: "A title".to_owned(),
        description: "about".to_owned(),
        body: "text".to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        now_ms: 5,
    })
}

#[test]
fn a_name_is_given_once_and_again_to_its_own_user() {
    let mut db = shard();
    assert_eq!(
        run(&mut db, &Write::ReserveName(claim("ann", 1, 10, 0))),
        Ok(WriteReply::Reserved(Id(10)))
    );
    assert_eq!(
        run(&mut db, &Write::ReserveName(claim("ann", 1, 11, 0))),
        Ok(WriteReply::Reserved(Id(10)))
    );
    assert_eq!(
        run(&mut db, &Write::ReserveName(claim("ann", 2, 20, 0))),
        Err(Refusal::Taken {
            user: Id(1),
            claim: Id(10),
            settled: false
        })
    );
    assert_eq!(
        run(
            &mut db,
            &Write::ReserveName(claim("ann", 2, 20, RESERVATION_MS + 1))
        ),
        Err(Refusal::Taken {
            user: Id(1),
            claim: Id(10),
            settled: true
        })
    );
}

#[test]
fn a_registration_whose_claim_was_abandoned_comes_too_late() {
    let mut db = shard();
    run(&mut db, &Write::ReserveName(claim("ann", 1, 10, 0))).unwrap();
    let abandon = Write::AbandonClaim {
        user: Id(1),
        kind: NameKind::Username,
        name: "ann".to_owned(),
        claim: Id(10),
        now_ms: 1,
    };
    assert_eq!(run(&mut db, &abandon), Ok(WriteReply::Done));
    assert_eq!(
        run(&mut db, &new_user(1, "ann", 10)),
        Err(Refusal::Abandoned {
            kind: NameKind::Username,
            claim: Id(10)
        })
    );
    let over = Write::TakeOverName {
        from: Id(10),
        claim: claim("ann", 2, 20, 2),
    };
    assert_eq!(run(&mut db, &over), Ok(WriteReply::Reserved(Id(20))));
    run(&mut db, &new_user(2, "ann", 20)).unwrap();
    let abandon = Write::AbandonClaim {
        user: Id(2),
        kind: NameKind::Username,
        name: "ann".to_owned(),
        claim: Id(20),
        now_ms: 3,
    };
    assert_eq!(run(&mut db, &abandon), Ok(WriteReply::StillHeld));
}

#[test]
fn a_rename_ends_the_old_claim_so_that_a_late_release_harms_nobody() {
    let mut db = shard();
    run(&mut db, &new_user(1, "ann", 10)).unwrap();
    let rename = |name: &str, claim| Write::UpdateUser {
        id: Id(1),
        changes: UserChanges {
            username: Change::Set(Held {
                name: name.to_owned(),
                claim: Id(claim),
            }),
            ..UserChanges::default()
        },
        now_ms: 2,
    };
    let Ok(WriteReply::Updated { user, freed }) = run(&mut db, &rename("bea", 30)) else {
        panic!()
    };
    assert_eq!(user.username, "bea");
    assert_eq!(
        freed,
        [(
            NameKind::Username,
            Held {
                name: "ann".to_owned(),
                claim: Id(10)
            }
        )]
    );
    assert_eq!(
        run(&mut db, &rename("ann", 10)),
        Err(Refusal::Abandoned {
            kind: NameKind::Username,
            claim: Id(10)
        })
    );
}

#[test]
fn a_refusal_changes_nothing() {
    let mut db = shard();
    run(&mut db, &new_user(1, "ann", 10)).unwrap();
    // Nobody has the follower's row, so the follow is taken back.
    assert!(
        run(
            &mut db,
            &Write::Follow {
                follower: Id(9),
                followee: Id(1),
                now_ms: 0
            }
        )
        .is_err()
    );
    assert_eq!(ask(&db, &Read::Followees(Id(9))), ReadReply::Ids(vec![]));
}

#[test]
fn counters_are_right_at_once() {
    let mut db = shard();
    run(&mut db, &new_user(1, "ann", 10)).unwrap();
    let id = Id::at(1_800_000_000_000, 0, Slot(1)).0;
    run(&mut db, &new_article(id, 1, &["x", "y"])).unwrap();
    run(&mut db, &new_article(id, 1, &["x", "y"])).unwrap();
    for _ in 0..2 {
        let on = Write::Favorite {
            article: Id(id),
            user: Id(7),
            on: true,
            now_ms: 6,
        };
        let Ok(WriteReply::Article(row)) = run(&mut db, &on) else {
            panic!()
        };
        assert_eq!((row.favorited, row.favorites), (true, 1));
    }
    let all = |filter| Read::Articles {
        filter,
        viewer: None,
        first: 10,
    };
    for filter in [
        Filter::Global {
            tag: None,
            author: None,
            favorited: None,
        },
        Filter::Global {
            tag: Some("x".to_owned()),
            author: Some(Id(1)),
            favorited: Some(Id(7)),
        },
        Filter::By(vec![Id(1), Id(2)]),
    ] {
        let ReadReply::Articles { articles, count } = ask(&db, &all(filter)) else {
            panic!()
        };
        assert_eq!((articles.len(), count), (1, 1));
        assert_eq!(articles[0].tags, ["x", "y"]);
        assert_eq!(articles[0].body, "");
    }
    assert_eq!(
        run(
            &mut db,
            &Write::DeleteArticle {
                id: Id(id),
                actor: Id(2)
            }
        ),
        Err(Refusal::Forbidden(Thing::Article))
    );
    run(
        &mut db,
        &Write::DeleteArticle {
            id: Id(id),
            actor: Id(1),
        },
    )
    .unwrap();
    assert_eq!(ask(&db, &Read::Tags), ReadReply::Tags(vec![]));
    let nothing = ReadReply::Articles {
        articles: vec![],
        count: 0,
    };
    assert_eq!(ask(&db, &all(Filter::By(vec![Id(1)]))), nothing);
}

#[test]
fn a_photo_has_one_result_however_often_it_is_finished() {
    let mut db = shard();
    run(&mut db, &new_user(1, "ann", 10)).unwrap();
    let photo = NewPhoto {
        id: Id(5),
        owner: Id(1),
        original: "a.png".to_owned(),
        for_profile: true,
        now_ms: 0,
    };
    run(&mut db, &Write::CreatePhoto(photo)).unwrap();
    run(
        &mut db,
        &Write::StartPhoto {
            id: Id(5),
            now_ms: 1,
        },
    )
    .unwrap();
    run(
        &mut db,
        &Write::StartPhoto {
            id: Id(5),
            now_ms: 2,
        },
    )
    .unwrap();
    let variant = |file: &str| Variant {
        file: file.to_owned(),
        width: 1,
        height: 1,
    };
    let ready = PhotoResult::Ready(vec![variant("1.png"), variant("2.png")]);
    for result in [ready.clone(), PhotoResult::Failed("late".to_owned())] {
        let finish = Write::FinishPhoto {
            id: Id(5),
            result,
            now_ms: 3,
        };
        let Ok(WriteReply::Photo(row)) = run(&mut db, &finish) else {
            panic!()
        };
        assert_eq!((row.attempts, row.result.as_ref()), (2, Some(&ready)));
    }
    let ReadReply::Users(users) = ask(&db, &Read::Users(vec![Id(1)])) else {
        panic!()
    };
    assert_eq!(users[0].image.as_deref(), Some("/photos/2.png"));
}
