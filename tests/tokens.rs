//! Bearer tokens: the token endpoint, challenges, and what a token opens.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use support::{FaultyUpstream, Reply, Server, image, sha256};
use tempfile::TempDir;

const RULES: &str = r#"
[[rule]]
repositories = ["public/**", "docker.io/library/*"]
who = ["anonymous"]
actions = ["pull"]

[[rule]]
repositories = ["team/**", "public/**"]
who = ["user:anna"]
actions = ["pull", "push", "delete"]

[[rule]]
repositories = ["team/shared"]
who = ["user:bo"]
actions = ["pull"]

[[rule]]
repositories = ["bo/**"]
who = ["user:bo"]
actions = ["pull", "push"]

[[rule]]
repositories = ["**"]
who = ["authenticated"]
actions = ["list"]
"#;

/// Writes a file of users whose passwords are their names.
fn write_users(path: &Path, users: &[&str]) {
    let line = |user: &&str| format!("{user}:{}\n", bcrypt::hash(user, 4).unwrap());
    std::fs::write(path, users.iter().map(line).collect::<String>()).unwrap();
}

/// A server with the rules, where anna and bo are users, and more configuration in front of the rules.
fn start(top: &str, tables: &str) -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("users");
    write_users(&path, &["anna", "bo"]);
    let file = format!("access.htpasswd = {:?}\n{top}\n{RULES}\n{tables}", path.display().to_string());
    (dir, Server::with_file(&file, &[]))
}

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{user}")))
}

/// A token for a user, or for nobody, with these scopes.
fn token(server: &Server, who: &str, scopes: &[&str]) -> String {
    let scopes = scopes.iter().fold(String::new(), |all, scope| all + "&scope=" + scope);
    let request = server.get(&format!("/v2/_orlop/token?service={}{scopes}", server.host()));
    let request = if who.is_empty() { request } else { request.header("authorization", &basic(who)) };
    request.send().expect(200).json()["token"].as_str().unwrap().to_owned()
}

/// GET with a token, or without one.
fn get(server: &Server, token: &str, target: &str) -> Reply {
    match token {
        "" => server.get(target).send(),
        token => server.get(target).header("authorization", &format!("Bearer {token}")).send(),
    }
}

