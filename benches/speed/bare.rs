//! A bare axum handler: what a server in Rust can do that has nothing to look up and nothing to say about its requests. It is this very
//! program, started once more.

use std::fs;
use std::path::Path;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::processors::Processors;
use crate::program::Program;
use crate::setting::Setting;

/// The first argument of the process.
pub(crate) const ARGUMENT: &str = "bare-axum";

/// What it answers to everything: always the same.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The headers, `Date` aside.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

/// Starts it on these processors.
pub(crate) fn start(setting: &Setting, answer: &Answer, on: &Processors) -> Program {
    let folder = setting.folder();
    let file = folder.path().join("answer.json");
    fs::write(&file, serde_json::to_vec(answer).expect("it is JSON")).expect("a file can be written");
    Program::own("bare axum", &[ARGUMENT, &file.display().to_string()], on)
}

#[derive(Clone)]
struct Prepared {
    headers: HeaderMap,
    body: Bytes,
}

/// Is that process, until it is ended.
pub(crate) fn serve(file: &Path) {
    let answer: Answer =
        serde_json::from_slice(&fs::read(file).expect("it can be read")).expect("it is JSON");
    let headers = answer.headers.iter().map(|(name, value)| {
        let name: HeaderName = name.parse().expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    });
    let prepared = Prepared { headers: headers.collect(), body: answer.body.into() };
    let router = Router::new().fallback(respond).with_state(std::sync::Arc::new(prepared));
    tokio::runtime::Runtime::new().expect("it starts").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        println!("Listening on http://{}", listener.local_addr().expect("it is bound"));
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).await.expect("it goes on");
    });
}

async fn respond(State(prepared): State<std::sync::Arc<Prepared>>, asked: HeaderMap) -> Response {
    let headers = prepared.headers.clone();
    if asked.contains_key(IF_NONE_MATCH) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, prepared.body.clone()).into_response()
}
