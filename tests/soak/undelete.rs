//! Undoing deletions over the socket of the admin API, as the `orlop` command does.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::worker::Scene;

/// What was deleted.
pub(crate) enum Name<'a> {
    Repository,
    Tag(&'a str),
    Digest(&'a str),
}

/// Undoes a deletion that was asked for at `since`; says whether it is undone. It has to be while it can be.
pub(crate) fn undelete(scene: &Scene<'_>, repository: &str, name: &Name<'_>, since: Instant) -> bool {
    let mut target = serde_json::json!({"repository": repository});
    match name {
        Name::Repository => {}
        Name::Tag(tag) => target["tag"] = (*tag).into(),
        Name::Digest(digest) => target["digest"] = (*digest).into(),
    }
    // A server that was killed may have undone it, or not.
    let mut is_first = true;
    loop {
        let answer = ask(scene, &target.to_string());
        match answer.as_deref().map(|answer| answer.get(9..12).unwrap_or_default()) {
            Some("200") => return true,
            Some("404" | "409") if !is_first => return false,
            Some(_) if since.elapsed() >= scene.undo => return false,
            Some(_) => panic!("{target} can't be undeleted: {}", answer.expect("it is there")),
            None => is_first = false,
        }
    }
}

/// The answer; none where the server was killed.
fn ask(scene: &Scene<'_>, body: &str) -> Option<String> {
    let mut stream = UnixStream::connect(&scene.socket).ok()?;
    let len = body.len();
    let head = "POST /v2/_orlop/admin/undelete HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}
