//! The snippets of the pages in `docs`, as a reader copies them.

use std::net::SocketAddr;

/// What the page calls the machine that Orlop runs on.
const MACHINE: &str = "cache.lan:5000";

/// A snippet of `docs/cache.md`, by the name in the mark before it.
pub(crate) fn snippet(name: &str) -> String {
    snippet_of("cache.md", name)
}

/// A snippet of a page.
pub(crate) fn snippet_of(page: &str, name: &str) -> String {
    let path = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mark = format!("<!-- tested: {name} -->\n```");
    let (_, block) = page.split_once(&mark).unwrap_or_else(|| panic!("{path} has no snippet {name}"));
    let (_, block) = block.split_once('\n').expect("a block has a first line");
    let (text, _) = block.split_once("\n```").expect("a block has an end");
    format!("{text}\n")
}

/// The same for the clients of a server.
pub(crate) fn snippet_for(server: SocketAddr, name: &str) -> String {
    let text = snippet(name);
    assert!(text.contains(MACHINE), "the snippet {name} says nothing of {MACHINE}");
    text.replace(MACHINE, &server.to_string())
}

/// A configuration whose upstreams are at these addresses, without TLS.
pub(crate) fn configuration(text: &str, upstreams: &[(&str, SocketAddr)]) -> String {
    let mut text = text.to_owned();
    for (host, address) in upstreams {
        let host = format!("host = {host:?}\n");
        let both = format!("{host}url = \"http://{address}\"\n");
        if text.contains(&host) {
            text = text.replace(&host, &both);
        } else {
            text = format!("{text}\n[[upstream]]\n{both}");
        }
    }
    text
}
