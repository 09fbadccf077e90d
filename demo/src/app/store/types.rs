//! What goes over the wire to a shard and back.

use serde::{Deserialize, Serialize};

use crate::app::id::Id;

/// The two kinds of names that are unique over all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum NameKind {
    Username,
    Email,
}

impl NameKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Email => "email",
        }
    }
}

/// A user's claim to a name. `claim` is drawn anew for each attempt; it identifies the attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) kind: NameKind,
    pub(crate) name: String,
    pub(crate) user: Id,
    pub(crate) claim: Id,
    pub(crate) now_ms: u64,
}

/// A name together with the claim by which the user holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) claim: Id,
}

/// A field of an update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change<T> {
    #[default]
    Keep,
    Set(T),
}

impl<T> Change<T> {
    /// The new value, if there is one.
    pub(crate) const fn set(&self) -> Option<&T> {
        match self {
            Self::Keep => None,
            Self::Set(value) => Some(value),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewUser {
    pub(crate) id: Id,
    pub(crate) username: Held,
    pub(crate) email: Held,
    pub(crate) password_hash: String,
    pub(crate) now_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserChanges {
    pub(crate) username: Change<Held>,
    pub(crate) email: Change<Held>,
    pub(crate) password_hash: Change<String>,
    pub(crate) bio: Change<Option<String>>,
    pub(crate) image: Change<Option<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewArticle {
    pub(crate) id: Id,
    pub(crate) author: Id,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) body: String,
    pub(crate) tags: Vec<String>,
    pub(crate) now_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArticleChanges {
    pub(crate) title: Change<String>,
    pub(crate) description: Change<String>,
    pub(crate) body: Change<String>,
    pub(crate) tags: Change<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewPhoto {
    pub(crate) id: Id,
    pub(crate) owner: Id,
    /// Hash and extension of the uploaded bytes.
    pub(crate) original: String,
    /// Whether the result becomes the owner's profile image.
    pub(crate) for_profile: bool,
    pub(crate) now_ms: u64,
}

/// One size of a photo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Variant {
    /// Hash of the content and extension; the address is `/photos/<file>`.
    pub(crate) file: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// How the processing of a photo ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PhotoResult {
    Ready(Vec<Variant>),
    Failed(String),
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Write {
    /// In the directory, on the name's shard.
    ReserveName(Claim),
    /// Moves a name from a claim that its user has abandoned.
    TakeOverName {
        from: Id,
        claim: Claim,
    },
    ConfirmName {
        kind: NameKind,
        name: String,
        claim: Id,
    },
    ReleaseName {
        kind: NameKind,
        name: String,
        claim: Id,
    },
    /// On the user's shard: from now on nothing can be done by this claim, unless it was done already.
    AbandonClaim {
        user: Id,
        kind: NameKind,
        name: String,
        claim: Id,
        now_ms: u64,
    },
    CreateUser(NewUser),
    UpdateUser {
        id: Id,
        changes: UserChanges,
        now_ms: u64,
    },
    Follow {
        follower: Id,
        followee: Id,
        now_ms: u64,
    },
    Unfollow {
        follower: Id,
        followee: Id,
    },
    CreateArticle(NewArticle),
    UpdateArticle {
        id: Id,
        actor: Id,
        changes: ArticleChanges,
        now_ms: u64,
    },
    DeleteArticle {
        id: Id,
        actor: Id,
    },
    Favorite {
        article: Id,
        user: Id,
        on: bool,
        now_ms: u64,
    },
    CreateComment {
        article: Id,
        author: Id,
        body: String,
        now_ms: u64,
    },
    DeleteComment {
        article: Id,
        comment: u64,
        actor: Id,
    },
    CreatePhoto(NewPhoto),
    StartPhoto {
        id: Id,
        now_ms: u64,
    },
    FinishPhoto {
        id: Id,
        result: PhotoResult,
        now_ms: u64,
    },
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WriteReply {
    Done,
    /// The name is this user's to use, by this claim.
    Reserved(Id),
    /// The user had used the claim before it could be abandoned.
    StillHeld,
    User(UserRow),
    /// The user as it is now, and the names that it no longer uses.
    Updated {
        user: UserRow,
        freed: Vec<(NameKind, Held)>,
    },
    Article(ArticleRow),
    Comment(CommentRow),
    Photo(PhotoRow),
}

/// Which articles a list is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Filter {
    /// All that match every given condition.
    Global {
        tag: Option<String>,
        author: Option<Id>,
        favorited: Option<Id>,
    },
    /// By any of these authors, who live in this shard.
    By(Vec<Id>),
}

/// A query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Read {
    /// Who has a name, by the directory. The user's own row has the last word.
    Name {
        kind: NameKind,
        name: String,
    },
    Users(Vec<Id>),
    /// Which of `of` the user follows.
    Follows {
        follower: Id,
        of: Vec<Id>,
    },
    /// All whom the user follows.
    Followees(Id),
    Article {
        id: Id,
        viewer: Option<Id>,
    },
    /// The first `first` articles, newest first, and how many there are.
    Articles {
        filter: Filter,
        viewer: Option<Id>,
        first: u32,
    },
    Comments(Id),
    Tags,
    Photo(Id),
    /// Photos without a result that nobody touched since then.
    Unfinished {
        before_ms: u64,
    },
}

/// What a query answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadReply {
    Name(Option<Id>),
    Users(Vec<UserRow>),
    Ids(Vec<Id>),
    Article(ArticleRow),
    Articles {
        articles: Vec<ArticleRow>,
        count: u64,
    },
    Comments(Vec<CommentRow>),
    /// Tags, the number of articles with each, and when it was last used.
    Tags(Vec<(String, u64, u64)>),
    Photo(PhotoRow),
    Photos(Vec<PhotoRow>),
}

/// What a request is about, as errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Thing {
    User,
    Article,
    Comment,
    Photo,
}

impl Thing {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "profile",
            Self::Article => "article",
            Self::Comment => "comment",
            Self::Photo => "photo",
        }
    }
}

/// A business answer: no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    NotFound(Thing),
    Forbidden(Thing),
    /// Another user has the name. `settled` says that no registration is still under way.
    Taken {
        user: Id,
        claim: Id,
        settled: bool,
    },
    /// The claim was given up, by a rename or by somebody who waited too long for it.
    Abandoned {
        kind: NameKind,
        claim: Id,
    },
    /// A bound of the application.
    TooMany {
        what: String,
        max: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRow {
    pub(crate) id: Id,
    pub(crate) username: String,
    pub(crate) email: String,
    pub(crate) password_hash: String,
    pub(crate) bio: Option<String>,
    pub(crate) image: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Author {
    pub(crate) id: Id,
    pub(crate) username: String,
    pub(crate) bio: Option<String>,
    pub(crate) image: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArticleRow {
    pub(crate) id: Id,
    /// The author lives in the same shard, so this is a local join.
    pub(crate) author: Author,
    pub(crate) title: String,
    pub(crate) description: String,
    /// Empty in lists.
    pub(crate) body: String,
    pub(crate) tags: Vec<String>,
    pub(crate) favorited: bool,
    pub(crate) favorites: u64,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommentRow {
    pub(crate) id: u64,
    pub(crate) author: Id,
    pub(crate) body: String,
    pub(crate) created_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PhotoRow {
    pub(crate) id: Id,
    pub(crate) owner: Id,
    pub(crate) original: String,
    /// How often a worker began.
    pub(crate) attempts: u64,
    pub(crate) result: Option<PhotoResult>,
    pub(crate) created_ms: u64,
}

/// Users that one user may follow.
pub(crate) const FOLLOWEES_MAX: u64 = 5_000;
/// Comments that one article may have.
pub(crate) const COMMENTS_MAX: u64 = 1_000;
/// Tags that one shard lists, the most recently used.
pub(crate) const TAGS_LISTED_MAX: u64 = 1_000;
/// How long a registration may take before others may ask its user's shard what became of it.
pub(crate) const RESERVATION_MS: u64 = 10_000;
