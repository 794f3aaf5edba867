//! A bare axum handler: what a server in Rust can do that has nothing to say about its requests, and either nothing to look up or one of as
//! many answers as there are, which lie in memory ready made. It is this very program, started once more.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::processors::Processors;
use crate::program::Program;
use crate::setting::Setting;

/// The first argument of the process.
pub(crate) const ARGUMENT: &str = "bare-axum";

/// An answer, ready made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The headers, `Date` aside.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answers {
    /// Always the same.
    One(Answer),
    /// Another one for each path.
    ByPath(HashMap<String, Answer>),
}

/// Starts it on these processors.
pub(crate) fn start(setting: &Setting, name: &str, answers: &Answers, on: &Processors) -> Program {
    let folder = setting.folder();
    let file = folder.path().join("answers.json");
    fs::write(&file, serde_json::to_vec(answers).expect("it is JSON")).expect("a file can be written");
    Program::own(name, &[ARGUMENT, &file.display().to_string()], on)
}

#[derive(Clone)]
struct Prepared {
    headers: HeaderMap,
    body: Bytes,
}

impl From<Answer> for Prepared {
    fn from(answer: Answer) -> Prepared {
        let headers = answer.headers.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        });
        Prepared { headers: headers.collect(), body: answer.body.into() }
    }
}

impl Prepared {
    fn respond(&self, asked: &HeaderMap) -> Response {
        let headers = self.headers.clone();
        if asked.contains_key(IF_NONE_MATCH) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, self.body.clone()).into_response()
    }
}

/// Is that process, until it is ended.
pub(crate) fn serve(file: &Path) {
    let answers: Answers =
        serde_json::from_slice(&fs::read(file).expect("it can be read")).expect("it is JSON");
    let router = match answers {
        Answers::One(answer) => Router::new().fallback(always).with_state(Arc::new(answer.into())),
        Answers::ByPath(answers) => {
            let prepared = answers.into_iter().map(|(path, answer)| (path, answer.into()));
            Router::new().fallback(by_path).with_state(Arc::new(prepared.collect()))
        }
    };
    tokio::runtime::Runtime::new().expect("it starts").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        println!("Listening on http://{}", listener.local_addr().expect("it is bound"));
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).await.expect("it goes on");
    });
}

async fn always(State(prepared): State<Arc<Prepared>>, asked: HeaderMap) -> Response {
    prepared.respond(&asked)
}

async fn by_path(
    State(prepared): State<Arc<HashMap<String, Prepared>>>,
    uri: Uri,
    asked: HeaderMap,
) -> Response {
    match prepared.get(uri.path()) {
        Some(prepared) => prepared.respond(&asked),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
