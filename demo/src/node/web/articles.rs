//! Articles, the feed, favourites, comments and tags.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use axum::Json;
use axum::extract::{Path, RawQuery};
use http::StatusCode;
use serde_json::{Value, json};
use stackbeam_shard_router::{ShardId, group, merge_page, scatter};

use super::body::JsonBody;
use super::call::{Call, unexpected};
use super::fault::Fault;
use super::users::{find, find_by_name, follows, profile_json};
use crate::app::id::Id;
use crate::app::input::{Faults, Fields, Lines, fault};
use crate::app::slug;
use crate::app::store::{
    ArticleChanges, ArticleRow, Author, CommentRow, Filter, NameKind, NewArticle, Read, ReadReply,
    Thing, Write, WriteReply,
};
use crate::app::time::rfc3339;

const STEP: u64 = 50;

const LIMIT_DEFAULT: u32 = 20;
/// A larger limit is served as this.
const LIMIT_MAX: u32 = 100;
/// How deep pages go: each shard sends all rows down to it.
const DEPTH_MAX: u32 = 10_000;
/// Shards that one request asks at the same time.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");
/// Tags that a client gets.
const TAGS_MAX: usize = 1_000;

const TITLE_CHARS_MAX: usize = 255;
const DESCRIPTION_CHARS_MAX: usize = 1_000;
const BODY_CHARS_MAX: usize = 60_000;
const COMMENT_CHARS_MAX: usize = 10_000;

fn article_json(row: &ArticleRow, following: bool, with_body: bool) -> Value {
    let mut article = json!({
        "slug": slug::slug(&row.title, row.id),
        "title": row.title, "description": row.description, "tagList": row.tags,
        "createdAt": rfc3339(row.created_ms), "updatedAt": rfc3339(row.updated_ms),
        "favorited": row.favorited, "favoritesCount": row.favorites,
        "author": profile_json(&row.author, following),
    });
    if with_body {
        article["body"] = row.body.clone().into();
    }
    article
}

async fn one(call: &Call, viewer: Option<Id>, row: &ArticleRow) -> Result<Json<Value>, Fault> {
    let following = follows(call, viewer, vec![row.author.id])
        .await?
        .contains(&row.author.id);
    Ok(Json(
        json!({ "article": article_json(row, following, true) }),
    ))
}

fn id_of(slug: &str) -> Result<Id, Fault> {
    slug::parse(slug).ok_or(Fault::NotFound(Thing::Article))
}

/// Carries out a command that answers with the article as the user sees it.
async fn change(call: &Call, user: Id, shard: u16, command: Write) -> Result<Json<Value>, Fault> {
    match call.write(shard, STEP, command).await?? {
        WriteReply::Article(row) => one(call, Some(user), &row).await,
        other => Err(unexpected(other)),
    }
}

pub(super) async fn create(
    call: Call,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let author = call.user()?;
    let mut fields = Fields::parse(&body, "article")?;
    let title = fields.required("title", TITLE_CHARS_MAX, Lines::One);
    let description = fields.required("description", DESCRIPTION_CHARS_MAX, Lines::One);
    let text = fields.required("body", BODY_CHARS_MAX, Lines::Many);
    let tags = fields.tags("tagList").set().cloned().unwrap_or_default();
    fields.finish()?;
    let command = Write::CreateArticle(NewArticle {
        id: Id::at(call.now_ms, call.chance(STEP), author.slot()),
        author,
        title,
        description,
        body: text,
        tags,
        now_ms: call.now_ms,
    });
    let article = change(&call, author, call.home(author), command).await?;
    Ok((StatusCode::CREATED, article))
}

pub(super) async fn get(call: Call, Path(slug): Path<String>) -> Result<Json<Value>, Fault> {
    let viewer = call.viewer()?;
    let id = id_of(&slug)?;
    match call
        .read(call.home(id), Read::Article { id, viewer })
        .await?
    {
        ReadReply::Article(row) => one(&call, viewer, &row).await,
        other => Err(unexpected(other)),
    }
}

