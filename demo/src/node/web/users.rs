//! Registration, login, profiles and following.

use axum::Json;
use axum::extract::Path;
use http::StatusCode;
use serde_json::{Value, json};

use super::body::JsonBody;
use super::call::{Call, unexpected};
use super::fault::Fault;
use crate::app::id::Id;
use crate::app::input::{Fields, Lines, fault};
use crate::app::store::{
    Author, Change, Claim, Held, NameKind, NewUser, Read, ReadReply, Refusal, Thing, UserChanges,
    UserRow, Write, WriteReply,
};

/// Numbers of the commands of one request, so that a repeated request repeats their ids.
mod step {
    pub(super) const USERNAME: u64 = 10;
    pub(super) const EMAIL: u64 = 20;
    pub(super) const USER: u64 = 30;
    pub(super) const FOLLOW: u64 = 40;
}

/// How often a name is fought for before the client is told that it is taken.
const TRIES_MAX: u64 = 2;

const URL_CHARS_MAX: usize = 2_000;
const BIO_CHARS_MAX: usize = 10_000;

fn user_json(call: &Call, user: &UserRow) -> Result<Json<Value>, Fault> {
    let token = call.web.auth.issue(user.id)?;
    Ok(Json(json!({ "user": {
        "email": user.email, "token": token, "username": user.username,
        "bio": user.bio, "image": user.image,
    }})))
}

/// A user as others see it.
pub(super) fn profile_json(author: &Author, following: bool) -> Value {
    json!({
        "username": author.username, "bio": author.bio, "image": author.image,
        "following": following,
    })
}

pub(super) async fn find(call: &Call, id: Id) -> Result<Option<UserRow>, Fault> {
    match call.read(call.home(id), Read::Users(vec![id])).await? {
        ReadReply::Users(users) => Ok(users.into_iter().next()),
        other => Err(unexpected(other)),
    }
}

/// The user who has this name: the directory says whom to ask, the user's own row has the last word.
pub(super) async fn find_by_name(
    call: &Call,
    kind: NameKind,
    name: &str,
) -> Result<Option<UserRow>, Fault> {
    let query = Read::Name {
        kind,
        name: name.to_owned(),
    };
    let ReadReply::Name(id) = call.read(call.directory(kind, name), query).await? else {
        return Err(Fault::Unavailable(
            "an answer of another version".to_owned(),
        ));
    };
    let Some(id) = id else { return Ok(None) };
    Ok(find(call, id).await?.filter(|user| {
        name == match kind {
            NameKind::Username => &user.username,
            NameKind::Email => &user.email,
        }
    }))
}

async fn by_username(call: &Call, username: &str) -> Result<UserRow, Fault> {
    find_by_name(call, NameKind::Username, username)
        .await?
        .ok_or(Fault::NotFound(Thing::User))
}

/// The user that a valid token names.
async fn current(call: &Call) -> Result<UserRow, Fault> {
    find(call, call.user()?)
        .await?
        .ok_or_else(|| Fault::BadToken("its user does not exist".to_owned()))
}

/// Reserves a name in the directory, and clears a dead claim out of the way if there is one.
async fn reserve(
    call: &Call,
    kind: NameKind,
    name: &str,
    user: Id,
    first_step: u64,
) -> Result<Held, Fault> {
    let directory = call.directory(kind, name);
    let claim = Claim {
        kind,
        name: name.to_owned(),
        user,
        claim: Id::scattered(call.chance(first_step)),
        now_ms: call.now_ms,
    };
    let mut command = Write::ReserveName(claim.clone());
    for round in 0..TRIES_MAX {
        let step = first_step + 2 * round;
        match call.write(directory, step, command).await? {
            Ok(WriteReply::Reserved(claim)) => {
                return Ok(Held {
                    name: name.to_owned(),
                    claim,
                });
            }
            Err(Refusal::Taken {
                user: other,
                claim: held,
                settled: true,
            }) => {
                // A rename or a registration that died may have left the name behind.
                let theirs = call
                    .read_now(call.home(other), Read::Users(vec![other]))
                    .await?;
                let holds = matches!(&theirs, ReadReply::Users(users) if users.iter().any(|user| {
                    name == match kind {
                        NameKind::Username => &user.username,
                        NameKind::Email => &user.email,
                    }
                }));
                if holds {
                    return Err(Fault::Taken(kind.as_str()));
                }
                let abandon = Write::AbandonClaim {
                    user: other,
                    kind,
                    name: name.to_owned(),
                    claim: held,
                    now_ms: call.now_ms,
                };
                match call.write(call.home(other), step + 1, abandon).await?? {
                    WriteReply::Done => {}
                    _ => return Err(Fault::Taken(kind.as_str())),
                }
                command = Write::TakeOverName {
                    from: held,
                    claim: claim.clone(),
                };
            }
            Err(Refusal::Taken { .. }) => return Err(Fault::Taken(kind.as_str())),
            Err(refusal) => return Err(refusal.into()),
            Ok(other) => return Err(unexpected(other)),
        }
    }
    Err(Fault::Taken(kind.as_str()))
}

