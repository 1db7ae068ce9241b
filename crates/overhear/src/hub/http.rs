//! Requests to the hub: authorization, redirects, statuses, and which failures are worth a retry.

use std::time::Duration;

use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

/// Maximum number of redirects.
const MAX_REDIRECTS: usize = 10;

/// Time without data after which a connection is closed.
const STALLED: Duration = Duration::from_secs(30);

/// Reason for which a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Not connected: no route, unknown host, connection refused.
    Unreachable(String),
    /// Passing failure, worth a retry; the duration is the server's `Retry-After`, if given.
    Passing(String, Option<Duration>),
    /// The server's refusal: status, and the hub's `X-Error-Code`.
    Refused(u16, String),
    /// Permanent failure, not worth a retry.
    Final(String),
}

/// HTTP client of one hub.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    /// `https://huggingface.co`, or a mirror.
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
}

impl Client {
    pub(super) fn new(endpoint: &str, token: Option<String>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(STALLED))
            .timeout_per_read(Some(STALLED))
            .user_agent(concat!("overhear/", env!("CARGO_PKG_VERSION")))
            // Lengths and ranges must be those of the file itself.
            .accept_encoding("identity");
        Self {
            agent: config.build().new_agent(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
        }
    }

    /// Returns the headers with which the hub describes a file: its own, and not those of the host it redirects to.
    pub(super) fn head(&self, address: &str) -> Result<HeaderMap, Failure> {
        let (response, _) = self.follow(address, Method::Head, None)?;
        Ok(response.headers().clone())
    }

    /// Returns the body at `address` from byte `offset` on, and the offset at which it actually begins: 0 if the server
    /// does not support ranges.
    pub(super) fn get(&self, address: &str, offset: u64) -> Result<(Body, u64), Failure> {
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let (response, _) = self.follow(address, Method::Get, range.as_deref())?;
        let begins = match response.status().as_u16() {
            206 => range_start(response.headers()).unwrap_or(offset),
            _ => 0,
        };
        Ok((response.into_body(), begins))
    }

    /// Sends the request and follows redirects; for [`Method::Head`] only within the host, as the hub's own headers are
    /// needed.
    fn follow(
        &self,
        address: &str,
        method: Method,
        range: Option<&str>,
    ) -> Result<(Response<Body>, Uri), Failure> {
        let parse = |address: &str| {
            let uri = address.parse::<Uri>();
            uri.map_err(|error| Failure::Final(format!("bad address {address}: {error}")))
        };
        let first = parse(address)?;
        let mut uri = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let is_hub = origin(&uri) == origin(&first);
            let response = self.ask(&uri, method, range, is_hub)?;
            let status = response.status();
            if !status.is_redirection() {
                return match status.as_u16() {
                    200 | 206 => Ok((response, uri)),
                    code => Err(refusal(code, &response, &uri)),
                };
            }
            let location = header(response.headers(), "location")
                .ok_or_else(|| Failure::Final(format!("{uri} redirects without a location")))?;
            let next = parse(&resolve(&uri, location))?;
            if matches!(method, Method::Head) && origin(&next) != origin(&first) {
                return Ok((response, uri));
            }
            if origin(&uri).0 == "https" && origin(&next).0 != "https" {
                return Err(Failure::Final(format!(
                    "{} redirects from https to {}",
                    origin(&uri).1,
                    origin(&next).0
                )));
            }
            uri = next;
        }
        Err(Failure::Final(format!(
            "{} redirects more than {MAX_REDIRECTS} times",
            origin(&first).1
        )))
    }

    fn ask(
        &self,
        uri: &Uri,
        method: Method,
        range: Option<&str>,
        is_hub: bool,
    ) -> Result<Response<Body>, Failure> {
        let mut request = match method {
            Method::Head => self.agent.head(uri),
            Method::Get => self.agent.get(uri),
        };
        if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.call().map_err(|error| {
            let (_, host) = origin(uri);
            let message = format!("{host}: {error}");
            match error {
                ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                    Failure::Unreachable(message)
                }
                ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                    Failure::Unreachable(message)
                }
                ureq::Error::Io(ref io) if is_unreachable(io) => Failure::Unreachable(message),
                ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => {
                    Failure::Passing(message, None)
                }
                _ => Failure::Final(message),
            }
        })
    }
}

#[derive(Clone, Copy)]
enum Method {
    Head,
    Get,
}

fn is_unreachable(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, NotFound,
    };
    // The standard library has no error kind for a failed name resolution, only this text.
    error.to_string().contains("failed to lookup address")
        || matches!(
            error.kind(),
            ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable | NotFound
        )
}

fn refusal(code: u16, response: &Response<Body>, uri: &Uri) -> Failure {
    let headers = response.headers();
    match code {
        408 | 429 | 500..=599 => {
            let wait = header(headers, "retry-after").and_then(|value| value.parse().ok());
            Failure::Passing(
                format!("{} answers {}", origin(uri).1, response.status()),
                wait.map(Duration::from_secs),
            )
        }
        _ => Failure::Refused(
            code,
            header(headers, "x-error-code")
                .unwrap_or_default()
                .to_owned(),
        ),
    }
}

/// Returns scheme, and host with port.
fn origin(uri: &Uri) -> (&str, &str) {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or(authority);
    (uri.scheme_str().unwrap_or("http"), host)
}

/// Returns the address that `reference` stands for in an answer from `base` (RFC 3986, 5.2), without its fragment.
fn resolve(base: &Uri, reference: &str) -> String {
    let reference = reference.split('#').next().unwrap_or_default();
    let first_mark = reference.find([':', '/', '?']);
    if first_mark.is_some_and(|at| reference[at..].starts_with(':')) {
        return reference.to_owned();
    }
    let (scheme, host) = origin(base);
    if reference.starts_with("//") {
        return format!("{scheme}:{reference}");
    }
    let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
    let (folder, _) = base.path().rsplit_once('/').unwrap_or_default();
    let path = match path {
        "" => base.path().to_owned(),
        path if path.starts_with('/') => without_dots(path),
        path => without_dots(&format!("{folder}/{path}")),
    };
    format!("{scheme}://{host}{path}{query}")
}

/// Returns an absolute path without the segments `.` and `..` (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = vec![""];
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => kept.truncate((kept.len() - 1).max(1)),
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    kept.join("/")
}

/// Returns the value of a header, if it is text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the first byte of `Content-Range: bytes 100-199/200`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = header(headers, "content-range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_relative_to_the_address_that_redirects() {
        // Of RFC 3986, 5.4.
        let base: Uri = "http://a/b/c/d;p?q".parse().expect("an address");
        for (location, expected) in [
            ("https://g:8/h?a:b", "https://g:8/h?a:b"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g/h", "http://g/h"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y/../x#s", "http://a/b/c/g?y/../x"),
            (";x", "http://a/b/c/;x"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../../g", "http://a/g"),
            ("/./g/../h", "http://a/h"),
            ("g?a:b", "http://a/b/c/g?a:b"),
            ("./g:h", "http://a/b/c/g:h"),
        ] {
            assert_eq!(resolve(&base, location), expected, "{location}");
        }
    }
}
