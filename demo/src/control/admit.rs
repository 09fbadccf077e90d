//! Who may call the control API: this person, from this page or from the command line.
//!
//! Three questions, each with its refusal. The `Host` must be loopback by name (against a foreign name
//! that is pointed at this address). An `Origin`, where one is sent, must be our own (against other
//! pages in the same browser). And whatever shows or changes a run needs the run's token, in a header
//! of its own that no foreign page can send. The page itself is no secret: it is the same in every run,
//! and the token comes to it in the address after `#`, which browsers send to nobody.

use http::{HeaderMap, StatusCode, header};

use crate::node::peer::same;

/// Carries the token.
pub(super) const TOKEN_HEADER: &str = "x-stackbeam-token";

/// A refusal, as status and sentence.
pub(super) type Refusal = (StatusCode, &'static str);

const FOREIGN_HOST: Refusal = (
    StatusCode::FORBIDDEN,
    "this page answers to 127.0.0.1 and localhost only\n",
);
const FOREIGN_ORIGIN: Refusal = (
    StatusCode::FORBIDDEN,
    "another page asks for this, and only our own may\n",
);
const NO_TOKEN: Refusal = (
    StatusCode::UNAUTHORIZED,
    "open the whole address that `stackbeam up` printed: it carries this run's token\n",
);

/// Whether a request that carries `headers` may reach the page on `port`.
pub(super) fn place(headers: &HeaderMap, port: u16) -> Result<(), Refusal> {
    let ours = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    };
    let host = only(header::HOST);
    if !host.is_some_and(|host| ours.iter().any(|ours| ours == host)) {
        return Err(FOREIGN_HOST);
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = only(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
        // Its own: localhost and 127.0.0.1 are two origins to a browser, and to us.
        if origin.is_none() || origin != host {
            return Err(FOREIGN_ORIGIN);
        }
    }
    Ok(())
}

/// Whether a request that carries `headers` knows `token`.
pub(super) fn token(headers: &HeaderMap, token: &str) -> Result<(), Refusal> {
    let shown = headers.get(TOKEN_HEADER);
    if shown.is_some_and(|shown| same(shown.as_bytes(), token.as_bytes())) {
        Ok(())
    } else {
        Err(NO_TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_loopback_names_with_the_right_port_are_answered_to() {
        for host in ["127.0.0.1:8090", "localhost:8090"] {
            assert_eq!(place(&headers(&[("host", host)]), 8090), Ok(()));
        }
        for host in [
            "evil.example:8090",
            "127.0.0.1",
            "127.0.0.1:8091",
            "127.0.0.1.evil.example:8090",
            "[::1]:8090",
            "",
        ] {
            assert_eq!(place(&headers(&[("host", host)]), 8090), Err(FOREIGN_HOST));
        }
        assert_eq!(place(&headers(&[]), 8090), Err(FOREIGN_HOST));
        let two = [("host", "127.0.0.1:8090"), ("host", "evil.example")];
        assert_eq!(place(&headers(&two), 8090), Err(FOREIGN_HOST));
    }

    #[test]
    fn a_page_of_another_origin_is_refused_and_no_origin_is_the_command_line() {
        let from = |origin| headers(&[("host", "127.0.0.1:8090"), ("origin", origin)]);
        assert_eq!(place(&from("http://127.0.0.1:8090"), 8090), Ok(()));
        for origin in [
            "http://evil.example",
            "http://127.0.0.1:8080",
            "http://localhost:8090",
            "https://127.0.0.1:8090",
            "null",
            "",
        ] {
            assert_eq!(place(&from(origin), 8090), Err(FOREIGN_ORIGIN), "{origin}");
        }
    }

    #[test]
    fn the_token_must_be_whole_and_right() {
        assert_eq!(token(&headers(&[(TOKEN_HEADER, "abc")]), "abc"), Ok(()));
        for shown in ["ab", "abcd", "", "ABC"] {
            assert_eq!(
                token(&headers(&[(TOKEN_HEADER, shown)]), "abc"),
                Err(NO_TOKEN)
            );
        }
        assert_eq!(
            token(&headers(&[("cookie", "token=abc")]), "abc"),
            Err(NO_TOKEN)
        );
    }
}