/// Gives a reserved name back after all. If it does not work out, the next who wants it clears it.
async fn give_back(call: &Call, kind: NameKind, held: &Held, step: u64) {
    let command = Write::ReleaseName {
        kind,
        name: held.name.clone(),
        claim: held.claim,
    };
    if let Err(fault) = call
        .write(call.directory(kind, &held.name), step, command)
        .await
    {
        tracing::warn!(?fault, "a name stays reserved until somebody wants it");
    }
}

async fn confirm(call: &Call, kind: NameKind, held: &Held, step: u64) {
    let command = Write::ConfirmName {
        kind,
        name: held.name.clone(),
        claim: held.claim,
    };
    if let Err(fault) = call
        .write(call.directory(kind, &held.name), step, command)
        .await
    {
        tracing::warn!(
            ?fault,
            "a name is used but not confirmed; its user's row tells"
        );
    }
}

pub(super) async fn register(
    call: Call,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let mut fields = Fields::parse(&body, "user")?;
    let username = fields.username("username");
    let username = fields.demand("username", username);
    let email = fields.email("email");
    let email = fields.demand("email", email);
    let password = fields.password("password");
    let password = fields.demand("password", password);
    fields.finish()?;
    let id = Id::scattered(call.chance(step::USER));
    // Names first: who loses them need not wait for the hash.
    let username = reserve(&call, NameKind::Username, &username, id, step::USERNAME).await?;
    let email = match reserve(&call, NameKind::Email, &email, id, step::EMAIL).await {
        Ok(email) => email,
        Err(fault) => {
            give_back(&call, NameKind::Username, &username, step::USERNAME + 8).await;
            return Err(fault);
        }
    };
    let password_hash = call.web.auth.hash(password).await?;
    let create = Write::CreateUser(NewUser {
        id,
        username: username.clone(),
        email: email.clone(),
        password_hash,
        now_ms: call.now_ms,
    });
    let user = match call.write(call.home(id), step::USER, create).await?? {
        WriteReply::User(user) => user,
        other => return Err(unexpected(other)),
    };
    tokio::join!(
        confirm(&call, NameKind::Username, &username, step::USERNAME + 9),
        confirm(&call, NameKind::Email, &email, step::EMAIL + 9),
    );
    Ok((StatusCode::CREATED, user_json(&call, &user)?))
}

pub(super) async fn login(call: Call, JsonBody(body): JsonBody) -> Result<Json<Value>, Fault> {
    let mut fields = Fields::parse(&body, "user")?;
    let email = fields.required("email", 254, Lines::One).to_lowercase();
    let password = fields.required("password", 256, Lines::One);
    fields.finish()?;
    let user = find_by_name(&call, NameKind::Email, &email).await?;
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    let right = call.web.auth.matches(password, hash).await?;
    match user {
        Some(user) if right => user_json(&call, &user),
        _ => Err(Fault::Credentials),
    }
}

pub(super) async fn current_user(call: Call) -> Result<Json<Value>, Fault> {
    let user = current(&call).await?;
    user_json(&call, &user)
}

