//! Lists of tags.

use crate::support::Server;

fn with_tags(tags: &[&str]) -> Server {
    let server = Server::start();
    let image = server.push_image("a/b", "", 1);
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    server.put_manifest("a/b", &format!("{}?{}", image.digest(), query.join("&")), &image).expect(201);
    server
}

#[test]
fn row_8a_tags_are_listed_in_order() {
    let server = with_tags(&["b", "a", "10", "Z", "9", "_x", "a.b", "a-b"]);
    let reply =
        server.get("/v2/a/b/tags/list").send().expect(200).expect_header("content-type", "application/json");
    assert_eq!(reply.json()["name"], "a/b");
    assert_eq!(reply.strings("tags"), ["10", "9", "Z", "_x", "a", "a-b", "a.b", "b"]);
    reply.expect_no_header("link");
}

#[test]
fn row_8a_an_unknown_repository_is_404() {
    Server::start().get("/v2/never/heard-of/tags/list").send().expect_error(404, "NAME_UNKNOWN");
}

#[test]
fn row_8b_pages_of_n_after_last() {
    let server = with_tags(&["a", "b", "c", "d", "e"]);
    let page = |query: &str| server.get(&format!("/v2/a/b/tags/list?{query}")).send().expect(200);
    let first = page("n=2");
    assert_eq!(first.strings("tags"), ["a", "b"]);
    let second = server.get(&first.next().unwrap()).send().expect(200);
    assert_eq!(second.strings("tags"), ["c", "d"]);
    let third = server.get(&second.next().unwrap()).send().expect(200);
    assert_eq!((third.strings("tags"), third.next()), (vec!["e".to_owned()], None));
    assert_eq!(page("n=2&last=b").strings("tags"), ["c", "d"]);
    let exact = page("n=5");
    assert_eq!((exact.strings("tags").len(), exact.next()), (5, None));
    assert_eq!(page("n=100").strings("tags").len(), 5);
}

#[test]
fn s1_6_last_need_not_exist_nor_come_with_n() {
    let server = with_tags(&["a", "c", "e"]);
    let tags =
        |query: &str| server.get(&format!("/v2/a/b/tags/list?{query}")).send().expect(200).strings("tags");
    assert_eq!(tags("last=b"), ["c", "e"]);
    assert_eq!(tags("last=c"), ["e"]);
    assert_eq!(tags("last=e"), [""; 0]);
    assert_eq!(tags("n=1&last=b"), ["c"]);
    assert_eq!(tags("last="), ["a", "c", "e"]);
}

#[test]
fn s1_6_n_of_zero_is_an_empty_list_without_a_link() {
    let server = with_tags(&["a", "b"]);
    let reply = server.get("/v2/a/b/tags/list?n=0").send().expect(200);
    assert_eq!((reply.strings("tags").len(), reply.next()), (0, None));
}

#[test]
fn s1_6_an_n_that_is_no_number_is_refused() {
    let server = with_tags(&["a"]);
    for n in ["-1", "x", "1.5", "99999999999999999999999"] {
        server.get(&format!("/v2/a/b/tags/list?n={n}")).send().expect_one_of(&[400, 200]);
    }
    server.get("/v2/a/b/tags/list?n=x").send().expect(400);
    assert_eq!(server.get("/v2/a/b/tags/list?n=1000000").send().expect(200).strings("tags"), ["a"]);
}

#[test]
fn s1_6_links_are_relative_and_walk_through_everything() {
    let server = Server::start();
    let image = server.push_image("a/b", "", 1);
    let all: Vec<String> = (0..257).map(|n| format!("v{n:04}")).collect();
    for some in all.chunks(50) {
        let query: Vec<String> = some.iter().map(|tag| format!("tag={tag}")).collect();
        server.put_manifest("a/b", &format!("{}?{}", image.digest(), query.join("&")), &image).expect(201);
    }
    let mut found = Vec::new();
    let mut next = Some("/v2/a/b/tags/list?n=10".to_owned());
    while let Some(target) = next {
        assert!(target.starts_with("/v2/a/b/tags/list?"), "{target}");
        let page = server.get(&target).send().expect(200);
        found.extend(page.strings("tags"));
        next = page.next();
    }
    assert_eq!(found, all);
}

#[test]
fn a_repository_without_tags_has_an_empty_list() {
    let server = Server::start();
    server.push_image("a", "", 1);
    assert_eq!(server.get("/v2/a/tags/list").send().expect(200).strings("tags"), [""; 0]);
}
