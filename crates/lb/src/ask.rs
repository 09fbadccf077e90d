//! What a pick is told of the request.

/// What is known of a request before it is placed. The default says nothing.
///
/// ```
/// use stackbeam_lb::Ask;
///
/// let tried = ["web-1"];
/// let ask = Ask::new().with_key(b"user:42").with_tried(&tried);
/// assert_eq!(ask.key(), Some(b"user:42".as_slice()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask<'a> {
    key: Option<&'a [u8]>,
    tried: &'a [&'a str],
}

impl<'a> Ask<'a> {
    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            key: None,
            tried: &[],
        }
    }

    /// Sets whom or what the request is for, such as a user or a cache key: a strategy that keeps
    /// like with like goes by it, the others do not look. Defaults to none.
    #[must_use]
    pub const fn with_key(mut self, key: &'a [u8]) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets the endpoints, by id, that this request must not go to, because it failed there. Defaults
    /// to none. The list is searched for each endpoint that is looked at: keep it short.
    #[must_use]
    pub const fn with_tried(mut self, tried: &'a [&'a str]) -> Self {
        self.tried = tried;
        self
    }

    /// The key, if there is one.
    #[must_use]
    pub const fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The ids that are out.
    #[must_use]
    pub const fn tried(&self) -> &'a [&'a str] {
        self.tried
    }
}