/// The payload of a token.
fn claims(token: &str) -> Value {
    let text = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// What a token is for: `team/a:pull,push`, and so on.
fn access(token: &str) -> Vec<String> {
    let claims = claims(token);
    let words = |grant: &Value| {
        let actions: Vec<&str> =
            grant["actions"].as_array().unwrap().iter().map(|action| action.as_str().unwrap()).collect();
        format!("{}:{}", grant["name"].as_str().unwrap(), actions.join(","))
    };
    claims["access"].as_array().unwrap().iter().map(words).collect()
}

/// Pushes an image by Basic as anna.
fn push_image(server: &Server, name: &str) -> String {
    let (config, authorization) = (format!("{{\"of\":\"{name}\"}}").into_bytes(), basic("anna"));
    let digest = sha256(&config);
    let target = format!("/v2/{name}/blobs/uploads/?digest={digest}");
    server.post(&target).header("authorization", &authorization).body(&config).send().expect(201);
    let image = image(&config, &[], &json!({}));
    let request = server.put(&format!("/v2/{name}/manifests/1")).header("authorization", &authorization);
    request.header("content-type", &image.media_type).body(&image.bytes).send().expect(201);
    digest
}

#[test]
fn a_challenge_names_the_token_endpoint_and_what_the_token_has_to_be_for() {
    let (_dir, server) = start("", "");
    let host = server.host();
    let front = format!("Bearer realm=\"http://{host}/v2/_orlop/token\",service=\"{host}\"");
    let ask = |method: &str, target: &str| {
        server.request(method.parse().unwrap(), target).send().expect_error(401, "UNAUTHORIZED")
    };
    let digest = sha256(b"");
    for (method, target, scope) in [
        ("GET", "/v2/".to_owned(), ""),
        ("GET", "/v2/_catalog".to_owned(), "registry:catalog:*"),
        ("GET", "/v2/team/a/manifests/1".to_owned(), "repository:team/a:pull"),
        ("GET", "/v2/team/a/tags/list?ns=docker.io".to_owned(), "repository:team/a:pull"),
        ("POST", "/v2/team/a/blobs/uploads/".to_owned(), "repository:team/a:pull,push"),
        (
            "POST",
            format!("/v2/team/a/blobs/uploads/?mount={digest}&from=team/b"),
            "repository:team/a:pull,push repository:team/b:pull",
        ),
        (
            "POST",
            format!("/v2/team/a/blobs/uploads/?mount={digest}&from=b%22,error=%22x"),
            "repository:team/a:pull,push",
        ),
        ("DELETE", "/v2/team/a/manifests/1".to_owned(), "repository:team/a:delete"),
        ("DELETE", "/v2/_orlop/repositories/team/a".to_owned(), "repository:team/a:delete"),
    ] {
        let expected = if scope.is_empty() { front.clone() } else { format!("{front},scope=\"{scope}\"") };
        let reply = ask(method, &target);
        assert_eq!(reply.header("www-authenticate"), expected, "{method} {target}");
    }
    // Whatever a client calls us, it can't write into our headers.
    for host in ["a\",error=\"x", "a b", "a,b", "a\\"] {
        let request = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let reply = server.raw(request.as_bytes());
        assert!([400, 401].contains(&reply.status), "{host}: {}", reply.head);
        assert!(!reply.head.contains("error=") && !reply.head.contains(host), "{host}: {}", reply.head);
    }
}

#[test]
fn the_realm_is_below_the_external_url() {
    let (_dir, server) = start("external_url = \"https://reg.example:8443\"", "");
    let reply = server.get("/v2/").send().expect(401);
    let expected = "Bearer realm=\"https://reg.example:8443/v2/_orlop/token\",service=\"reg.example:8443\"";
    assert_eq!(reply.header("www-authenticate"), expected);
    let token = token(&server, "anna", &[]);
    assert_eq!(claims(&token)["aud"], "reg.example:8443");
    get(&server, &token, "/v2/").expect(200);
}

#[test]
fn a_token_is_for_what_was_asked_for_and_granted() {
    let (_dir, server) = start("", "");
    push_image(&server, "team/a");
    push_image(&server, "team/shared");
    let token = token(&server, "bo", &["repository:team/shared:pull,push", "repository:team/a:pull"]);
    assert_eq!(access(&token), ["team/shared:pull"], "what isn't granted is left out");
    get(&server, &token, "/v2/").expect(200);
    get(&server, &token, "/v2/team/shared/manifests/1").expect(200);
    get(&server, &token, "/v2/team/a/manifests/1").expect_error(403, "DENIED");
    // What the rules would allow, and the token isn't for, is asked for.
    let reply = get(&server, &token, "/v2/_catalog").expect_error(401, "UNAUTHORIZED");
    let challenge = reply.header("www-authenticate");
    assert!(challenge.ends_with(",scope=\"registry:catalog:*\",error=\"insufficient_scope\""), "{challenge}");
    let listing = self::token(&server, "bo", &["registry:catalog:*"]);
    assert_eq!(get(&server, &listing, "/v2/_catalog").expect(200).strings("repositories"), ["team/shared"]);
    get(&server, &listing, "/v2/team/shared/manifests/1").expect(401);
    let upload = server.post("/v2/bo/own/blobs/uploads/").header("authorization", &format!("Bearer {token}"));
    let challenge = upload.body(b"").send().expect(401).header("www-authenticate").to_owned();
    assert!(challenge.contains("scope=\"repository:bo/own:pull,push\",error="), "{challenge}");
}

#[test]
fn the_answer_has_what_every_client_looks_for() {
    let (_dir, server) = start("access.token_lifetime = \"2m\"", "");
    let target = "/v2/_orlop/token?service=x&account=anna&client_id=docker&offline_token=true";
    let by_get = server
        .get(&format!("{target}&scope=repository:team/a:*&scope=repository(plugin):team/b:pull+nonsense"));
    let reply = by_get.header("authorization", &basic("anna")).send().expect(200);
    assert_eq!(
        (reply.header("cache-control"), reply.header("content-type")),
        ("no-store", "application/json")
    );
    let answer = reply.json();
    assert_eq!(answer["token"], answer["access_token"]);
    assert_eq!(answer["expires_in"], 120);
    assert!(answer["issued_at"].as_str().unwrap().ends_with('Z') && answer["scope"].is_null());
    let token = answer["token"].as_str().unwrap();
    assert_eq!(access(token), ["team/a:pull,push,delete", "team/b:pull"]);
    let post = |form: &str| {
        let request = server.post("/v2/_orlop/token");
        request.header("content-type", "application/x-www-form-urlencoded").body(form.as_bytes()).send()
    };
    let form = "grant_type=password&service=x&client_id=containerd-client&access_type=offline&username=anna&password=anna\
                &scope=repository%3Ateam%2Fa%3Apull+repository%3Abo%2Fx%3Apull";
    let answer = post(form).expect(200).json();
    assert_eq!(answer["scope"], "repository:team/a:pull");
    assert_eq!(answer["token"], answer["access_token"]);
    assert_eq!(access(answer["access_token"].as_str().unwrap()), ["team/a:pull"]);
    assert!(answer["issued_at"].is_string() && answer["expires_in"].as_u64().unwrap() >= 60);
    post("grant_type=password&scope=repository:public/a:pull").expect(200);
    for (form, status) in [
        ("grant_type=password&username=anna&password=bo", 401),
        ("grant_type=refresh_token&refresh_token=x", 401),
        ("grant_type=refresh_token", 400),
        ("grant_type=client_credentials", 400),
        ("", 400),
        ("grant_type=%zz", 400),
        ("grant_type=password&username=a:b&password=c", 401),
    ] {
        post(form).expect(status);
    }
    let wrong = format!("Basic {}", STANDARD.encode("anna:bo"));
    let reply = server.get(target).header("authorization", &wrong).send().expect_error(401, "UNAUTHORIZED");
    assert!(reply.header("www-authenticate").starts_with("Basic "));
    // One token gets no other one: it would last for ever.
    get(&server, token, target).expect(401);
    post(&format!("grant_type=refresh_token&refresh_token={token}")).expect(401);
    let many = (0..65).fold(String::new(), |all, at| format!("{all}&scope=repository:team/{at}:pull"));
    server.get(&format!("{target}{many}")).send().expect(400);
    server.put("/v2/_orlop/token").send().expect_error(405, "UNSUPPORTED");
    post(&format!("grant_type=password&x={}", "x".repeat(70_000))).expect(400);
    assert!(!server.log().contains(token), "a token is a secret");
}

#[test]
fn nobody_in_particular_pulls_by_a_token_what_is_for_everybody() {
    let (_dir, server) = start("", "");
    push_image(&server, "public/a");
    push_image(&server, "team/a");
    get(&server, "", "/v2/").expect(401);
    let anonymous = token(&server, "", &["repository:public/a:pull,push", "repository:team/a:pull"]);
    assert_eq!(access(&anonymous), ["public/a:pull"]);
    assert_eq!(claims(&anonymous)["sub"], "");
    get(&server, &anonymous, "/v2/").expect(200);
    get(&server, &anonymous, "/v2/public/a/manifests/1").expect(200);
    let reply = get(&server, &anonymous, "/v2/team/a/manifests/1").expect_error(401, "UNAUTHORIZED");
    assert!(reply.header("www-authenticate").ends_with(",error=\"insufficient_scope\""));
    let upload = server.post("/v2/public/a/blobs/uploads/").body(b"");
    upload.header("authorization", &format!("Bearer {anonymous}")).send().expect_error(401, "UNAUTHORIZED");
}

#[test]
fn a_mount_needs_a_token_for_its_source() {
    let (_dir, server) = start("", "");
    let shared = push_image(&server, "team/shared");
    let secret = push_image(&server, "team/a");
    let mount = |scopes: &[&str], digest: &str, from: &str| {
        let token = token(&server, "bo", scopes);
        let request = server.post(&format!("/v2/bo/own/blobs/uploads/?mount={digest}&from={from}")).body(b"");
        request.header("authorization", &format!("Bearer {token}")).send().status
    };
    let own = "repository:bo/own:pull,push";
    assert_eq!(mount(&[own], &shared, "team/shared"), 202);
    assert_eq!(mount(&[own, "repository:team/a:pull"], &secret, "team/a"), 202);
    assert_eq!(mount(&[own, "repository:team/shared:pull"], &shared, "team/shared"), 201);
}

#[test]
fn a_token_for_a_name_opens_nothing_else_that_the_name_could_mean() {
    let upstream = FaultyUpstream::start();
    let config = b"{}";
    upstream.put_blob(config);
    let image = image(config, &[], &json!({}));
    upstream.put_manifest("1", &image.media_type, &image.bytes);
    let table = format!(
        "[[upstream]]\nhost = \"docker.io\"\nurl = {:?}\n[[upstream]]\nhost = \"ghcr.io\"\nurl = {:?}\n",
        upstream.url(),
        upstream.url()
    );
    let (_dir, server) = start("", &table);
    // Everybody may pull docker.io/library/*, and nobody library/* or ghcr.io/library/*.
    let anonymous = token(&server, "", &["repository:library/x:pull"]);
    assert_eq!(access(&anonymous), ["library/x:pull"], "clients name the upstream in the request only");
    get(&server, &anonymous, "/v2/library/x/manifests/1?ns=docker.io").expect(200);
    get(&server, &anonymous, "/v2/library/x/manifests/1?ns=ghcr.io").expect(401);
    get(&server, &anonymous, "/v2/ghcr.io/library/x/manifests/1").expect(401);
    // Without a host it is the default upstream's.
    get(&server, &anonymous, "/v2/library/x/manifests/1").expect(200);
    let full = token(&server, "", &["repository:docker.io/library/x:pull"]);
    get(&server, &full, "/v2/docker.io/library/x/manifests/1").expect(200);
    get(&server, &full, "/v2/library/x/manifests/1?ns=docker.io").expect(401);
    assert_eq!(access(&token(&server, "", &["repository:library/y/z:pull"])), Vec::<String>::new());
}

#[test]
fn a_token_ends_with_the_user_and_holds_over_a_restart() {
    let (dir, mut server) = start("", "");
    push_image(&server, "team/shared");
    let (anna, bo) = (token(&server, "anna", &[]), token(&server, "bo", &["repository:team/shared:pull"]));
    let host = server.host();
    server.stop();
    server.run_again();
    // The port is another one, and clients say where they want to go.
    let at_host = |token: &str, target: &str| {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        server.raw(request.as_bytes())
    };
    assert_eq!(at_host(&bo, "/v2/team/shared/manifests/1").status, 200);
    let elsewhere = get(&server, &bo, "/v2/").expect_error(401, "UNAUTHORIZED");
    assert!(elsewhere.header("www-authenticate").contains("error=\"invalid_token\""), "another audience");
    write_users(&dir.path().join("users"), &["anna"]);
    server.wait_for_line(&["read the users again"]);
    let reply = at_host(&bo, "/v2/team/shared/manifests/1");
    assert!(reply.status == 401 && reply.head.contains("error=\"invalid_token\""), "{}", reply.head);
    assert!(reply.head.contains("scope=\"repository:team/shared:pull\""), "{}", reply.head);
    assert_eq!(at_host(&anna, "/v2/").status, 200);
}

#[test]
fn the_key_is_replaced_by_command_beside_a_server_and_without_one() {
    let (_dir, mut server) = start("", "");
    let key = |token: &str| {
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
    };
    let file = server.data().join("token-keys.json");
    let rotate = |server: &Server, arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orlop"));
        command.args(["access", "rotate-key", "--json", "--data"]).arg(server.data()).args(arguments);
        let output = command.current_dir(server.data()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["key"].as_str().unwrap().to_owned()
    };
    let first = token(&server, "anna", &[]);
    let made = rotate(&server, &[]);
    let second = token(&server, "anna", &[]);
    assert_eq!((key(&second), key(&first) == made), (made.clone(), false));
    for token in [&first, &second] {
        get(&server, token, "/v2/").expect(200);
    }
    rotate(&server, &["--forget"]);
    for token in [&first, &second] {
        get(&server, token, "/v2/").expect(401);
    }
    let bits = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(bits & 0o777, 0o600);
    server.stop();
    let made = rotate(&server, &[]);
    server.run_again();
    assert_eq!(key(&token(&server, "anna", &[])), made);
}

#[test]
fn what_is_no_token_is_refused_everywhere() {
    let (_dir, server) = start("", "");
    push_image(&server, "public/a");
    let good = token(&server, "anna", &["repository:public/a:pull"]);
    let parts: Vec<&str> = good.split('.').collect();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let none = [&encode("{\"alg\":\"none\",\"typ\":\"JWT\"}"), parts[1], ""].join(".");
    let long = "x".repeat(20_000);
    for bad in [&none, &good[..good.len() - 1], "x", "a.b.c", &long, "..", "orlop_nothing"] {
        for target in ["/v2/", "/v2/public/a/manifests/1", "/v2/_catalog"] {
            let reply = get(&server, bad, target).expect_error(401, "UNAUTHORIZED");
            assert!(reply.header("www-authenticate").starts_with("Bearer "));
        }
        get(&server, bad, "/v2/_orlop/token").expect(401);
    }
    get(&server, &good, "/v2/public/a/manifests/1").expect(200);
}