pub(super) async fn update_user(
    call: Call,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Fault> {
    let id = call.user()?;
    let mut fields = Fields::parse(&body, "user")?;
    let username = fields.username("username");
    let email = fields.email("email");
    let password = fields.password("password");
    let bio = fields.nullable("bio", BIO_CHARS_MAX, Lines::Many);
    let image = fields.nullable("image", URL_CHARS_MAX, Lines::One);
    fields.finish()?;
    let before = current(&call).await?;
    let mut changes = UserChanges {
        bio,
        image,
        ..UserChanges::default()
    };
    if let Change::Set(name) = username
        && name != before.username
    {
        let held = reserve(&call, NameKind::Username, &name, id, step::USERNAME).await?;
        changes.username = Change::Set(held);
    }
    if let Change::Set(name) = email
        && name != before.email
    {
        match reserve(&call, NameKind::Email, &name, id, step::EMAIL).await {
            Ok(held) => changes.email = Change::Set(held),
            Err(fault) => {
                if let Change::Set(held) = &changes.username {
                    give_back(&call, NameKind::Username, held, step::USERNAME + 8).await;
                }
                return Err(fault);
            }
        }
    }
    if let Change::Set(password) = password {
        changes.password_hash = Change::Set(call.web.auth.hash(password).await?);
    }
    let command = Write::UpdateUser {
        id,
        changes: changes.clone(),
        now_ms: call.now_ms,
    };
    let (user, freed) = match call.write(call.home(id), step::USER, command).await?? {
        WriteReply::Updated { user, freed } => (user, freed),
        other => return Err(unexpected(other)),
    };
    for (kind, held, step) in [
        (NameKind::Username, &changes.username, step::USERNAME),
        (NameKind::Email, &changes.email, step::EMAIL),
    ] {
        if let Change::Set(held) = held {
            confirm(&call, kind, held, step + 9).await;
        }
    }
    for (kind, held) in freed {
        let step = match kind {
            NameKind::Username => step::USERNAME,
            NameKind::Email => step::EMAIL,
        };
        give_back(&call, kind, &held, step + 7).await;
    }
    user_json(&call, &user)
}

/// Which of `of` the viewer follows.
pub(super) async fn follows(
    call: &Call,
    viewer: Option<Id>,
    mut of: Vec<Id>,
) -> Result<Vec<Id>, Fault> {
    let Some(follower) = viewer else {
        return Ok(Vec::new());
    };
    of.sort_unstable();
    of.dedup();
    if of.is_empty() {
        return Ok(of);
    }
    match call
        .read(call.home(follower), Read::Follows { follower, of })
        .await?
    {
        ReadReply::Ids(ids) => Ok(ids),
        other => Err(unexpected(other)),
    }
}

fn as_author(user: UserRow) -> Author {
    Author {
        id: user.id,
        username: user.username,
        bio: user.bio,
        image: user.image,
    }
}

pub(super) async fn profile(call: Call, Path(name): Path<String>) -> Result<Json<Value>, Fault> {
    let viewer = call.viewer()?;
    let user = by_username(&call, &name).await?;
    let following = follows(&call, viewer, vec![user.id])
        .await?
        .contains(&user.id);
    Ok(Json(
        json!({ "profile": profile_json(&as_author(user), following) }),
    ))
}

pub(super) async fn follow(call: Call, Path(name): Path<String>) -> Result<Json<Value>, Fault> {
    set_following(&call, &name, true).await
}

pub(super) async fn unfollow(call: Call, Path(name): Path<String>) -> Result<Json<Value>, Fault> {
    set_following(&call, &name, false).await
}

async fn set_following(call: &Call, name: &str, on: bool) -> Result<Json<Value>, Fault> {
    let follower = call.user()?;
    let user = by_username(call, name).await?;
    if user.id == follower && on {
        return Err(fault("profile", "is your own").into());
    }
    let command = if on {
        Write::Follow {
            follower,
            followee: user.id,
            now_ms: call.now_ms,
        }
    } else {
        Write::Unfollow {
            follower,
            followee: user.id,
        }
    };
    call.write(call.home(follower), step::FOLLOW, command)
        .await??;
    Ok(Json(
        json!({ "profile": profile_json(&as_author(user), on) }),
    ))
}