pub(super) async fn update(
    call: Call,
    Path(slug): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Fault> {
    let actor = call.user()?;
    let mut fields = Fields::parse(&body, "article")?;
    let changes = ArticleChanges {
        title: fields.optional("title", TITLE_CHARS_MAX, Lines::One),
        description: fields.optional("description", DESCRIPTION_CHARS_MAX, Lines::One),
        body: fields.optional("body", BODY_CHARS_MAX, Lines::Many),
        tags: fields.tags("tagList"),
    };
    fields.finish()?;
    let id = id_of(&slug)?;
    let command = Write::UpdateArticle {
        id,
        actor,
        changes,
        now_ms: call.now_ms,
    };
    change(&call, actor, call.home(id), command).await
}

pub(super) async fn delete(call: Call, Path(slug): Path<String>) -> Result<StatusCode, Fault> {
    let actor = call.user()?;
    let id = id_of(&slug)?;
    call.write(call.home(id), STEP, Write::DeleteArticle { id, actor })
        .await??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn favorite(call: Call, Path(slug): Path<String>) -> Result<Json<Value>, Fault> {
    set_favorite(&call, &slug, true).await
}

pub(super) async fn unfavorite(call: Call, Path(slug): Path<String>) -> Result<Json<Value>, Fault> {
    set_favorite(&call, &slug, false).await
}

async fn set_favorite(call: &Call, slug: &str, on: bool) -> Result<Json<Value>, Fault> {
    let user = call.user()?;
    let article = id_of(slug)?;
    let command = Write::Favorite {
        article,
        user,
        on,
        now_ms: call.now_ms,
    };
    change(call, user, call.home(article), command).await
}

/// The query of a list.
struct Page {
    offset: u32,
    limit: u32,
    tag: Option<String>,
    author: Option<String>,
    favorited: Option<String>,
}

impl Page {
    fn parse(query: Option<String>) -> Result<Self, Fault> {
        let query = query.unwrap_or_default();
        let mut given: HashMap<String, String> = HashMap::new();
        let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(
            &format!("/?{query}")
                .parse()
                .map_err(|_| fault("query", "is not valid"))?,
        )
        .map_err(|_| fault("query", "is not valid"))?
        .0;
        given.extend(pairs);
        let mut faults = Faults::new();
        let mut number = |name: &str, least: u32, default: u32, max: u32| match given.get(name) {
            None => default,
            Some(text) => match text.parse::<u64>() {
                Ok(number) if number >= u64::from(least) => {
                    u32::try_from(number).unwrap_or(u32::MAX).min(max)
                }
                _ => {
                    let what = format!("must be a whole number of at least {least}");
                    faults.extend(fault(name, &what));
                    default
                }
            },
        };
        let limit = number("limit", 1, LIMIT_DEFAULT, LIMIT_MAX);
        let offset = number("offset", 0, 0, u32::MAX);
        if offset > DEPTH_MAX - LIMIT_MAX {
            faults.extend(fault(
                "offset",
                &format!("must be at most {}", DEPTH_MAX - LIMIT_MAX),
            ));
        }
        if faults.is_empty() {
            let mut take = |name: &str| given.remove(name);
            Ok(Self {
                offset,
                limit,
                tag: take("tag"),
                author: take("author"),
                favorited: take("favorited"),
            })
        } else {
            Err(faults.into())
        }
    }
}

fn empty() -> Json<Value> {
    Json(json!({ "articles": [], "articlesCount": 0 }))
}

pub(super) async fn list(call: Call, RawQuery(query): RawQuery) -> Result<Json<Value>, Fault> {
    let viewer = call.viewer()?;
    let page = Page::parse(query)?;
    let mut ids = [None, None];
    for (id, name) in ids.iter_mut().zip([&page.author, &page.favorited]) {
        if let Some(name) = name {
            match find_by_name(&call, NameKind::Username, name).await? {
                Some(user) => *id = Some(user.id),
                // Nobody of that name wrote or liked anything.
                None => return Ok(empty()),
            }
        }
    }
    let [author, favorited] = ids;
    let shards: Vec<u16> = match author {
        Some(author) => vec![call.home(author)],
        None => (0..call.web.shards.count()).collect(),
    };
    let filter = Filter::Global {
        tag: page.tag.clone(),
        author,
        favorited,
    };
    let asked = shards
        .into_iter()
        .map(|shard| (shard, filter.clone()))
        .collect();
    lists(&call, viewer, &page, asked).await
}

pub(super) async fn feed(call: Call, RawQuery(query): RawQuery) -> Result<Json<Value>, Fault> {
    let viewer = call.user()?;
    let page = Page::parse(query)?;
    let ReadReply::Ids(followees) = call
        .read(call.home(viewer), Read::Followees(viewer))
        .await?
    else {
        return Err(Fault::Unavailable(
            "an answer of another version".to_owned(),
        ));
    };
    let mut by_shard: BTreeMap<u16, Vec<Id>> = BTreeMap::new();
    for id in followees {
        by_shard.entry(call.home(id)).or_default().push(id);
    }
    let asked = by_shard
        .into_iter()
        .map(|(shard, ids)| (shard, Filter::By(ids)))
        .collect();
    lists(&call, Some(viewer), &page, asked).await
}

/// The newest articles of all, as the API shows them in lists.
pub(super) async fn latest(call: &Call, limit: u32) -> Result<Vec<Value>, Fault> {
    let page = Page {
        offset: 0,
        limit,
        tag: None,
        author: None,
        favorited: None,
    };
    let filter = Filter::Global {
        tag: None,
        author: None,
        favorited: None,
    };
    let asked = (0..call.web.shards.count())
        .map(|shard| (shard, filter.clone()))
        .collect();
    let Json(mut list) = lists(call, None, &page, asked).await?;
    match list["articles"].take() {
        Value::Array(articles) => Ok(articles),
        _ => Ok(Vec::new()),
    }
}

/// Asks shards for their newest articles and makes one page of the answers. A list with a hole in it
/// would be a wrong answer, so one silent shard makes the whole list unavailable.
async fn lists(
    call: &Call,
    viewer: Option<Id>,
    page: &Page,
    asked: BTreeMap<u16, Filter>,
) -> Result<Json<Value>, Fault> {
    let first = page.offset.saturating_add(page.limit);
    let shards: Vec<ShardId> = asked
        .keys()
        .map(|shard| ShardId::new(u32::from(*shard)))
        .collect();
    let gathered = scatter(shards, AT_ONCE, |shard| {
        let shard = u16::try_from(shard.get()).unwrap_or(u16::MAX);
        let filter = asked.get(&shard).cloned();
        async move {
            let filter = filter.ok_or(Fault::NoSuchPage)?;
            match call
                .read(
                    shard,
                    Read::Articles {
                        filter,
                        viewer,
                        first,
                    },
                )
                .await?
            {
                ReadReply::Articles { articles, count } => Ok((articles, count)),
                other => Err(unexpected(other)),
            }
        }
    })
    .await;
    if let Some((_, failure)) = gathered.failures.into_iter().next() {
        return Err(failure);
    }
    let mut total = 0_u64;
    let rows: Vec<Vec<ArticleRow>> = gathered
        .answers
        .into_iter()
        .map(|(_, (rows, count))| {
            total += count;
            rows
        })
        .collect();
    let rows = merge_page(
        rows,
        page.offset as usize,
        page.limit as usize,
        DEPTH_MAX as usize,
        |left, right| right.id.cmp(&left.id),
    )
    .map_err(|error| Fault::Unavailable(error.to_string()))?;
    let followed = follows(call, viewer, rows.iter().map(|row| row.author.id).collect()).await?;
    let articles: Vec<Value> = rows
        .iter()
        .map(|row| article_json(row, followed.contains(&row.author.id), false))
        .collect();
    Ok(Json(
        json!({ "articles": articles, "articlesCount": total }),
    ))
}

pub(super) async fn tags(call: Call) -> Result<Json<Value>, Fault> {
    let shards = (0..call.web.shards.count()).map(|shard| ShardId::new(u32::from(shard)));
    let gathered = scatter(shards, AT_ONCE, |shard| {
        let shard = u16::try_from(shard.get()).unwrap_or(u16::MAX);
        let call = &call;
        async move {
            match call.read(shard, Read::Tags).await? {
                ReadReply::Tags(tags) => Ok(tags),
                other => Err(unexpected(other)),
            }
        }
    })
    .await;
    if let Some((_, failure)) = gathered.failures.into_iter().next() {
        return Err(failure);
    }
    let mut sums: HashMap<String, (u64, u64)> = HashMap::new();
    for (tag, articles, used_ms) in gathered.answers.into_iter().flat_map(|(_, tags)| tags) {
        let sum = sums.entry(tag).or_default();
        *sum = (sum.0 + articles, sum.1.max(used_ms));
    }
    // The most recent ones are listed, the most used of them first.
    let mut tags: Vec<(String, (u64, u64))> = sums.into_iter().collect();
    tags.sort_by(|left, right| right.1.1.cmp(&left.1.1).then_with(|| left.0.cmp(&right.0)));
    tags.truncate(TAGS_MAX);
    tags.sort_by(|left, right| right.1.0.cmp(&left.1.0).then_with(|| left.0.cmp(&right.0)));
    let tags: Vec<String> = tags.into_iter().map(|(tag, _)| tag).collect();
    Ok(Json(json!({ "tags": tags })))
}

fn comment_json(comment: &CommentRow, author: &Author, following: bool) -> Value {
    json!({
        "id": comment.id, "body": comment.body,
        "createdAt": rfc3339(comment.created_ms), "updatedAt": rfc3339(comment.created_ms),
        "author": profile_json(author, following),
    })
}

pub(super) async fn comment(
    call: Call,
    Path(slug): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let author = call.user()?;
    let mut fields = Fields::parse(&body, "comment")?;
    let body = fields.required("body", COMMENT_CHARS_MAX, Lines::Many);
    fields.finish()?;
    let article = id_of(&slug)?;
    let command = Write::CreateComment {
        article,
        author,
        body,
        now_ms: call.now_ms,
    };
    let WriteReply::Comment(row) = call.write(call.home(article), STEP, command).await?? else {
        return Err(Fault::Unavailable(
            "an answer of another version".to_owned(),
        ));
    };
    let user = find(&call, author)
        .await?
        .ok_or(Fault::NotFound(Thing::User))?;
    let author = Author {
        id: user.id,
        username: user.username,
        bio: user.bio,
        image: user.image,
    };
    Ok((
        StatusCode::CREATED,
        Json(json!({ "comment": comment_json(&row, &author, false) })),
    ))
}

pub(super) async fn comments(call: Call, Path(slug): Path<String>) -> Result<Json<Value>, Fault> {
    let viewer = call.viewer()?;
    let article = id_of(&slug)?;
    let ReadReply::Comments(rows) = call
        .read(call.home(article), Read::Comments(article))
        .await?
    else {
        return Err(Fault::Unavailable(
            "an answer of another version".to_owned(),
        ));
    };
    let mut ids: Vec<Id> = rows.iter().map(|row| row.author).collect();
    ids.sort_unstable();
    ids.dedup();
    // The writers of comments live anywhere: one look-up for each shard that has some of them.
    let batch = group(
        &call.web.map.map(),
        ids.iter().map(|id| u64::from(id.slot().0)),
    );
    let mut authors: HashMap<Id, Author> = HashMap::new();
    for shard in batch.groups() {
        let shard = u16::try_from(shard.shard.get()).unwrap_or(u16::MAX);
        let there = ids
            .iter()
            .copied()
            .filter(|id| call.home(*id) == shard)
            .collect();
        match call.read(shard, Read::Users(there)).await? {
            ReadReply::Users(users) => authors.extend(users.into_iter().map(|user| {
                let author = Author {
                    id: user.id,
                    username: user.username,
                    bio: user.bio,
                    image: user.image,
                };
                (user.id, author)
            })),
            other => return Err(unexpected(other)),
        }
    }
    let followed = follows(&call, viewer, ids).await?;
    let comments: Vec<Value> = rows
        .iter()
        .filter_map(|row| {
            let author = authors.get(&row.author)?;
            Some(comment_json(row, author, followed.contains(&row.author)))
        })
        .collect();
    Ok(Json(json!({ "comments": comments })))
}

pub(super) async fn delete_comment(
    call: Call,
    Path((slug, comment)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    let actor = call.user()?;
    let article = id_of(&slug)?;
    // Numbers are what comments are called; anything else is none. Zero is never given out.
    let comment = comment.parse::<u32>().map_or(0, u64::from);
    let command = Write::DeleteComment {
        article,
        comment,
        actor,
    };
    call.write(call.home(article), STEP, command).await??;
    Ok(StatusCode::NO_CONTENT)
}
