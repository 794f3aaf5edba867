//! The cache and its upstreams in the configuration.

use std::fs;
use std::path::Path;
use std::time::Duration;

use orlop::client::registry::Credentials;
use orlop::config::{Config, Input, Password, Upstream};
use orlop::proxy;
use orlop::server::{cache_settings, registry_options};

use super::{directory, mistake, variable, with_file};

/// The upstreams by host and URL.
fn upstreams(input: &Input) -> Vec<(String, String)> {
    let config = input.load().unwrap().config;
    config.upstreams.iter().map(|upstream| (upstream.host.clone(), upstream.address().to_string())).collect()
}

#[test]
fn one_line_names_the_upstreams_of_the_cache() {
    let directory = directory();
    let both = [("docker.io", "https://registry-1.docker.io/"), ("ghcr.io", "https://ghcr.io/")];
    let both = both.map(|(host, url)| (host.to_owned(), url.to_owned()));
    for text in [
        "cache = [\"docker.io\", \"ghcr.io\"]",
        "cache = { upstreams = [\"index.docker.io\", \"GHCR.io\"] }",
        "[cache]\nupstreams = [\"registry-1.docker.io\"]\n[[upstream]]\nhost = \"ghcr.io\"",
    ] {
        let mut found = upstreams(&with_file(directory.path(), text));
        found.sort();
        assert_eq!(found, both, "{text}");
    }
    let environment = vec![variable("ORLOP_CACHE_UPSTREAMS", "docker.io,ghcr.io")];
    assert_eq!(upstreams(&Input { environment, ..Input::default() }), both);
    for name in ["cache", "cache.upstreams"] {
        let assignments = vec![format!("{name}=docker.io, ghcr.io")];
        let loaded = Input { assignments, ..Input::default() };
        assert_eq!(upstreams(&loaded), both);
        assert!(loaded.load().unwrap().warnings.is_empty(), "a short name is as good");
    }
    let flags = vec![("--cache", "cache.upstreams", "quay.io".to_owned())];
    let flag = Input { flags, ..with_file(directory.path(), "cache = [\"docker.io\"]") };
    assert_eq!(upstreams(&flag), [("quay.io".to_owned(), "https://quay.io/".to_owned())]);
    assert_eq!(upstreams(&Input::default()), []);
}

#[test]
fn every_key_of_the_cache_and_its_upstreams_arrives_in_its_field() {
    let directory = directory();
    let text = r#"
        [cache]
        upstreams = ["docker.io", "reg.example.org:5000"]
        default = "reg.example.org:5000"
        local = ["team/**"]
        max_size = "100 GiB"
        pinned = ["docker.io/library/*:1.*"]
        keep_superseded = "2h"
        [[upstream]]
        host = "reg.example.org:5000"
        url = "http://127.0.0.1:1/hub"
        username = "anna"
        password_env = "ORLOP_TEST_PASSWORD"
        ca = "ca.pem"
        public = true
        revalidate_after = "1m"
        patience = "1s"
        connect_timeout = "2s"
        first_byte_timeout = "3s"
        idle_timeout = "4s"
        max_size = "200 GiB"
        allow = ["a/**"]
        deny = ["a/b"]
        offline = true
    "#;
    let mut input = with_file(directory.path(), text);
    // Its name may begin like those of the settings.
    input.environment.push(variable("ORLOP_TEST_PASSWORD", "sesame"));
    let loaded = input.load().unwrap();
    assert!(!format!("{loaded:?}").contains("sesame"));
    let Config { cache, upstreams, .. } = loaded.config;
    assert_eq!(cache.default.as_deref(), Some("reg.example.org:5000"));
    assert_eq!((cache.local.to_string().as_str(), cache.max_size), ("team/**", Some(100 << 30)));
    assert_eq!(
        (cache.pinned[0].repository.to_string().as_str(), cache.pinned.len()),
        ("docker.io/library/*", 1)
    );
    assert_eq!(cache.keep_superseded, Duration::from_secs(7200));
    let [own, hub] = &upstreams[..] else { panic!("two upstreams") };
    assert_eq!((own.host.as_str(), own.folder().as_str()), ("reg.example.org:5000", "reg.example.org_5000"));
    assert_eq!(own.address().to_string(), "http://127.0.0.1:1/hub");
    let password = Password::Environment("ORLOP_TEST_PASSWORD".to_owned());
    assert_eq!(own.user, Some(("anna".to_owned(), password)));
    assert_eq!(own.root_certificates.as_deref(), Some(Path::new("ca.pem")));
    assert!(own.is_public && own.is_offline && !hub.is_public && !hub.is_offline);
    let seconds = |upstream: &Upstream| {
        let Upstream {
            revalidate_after, patience, connect_timeout, first_byte_timeout, idle_timeout, ..
        } = upstream;
        [revalidate_after, patience, connect_timeout, first_byte_timeout, idle_timeout].map(Duration::as_secs)
    };
    assert_eq!((seconds(own), seconds(hub)), ([60, 1, 2, 3, 4], [900, 5, 10, 30, 30]));
    assert_eq!((own.max_size, hub.max_size), (Some(200 << 30), None));
    assert_eq!((own.allow.to_string().as_str(), own.deny.to_string().as_str()), ("a/**", "a/b"));
    assert!(hub.allow.is_everything() && hub.user.is_none());
    for (text, default) in [("", Some("docker.io")), ("default = \"\"", None)] {
        let file = with_file(directory.path(), &format!("[cache]\nupstreams = [\"docker.io\"]\n{text}\n"));
        assert_eq!(file.load().unwrap().config.cache.default.as_deref(), default);
    }
}

