//! The list of repositories.

use crate::support::Server;

#[test]
fn s2_8_repositories_are_listed_in_order() {
    let server = Server::start();
    assert_eq!(server.get("/v2/_catalog").send().expect(200).strings("repositories"), [""; 0]);
    for name in ["b", "a/z", "a", "a-b", "a.b", "library/busybox"] {
        server.push_image(name, "v1", 1);
    }
    let reply =
        server.get("/v2/_catalog").send().expect(200).expect_header("content-type", "application/json");
    assert_eq!(reply.strings("repositories"), ["a", "a-b", "a.b", "a/z", "b", "library/busybox"]);
    assert_eq!(reply.next(), None);
}

#[test]
fn s2_8_pages_of_n_after_last() {
    let server = Server::start();
    let all: Vec<String> = (0..7).map(|n| format!("team/app-{n}")).collect();
    for name in &all {
        server.push_image(name, "v1", 1);
    }
    let mut found = Vec::new();
    let mut next = Some("/v2/_catalog?n=3".to_owned());
    let mut pages = 0;
    while let Some(target) = next {
        assert!(target.starts_with("/v2/_catalog?"), "{target}");
        let page = server.get(&target).send().expect(200);
        found.extend(page.strings("repositories"));
        next = page.next();
        pages += 1;
    }
    assert_eq!((found, pages), (all, 3));
    let after =
        |query: &str| server.get(&format!("/v2/_catalog?{query}")).send().expect(200).strings("repositories");
    assert_eq!(after("last=team/app-4"), ["team/app-5", "team/app-6"]);
    assert_eq!(after("last=team%2Fapp-4&n=1"), ["team/app-5"]);
    assert_eq!(after("last=team/app-45"), ["team/app-5", "team/app-6"]);
    assert_eq!(after("n=0"), [""; 0]);
}

#[test]
fn s2_8_a_large_n_is_clamped_rather_than_refused() {
    let server = Server::start();
    server.push_image("a", "v1", 1);
    for n in ["1000", "100000"] {
        assert_eq!(
            server.get(&format!("/v2/_catalog?n={n}")).send().expect(200).strings("repositories"),
            ["a"]
        );
    }
    server.get("/v2/_catalog?n=x").send().expect(400);
}
