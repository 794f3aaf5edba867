//! Requests, and replies that are checked for what every reply must keep to.

use std::fmt::{Debug, Display};
use std::io::Read;

use reqwest::Method;
use reqwest::blocking::{Body, Client, RequestBuilder};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Every error code of the distribution specification, and those that Docker's registry adds.
const ERROR_CODES: [&str; 20] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "TAG_INVALID",
    "MANIFEST_UNVERIFIED",
    "RANGE_INVALID",
    "PAGINATION_NUMBER_INVALID",
    "UNKNOWN",
    "UNAVAILABLE",
];

/// A request on its way out.
pub(crate) struct Request {
    method: Method,
    url: String,
    builder: RequestBuilder,
}

impl Request {
    pub(super) fn new(client: &Client, method: Method, url: &str) -> Request {
        Request { builder: client.request(method.clone(), url), method, url: url.to_owned() }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Request {
        self.builder = self.builder.header(name, value);
        self
    }

    /// Sends a body with its length.
    pub(crate) fn body(mut self, body: &[u8]) -> Request {
        self.builder = self.builder.body(body.to_vec());
        self
    }

    /// Sends a body in HTTP chunks, its length unknown, as Docker does.
    pub(crate) fn stream(mut self, body: &[u8]) -> Request {
        self.builder = self.builder.body(Body::new(std::io::Cursor::new(body.to_vec())));
        self
    }

    /// Sends the request, and checks of the reply what has to hold for all of them.
    #[track_caller]
    pub(crate) fn send(self) -> Reply {
        let what = format!("{} {}", self.method, self.url);
        let mut response = self.builder.send().unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let mut body = Vec::new();
        response.read_to_end(&mut body).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let reply =
            Reply { what, status: response.status().as_u16(), headers: response.headers().clone(), body };
        reply.check_manners(self.method == Method::HEAD);
        reply
    }
}

/// What the server has answered.
pub(crate) struct Reply {
    what: String,
    /// The status code.
    pub(crate) status: u16,
    headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// How many header lines it has.
    pub(crate) fn header_count(&self) -> usize {
        self.headers.len()
    }

    #[track_caller]
    fn check_manners(&self, is_head: bool) {
        assert_eq!(self.get("content-encoding"), None, "{}: bodies are served as they are stored", self.what);
        if is_head {
            assert!(self.body.is_empty(), "{}: HEAD has no body", self.what);
            return;
        }
        if let Some(length) = self.get("content-length") {
            assert_eq!(length, self.body.len().to_string(), "{}: Content-Length", self.what);
        }
        if self.status >= 400 {
            self.check_envelope();
        }
    }

    /// Section 1.8: `{"errors":[{"code","message","detail"}]}` with a known code.
    #[track_caller]
    fn check_envelope(&self) {
        assert_eq!(self.get("content-type"), Some("application/json"), "{}: {}", self.what, self.text());
        let body: Value =
            serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.what, self.text()));
        let errors = body["errors"].as_array().unwrap_or_else(|| panic!("{}: {body}", self.what));
        assert!(!errors.is_empty(), "{}: {body}", self.what);
        for error in errors {
            let code = error["code"].as_str().unwrap_or_default();
            assert!(ERROR_CODES.contains(&code), "{}: {body}", self.what);
            let message = error["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty(), "{}: {body}", self.what);
        }
        if self.status >= 500 {
            assert!(
                !self.text().contains('/'),
                "{}: a path of the server is nobody's business: {body}",
                self.what
            );
        }
    }

    /// Asserts the status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{}: {:?} {}", self.what, self.headers, self.text());
        self
    }

    /// Asserts the status and the code of an error.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, code: &str) -> Reply {
        let reply = self.expect(status);
        assert_eq!(reply.error_code(), code, "{}: {}", reply.what, reply.text());
        reply
    }

    /// Asserts the status to be one of several that the specification allows.
    #[track_caller]
    pub(crate) fn expect_one_of(self, statuses: &[u16]) -> Reply {
        assert!(statuses.contains(&self.status), "{}: {} {}", self.what, self.status, self.text());
        self
    }

    /// Asserts a header's value.
    #[track_caller]
    pub(crate) fn expect_header(self, name: &str, value: impl Display) -> Reply {
        assert_eq!(
            self.get(name),
            Some(value.to_string().as_str()),
            "{}: {name} in {:?}",
            self.what,
            self.headers
        );
        self
    }

    /// Asserts that a header is absent.
    #[track_caller]
    pub(crate) fn expect_no_header(self, name: &str) -> Reply {
        assert_eq!(self.get(name), None, "{}: {name}", self.what);
        self
    }

    /// Asserts the body, without printing all of a large one.
    #[track_caller]
    pub(crate) fn expect_body(self, body: &[u8]) -> Reply {
        assert!(self.body == body, "{}: {} bytes instead of {}", self.what, self.body.len(), body.len());
        self
    }

    /// Returns a header.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Returns a header that has to be there.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("{}: no {name} in {:?}", self.what, self.headers))
    }

    /// Returns all values of a header that may be repeated or separated by commas.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let all = self.headers.get_all(name).iter();
        all.flat_map(|value| value.to_str().unwrap().split(','))
            .map(|value| value.trim().to_owned())
            .collect()
    }

    /// Returns where an upload goes on, or where something lies now.
    #[track_caller]
    pub(crate) fn location(&self) -> String {
        self.header("location").to_owned()
    }

    /// Returns the target of a `Link` to the next page.
    #[track_caller]
    pub(crate) fn next(&self) -> Option<String> {
        let link = self.get("link")?;
        let target = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
        Some(target.unwrap_or_else(|| panic!("{}: {link}", self.what)).to_owned())
    }

    /// Returns the code of the first error.
    #[track_caller]
    pub(crate) fn error_code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.what, self.text()))
    }

    /// Returns the strings of an array in the body.
    #[track_caller]
    pub(crate) fn strings(&self, field: &str) -> Vec<String> {
        let json = self.json();
        let array = json[field].as_array().unwrap_or_else(|| panic!("{}: {json}", self.what));
        array.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    }

    /// Returns the whole body as text.
    pub(crate) fn text_whole(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Returns the beginning of the body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(2000).collect()
    }
}

impl Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {:?} {}", self.what, self.status, self.headers, self.text())
    }
}

/// An answer as it came over the wire.
pub(crate) struct RawReply {
    /// The status code.
    pub(crate) status: u16,
    /// The status line and the headers.
    pub(crate) head: String,
    /// Everything behind the headers.
    pub(crate) body: String,
}

impl RawReply {
    #[track_caller]
    pub(super) fn parse(answer: &[u8]) -> RawReply {
        let text = String::from_utf8_lossy(answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        RawReply {
            status: status.unwrap_or_else(|| panic!("{head}")),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}
