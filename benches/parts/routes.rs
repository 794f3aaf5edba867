//! Routes: from a method and a path to what is asked for.

use std::hint::black_box;

use http::Method;
use orlop::http::Operation;

use crate::case::Case;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn case(name: &'static str, method: Method, path: String) -> Case {
    assert!(Operation::of(&method, &path).is_ok(), "{path} has an end-point");
    Case::new(name, 1_000, move || {
        black_box(Operation::of(black_box(&method), black_box(&path))).expect("it has an end-point");
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let upload = "/v2/library/busybox/blobs/uploads/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    let unknown = "/v2/library/busybox/nothing/of/this";
    vec![
        case("routes/the API", Method::GET, "/v2/".to_owned()),
        case("routes/manifest by tag", Method::GET, "/v2/library/busybox/manifests/latest".to_owned()),
        case("routes/manifest by digest", Method::HEAD, format!("/v2/library/busybox/manifests/{DIGEST}")),
        case("routes/blob", Method::GET, format!("/v2/team/project/app/blobs/{DIGEST}")),
        case("routes/chunk of an upload", Method::PATCH, upload.to_owned()),
        case(
            "routes/escaped",
            Method::GET,
            format!("/v2/library%2Fbusybox/blobs/{DIGEST}").replace(':', "%3A"),
        ),
        Case::new("routes/no end-point", 1_000, move || {
            black_box(Operation::of(&Method::GET, black_box(unknown)))
                .expect_err("no end-point has this path");
        }),
    ]
}
