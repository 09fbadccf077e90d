//! What a tower stack must say of its requests: the key of one, and the meaning of a result.

use crate::Outcome;

/// What a result says of the endpoint.
pub trait Judge<Response, Error> {
    /// How it went.
    fn outcome(&self, result: &Result<Response, Error>) -> Outcome;
}

/// Every error is a failure, every response a success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written by its name alone")]
pub struct ErrorsFail;

impl<Response, Error> Judge<Response, Error> for ErrorsFail {
    fn outcome(&self, result: &Result<Response, Error>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }
    }
}

impl<Response, Error, F> Judge<Response, Error> for F
where
    F: Fn(&Result<Response, Error>) -> Outcome,
{
    fn outcome(&self, result: &Result<Response, Error>) -> Outcome {
        self(result)
    }
}

/// Whom or what a request is for.
pub trait KeyOf<Request> {
    /// The key; see [`Ask::with_key`](crate::Ask::with_key).
    fn key(&self, request: &Request) -> Option<Vec<u8>>;
}

/// No request has a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written by its name alone")]
pub struct NoKey;

impl<Request> KeyOf<Request> for NoKey {
    fn key(&self, _: &Request) -> Option<Vec<u8>> {
        None
    }
}

impl<Request, F> KeyOf<Request> for F
where
    F: Fn(&Request) -> Option<Vec<u8>>,
{
    fn key(&self, request: &Request) -> Option<Vec<u8>> {
        self(request)
    }
}
