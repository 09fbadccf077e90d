//! Headers of a request: whatever they are, who has no token that holds is nobody, and the answer has no
//! header that they forged.
#![no_main]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use http::{HeaderName, HeaderValue, Method, Request, Response};
use libfuzzer_sys::fuzz_target;
use stackbeam_session::{
    Key, KeyRing, NoRevocations, Policy, SessionLayer, Sessions, Timestamp, claims_of,
};
use tower::{Layer, Service, service_fn};

type Web = SessionLayer<u8, NoRevocations, Key>;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const NAMES: [&str; 7] = [
    "cookie",
    "cookie",
    "authorization",
    "origin",
    "host",
    "sec-fetch-site",
    "x-csrf-token",
];

/// A layer of a cookie, one of a header, and a token for each.
static LAYERS: LazyLock<[(Web, String); 2]> = LazyLock::new(|| {
    let sessions = || {
        let key = Key::from_bytes(&(0..32).map(|n| n * 7).collect::<Vec<u8>>()).unwrap();
        let ring = KeyRing::new(key, Policy::aal2().absolute()).unwrap();
        Sessions::new(ring, "login", "a", Policy::aal2(), NoRevocations).unwrap()
    };
    let secret = Key::from_bytes(&[7, 1].repeat(16)).unwrap();
    [
        SessionLayer::cookie(sessions(), "id").csrf_key(secret).unwrap(),
        SessionLayer::authorization(sessions(), "Token"),
    ]
    .map(|layer| {
        let token = layer.sessions().issue("7", 7, NOW).unwrap();
        (layer.clock(|| NOW), token)
    })
});

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    for (layer, token) in LAYERS.iter() {
        let mut request = Request::new(());
        if kind & 1 == 1 {
            *request.method_mut() = Method::POST;
        }
        for (name, value) in NAMES.iter().zip(rest.split(|byte| *byte == 0)) {
            // A byte that no header has stands for a token that holds.
            let value = value.split(|byte| *byte == 1).collect::<Vec<_>>().join(token.as_bytes());
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request.headers_mut().append(HeaderName::from_static(name), value);
            }
        }
        let brings = request
            .headers()
            .iter()
            .any(|(_, value)| value.as_bytes().windows(token.len()).any(|part| part == token.as_bytes()));
        let inner = service_fn(move |request: Request<()>| -> Ready<Result<_, Infallible>> {
            let found = claims_of::<u8>(request.extensions());
            assert!(brings || found.is_err());
            ready(Ok(Response::new(())))
        });
        let mut answer = pin!(layer.layer(inner).call(request));
        let Poll::Ready(Ok(answer)) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("the inner service is ready");
        };
        assert!(!answer.headers().contains_key("set-cookie"));
    }
});