#[test]
fn a_mistake_about_the_cache_is_named_with_its_line_and_what_to_write() {
    let directory = directory();
    let begin = "[[upstream]]\nhost = \"docker.io\"\n";
    for (lines, parts) in [
        ("[[upstream]]\nurl = \"http://a\"", &["line 3", "[[upstream]]", "no \"host\""][..]),
        ("[[upstream]]\nhost = \"index.docker.io\"", &["line 4", "upstream.host", "docker.io", "once"]),
        ("[[upstream]]\nhost = \"team\"", &["line 4", "upstream.host", "ghcr.io"]),
        ("[[upstream]]\nhost = \"https://ghcr.io\"", &["line 4", "without https://"]),
        ("url = \"ftp://a\"", &["line 3", "upstream.url", "write a host such as"]),
        ("username = \"anna\"", &["line 3", "upstream.username", "password_file or password_env"]),
        ("username = \"a:b\"\npassword_env = \"P\"", &["line 3", "upstream.username", "colon"]),
        ("password_file = \"p\"", &["line 3", "upstream.password_file", "`username`"]),
        ("password_env = \"P\"", &["line 3", "upstream.password_env", "`username`"]),
        (
            "username = \"a\"\npassword_env = \"P\"\npassword_file = \"p\"",
            &["line 4", "upstream.password_env", "either"],
        ),
        ("password = \"sesame\"", &["line 3", "nearest is \"upstream.password_", "\"upstream.password\""]),
        (
            "username = \"anna\"\npassword_env = \"dckr_sesame\"",
            &["line 4", "upstream.password_env", "in capitals"],
        ),
        ("password_env = [\"sesame\"]", &["line 3", "upstream.password_env", "string"]),
        ("allow = [\"A\"]", &["line 3", "upstream.allow", "team/**"]),
        ("max_size = \"much\"", &["line 3", "upstream.max_size", "MiB"]),
        ("idle_timeout = \"0s\"", &["line 3", "upstream.idle_timeout", "too short"]),
        ("[cache]\ndefault = \"ghcr.io\"", &["line 4", "cache.default", "ghcr.io", "\"\" for none"]),
        ("[cache]\npinned = [\"busybox\"]", &["line 4", "cache.pinned", "docker.io/library/*"]),
        ("[cache]\nupstreams = [\"ghcr.io\", \"ghcr.io\"]", &["line 4", "cache.upstreams", "twice"]),
        ("[cache]\nupstreams = \"ghcr.io\"", &["line 4", "cache.upstreams", "list of strings"]),
        ("[cache]\nupstream = [\"ghcr.io\"]", &["line 4", "nearest is \"cache.upstreams\""]),
    ] {
        let message = mistake(&with_file(directory.path(), &format!("{begin}{lines}\n")));
        for part in parts {
            assert!(message.contains(part), "{lines}: {part} is not in: {message}");
        }
        assert!(!message.contains("sesame"), "{message}");
    }
    let twice = "cache = [\"ghcr.io\"]\n[cache]\nmax_size = \"1 GiB\"\n";
    let message = mistake(&with_file(directory.path(), twice));
    assert!(message.contains("line 2") && message.contains("`upstreams = […]`"), "{message}");
    let message = mistake(&with_file(directory.path(), "cache = [\"team\"]\n"));
    assert!(message.contains("line 1") && message.contains("\"cache.upstreams\""), "{message}");
    let message = mistake(&with_file(directory.path(), "[upstream]\nhost = \"ghcr.io\"\n"));
    assert!(message.contains("[[upstream]] in the file"), "{message}");
}

/// What the settings of the cache are, or why there are none.
fn cache(directory: &Path, lines: &str) -> Result<proxy::Settings, String> {
    let file =
        with_file(directory, &format!("[[upstream]]\nhost = \"ghcr.io\"\nusername = \"anna\"\n{lines}\n"));
    let settings = cache_settings(&file.load().unwrap().config);
    settings.map(Option::unwrap).map_err(|error| error.to_string())
}

#[test]
fn a_password_is_read_from_its_place_and_never_shown() {
    let directory = directory();
    let path = directory.path().join("password");
    let from_file = format!("password_file = {:?}", path.to_str().unwrap());
    let message = cache(directory.path(), &from_file).unwrap_err();
    for part in ["ghcr.io", path.to_str().unwrap(), "password_file"] {
        assert!(message.contains(part), "{message}");
    }
    let expected = Credentials::new("anna", "open sesame").unwrap();
    for ending in ["", "\n", "\r\n"] {
        fs::write(&path, format!("open sesame{ending}")).unwrap();
        let settings = cache(directory.path(), &from_file).unwrap();
        assert_eq!(settings.upstreams[0].client.credentials, Some(expected.clone()));
        assert!(settings.upstreams[0].is_private());
        let shown = format!("{settings:?}");
        assert!(!shown.contains("anna") && !shown.contains("sesame"), "{shown}");
    }
    for unsendable in ["", "\n", "open\nsesame"] {
        fs::write(&path, unsendable).unwrap();
        let message = cache(directory.path(), &from_file).unwrap_err();
        assert!(message.contains("ghcr.io") && !message.contains("sesame"), "{message}");
    }
    // A variable that every environment has.
    let settings = cache(directory.path(), "password_env = \"PATH\"").unwrap();
    let path = std::env::var("PATH").unwrap();
    assert_eq!(settings.upstreams[0].client.credentials, Some(Credentials::new("anna", &path).unwrap()));
    let message = cache(directory.path(), "password_env = \"NO_SUCH_VARIABLE\"").unwrap_err();
    assert!(
        message.contains("NO_SUCH_VARIABLE is not set") || message.contains("variable NO_SUCH_VARIABLE"),
        "{message}"
    );
}

#[test]
fn the_default_is_docker_hub_where_that_is_cached() {
    for (hosts, default) in [("docker.io,ghcr.io", Some("docker.io")), ("ghcr.io", None)] {
        let input = Input { assignments: vec![format!("cache={hosts}")], ..Input::default() };
        let settings = cache_settings(&input.load().unwrap().config).unwrap().unwrap();
        assert_eq!(settings.default.as_deref(), default, "{hosts}");
    }
    assert!(cache_settings(&Config::default()).unwrap().is_none());
}

#[test]
fn what_is_cached_is_in_the_scope() {
    let assignments = vec!["scope=team/**".to_owned(), "cache=docker.io,localhost:5000".to_owned()];
    let config = Input { assignments, ..Input::default() }.load().unwrap().config;
    let policy = registry_options(&config).policy;
    for name in ["docker.io/library/busybox", "localhost_5000/a", "team/app"] {
        let name = name.parse().unwrap();
        assert!(policy.scope.contains(&name), "{name}");
        assert_eq!(policy.upstream_of(&name).is_some(), !name.as_str().starts_with("team"), "{name}");
    }
    assert!(!policy.scope.contains(&"other/app".parse().unwrap()));
}
