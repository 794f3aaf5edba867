//! Tokens of external issuers: whose are taken, for what, and what is granted for them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use support::{Reply, Server, image, sha256};
use tempfile::TempDir;

const ISSUER: &str = "https://ci.example";
const AUDIENCE: &str = "orlop-of-the-team";

const RULES: &str = r#"
[[rule]]
repositories = ["team/app"]
who = ["claim:repository=team/app"]
actions = ["pull", "push"]

[[rule]]
repositories = ["team/**"]
who = ["claim:sub=repo:team/*:ref:refs/heads/main"]
actions = ["pull"]

[[rule]]
repositories = ["ops/**"]
who = ["group:ops"]
actions = ["pull", "push"]
"#;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A key of an issuer, on P-256.
struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Key {
        Key { id, pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256",
            "x": encode(&point[1..33]), "y": encode(&point[33..]),
        })
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({ "alg": "ES256", "typ": "JWT", "kid": self.id }), claims)
    }

    fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encode(signature.as_ref()))
    }
}

/// What a CI system says of a job on the main branch, as of now, with changes.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:team/app:ref:refs/heads/main", "jti": "1",
        "exp": now() + 600, "nbf": now() - 5, "iat": now(), "repository": "team/app", "ref_protected": true,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// A folder with a set of keys, and a server that takes the tokens that they sign.
fn start(keys: &[Value], settings: &str) -> (TempDir, PathBuf, Server) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
    let server = Server::with_file(&configuration(&path.display().to_string(), settings), &[]);
    (dir, path, server)
}

fn configuration(jwks: &str, settings: &str) -> String {
    format!(
        "[[issuer]]\nname = \"ci\"\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks = \"{jwks}\"\n{settings}\n{RULES}"
    )
}

fn get(server: &Server, token: &str, target: &str) -> Reply {
    server.get(target).header("authorization", &format!("Bearer {token}")).send()
}

/// Begins a push.
fn push(server: &Server, token: &str, name: &str) -> Reply {
    let request = server.post(&format!("/v2/{name}/blobs/uploads/")).body(b"");
    request.header("authorization", &format!("Bearer {token}")).send()
}

/// A token of the registry's own for whoever logs in with one of the issuer.
fn exchange(server: &Server, token: &str, scope: &str) -> Reply {
    let basic = format!("Basic {}", STANDARD.encode(format!("oidc:{token}")));
    server.get(&format!("/v2/_orlop/token?scope={scope}")).header("authorization", &basic).send()
}

fn payload(token: &str) -> Value {
    let text = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

#[test]
fn a_job_of_a_ci_system_does_what_rules_say_of_its_claims() {
    let key = Key::new("one");
    let (_dir, _path, server) = start(&[key.jwk()], "");
    let token = key.sign(&claims(&json!({})));
    get(&server, &token, "/v2/").expect(200);
    push(&server, &token, "team/app").expect(202);
    push(&server, &token, "team/other").expect_error(403, "DENIED");
    get(&server, &token, "/v2/team/other/tags/list").expect(404);
    let pull_request = key.sign(&claims(&json!({"sub": "repo:team/app:pull_request", "repository": "x"})));
    get(&server, &pull_request, "/v2/team/other/tags/list").expect_error(403, "DENIED");
    let list = key.sign(&claims(&json!({"repository": ["a", "team/app"], "aud": ["other", AUDIENCE]})));
    push(&server, &list, "team/app").expect(202);
    // Its groups are its own business, unless the operator says that they are ours.
    let in_group = key.sign(&claims(&json!({"groups": ["ops"]})));
    push(&server, &in_group, "ops/a").expect_error(403, "DENIED");
    let (_dir, _path, server) = start(&[key.jwk()], "groups_claim = \"groups\"");
    push(&server, &in_group, "ops/a").expect(202);
}

#[test]
fn docker_logs_in_with_the_token_of_a_job_and_gets_one_that_lasts_no_longer() {
    let key = Key::new("one");
    let (_dir, _path, mut server) = start(&[key.jwk()], "");
    let long = "x".repeat(900);
    let token = key.sign(&claims(&json!({"exp": now() + 100, "unneeded": long})));
    let answer = exchange(&server, &token, "repository:team/app:pull,push,delete").expect(200).json();
    assert!(answer["expires_in"].as_u64().unwrap() <= 100, "{answer}");
    let own = answer["token"].as_str().unwrap().to_owned();
    let claims_of_own = payload(&own);
    assert_eq!(claims_of_own["sub"], "ci:repo:team/app:ref:refs/heads/main");
    assert_eq!(claims_of_own["access"][0]["actions"], json!(["pull", "push"]));
    assert!(!claims_of_own.to_string().contains("unneeded"), "only what rules speak of");
    push(&server, &own, "team/app").expect(202);
    push(&server, &own, "team/other").expect(403);
    get(&server, &own, "/v2/team/other/tags/list").expect(401);
    // By POST as an identity token, and by Bearer.
    let form = format!("grant_type=refresh_token&refresh_token={token}&scope=repository:team/app:push");
    let answer = server.post("/v2/_orlop/token").body(form.as_bytes()).send().expect(200).json();
    assert_eq!(answer["scope"], "repository:team/app:push");
    get(&server, &token, "/v2/_orlop/token").expect(200);
    exchange(&server, &format!("{token}x"), "").expect(401);
    let config = b"{}";
    let upload = server.post(&format!("/v2/team/app/blobs/uploads/?digest={}", sha256(config))).body(config);
    upload.header("authorization", &format!("Bearer {own}")).send().expect(201);
    let pushed = image(config, &[], &json!({}));
    let request = server.put("/v2/team/app/manifests/1").header("authorization", &format!("Bearer {own}"));
    request.header("content-type", &pushed.media_type).body(&pushed.bytes).send().expect(201);
    let history = get(&server, &token, "/v2/_orlop/repositories/team/app/tags/1/history").expect(200);
    assert_eq!(history.json()["revisions"][0]["actor"], "ci:repo:team/app:ref:refs/heads/main");
    assert!(!server.log().contains(&token) && !server.log().contains(&own));
    // Whom nobody vouches for any more comes in no more.
    let host = server.host();
    server.stop();
    server.configure(RULES);
    server.run_again();
    for token in [&own, &token] {
        let request = format!(
            "GET /v2/ HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(server.raw(request.as_bytes()).status, 401);
    }
}

#[test]
fn what_the_issuer_has_not_signed_for_this_registry_is_not_taken() {
    let (key, other) = (Key::new("one"), Key::new("one"));
    let (_dir, _path, server) = start(&[key.jwk()], "");
    let header = |changes: Value| {
        let mut header = json!({ "alg": "ES256", "typ": "JWT", "kid": "one" });
        for (name, value) in changes.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    };
    let good = key.sign(&claims(&json!({})));
    get(&server, &good, "/v2/").expect(200);
    let by_secret = |secret: &[u8]| {
        let (head, body) = (header(json!({"alg": "HS256"})), claims(&json!({})));
        let message = format!("{}.{}", encode(head.to_string()), encode(body.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", encode(tag.as_ref()))
    };
    let point = key.pair.public_key().as_ref();
    let with = |changes: Value| key.sign(&claims(&changes));
    let as_header = |changes: Value| key.sign_as(&header(changes), &claims(&json!({})));
    let parts: Vec<&str> = good.split('.').collect();
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for (what, token) in [
        ("another key of the same kid", other.sign(&claims(&json!({})))),
        ("an unknown kid", as_header(json!({"kid": "two"}))),
        ("a kid that is no text", as_header(json!({"kid": 1}))),
        ("alg none", as_header(json!({"alg": "none"}))),
        ("alg none, unsigned", format!("{}.{}.", encode("{\"alg\":\"none\",\"kid\":\"one\"}"), parts[1])),
        ("HS256 by the public point", by_secret(point)),
        ("HS256 by the key as it is published", by_secret(key.jwk().to_string().as_bytes())),
        ("an algorithm that isn't this key's", as_header(json!({"alg": "RS256"}))),
        ("an algorithm that isn't configured", as_header(json!({"alg": "PS256"}))),
        ("a key of its own", as_header(json!({"jwk": other.jwk(), "jku": "http://127.0.0.1:9/"}))),
        ("another issuer", with(json!({"iss": "https://other.example"}))),
        ("an issuer more", with(json!({"iss": [ISSUER, "https://other.example"]}))),
        ("the registry's own issuer", with(json!({"iss": "orlop"}))),
        ("another audience", with(json!({"aud": "other"}))),
        ("other audiences", with(json!({"aud": ["other", "another"]}))),
        ("no audience", with(json!({"aud": null}))),
        ("expired", with(json!({"exp": now() - 60}))),
        ("without an end", with(json!({"exp": null}))),
        ("an end that is no number", with(json!({"exp": "later"}))),
        ("not yet", with(json!({"nbf": now() + 120}))),
        ("a beginning that is no number", with(json!({"nbf": "now"}))),
        ("no user", with(json!({"sub": null}))),
        ("a user with a line break", with(json!({"sub": "a\nb"}))),
        ("a user without an end", with(json!({"sub": "x".repeat(300)}))),
        ("a huge payload", with(json!({"x": "x".repeat(20_000)}))),
        ("a deep payload", format!("{}.{}.{}", parts[0], encode(deep), parts[2])),
        ("cut off", good[..good.len() - 10].to_owned()),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("another payload", {
            let claims = claims(&json!({"repository": "ops/a"}));
            format!("{}.{}.{}", parts[0], encode(claims.to_string()), parts[2])
        }),
    ] {
        if what == "a key of its own" {
            // What a header says of keys is never looked at; this one is signed by the right key.
            get(&server, &token, "/v2/").expect(200);
            continue;
        }
        let reply = get(&server, &token, "/v2/");
        assert_eq!(reply.status, 401, "{what}: {reply:?}");
        assert!(reply.header("www-authenticate").contains("error=\"invalid_token\""), "{what}");
        assert_eq!(exchange(&server, &token, "").status, 401, "{what}");
    }
}

#[test]
fn the_claim_access_lets_its_holder_do_what_it_names_where_it_is_configured() {
    let key = Key::new("one");
    let access = json!([
        {"type": "repository", "name": "granted/a", "actions": ["pull", "push"]},
        {"type": "registry", "name": "admin", "actions": ["*"]},
        {"type": "repository", "name": "library/x", "actions": ["pull"]},
        "nonsense",
    ]);
    let token = key.sign(&claims(&json!({"access": access})));
    let (_dir, _path, server) = start(&[key.jwk()], "access = true");
    push(&server, &token, "granted/a").expect(202);
    push(&server, &token, "granted/b").expect_error(403, "DENIED");
    // What rules would allow beside it is not what the token is for.
    push(&server, &token, "team/app").expect_error(401, "UNAUTHORIZED");
    assert_ne!(get(&server, &token, "/v2/_orlop/admin/status").status, 200);
    let own = exchange(&server, &token, "repository:team/app:push+repository:granted/a:*+registry:admin:*");
    let own = own.expect(200).json()["token"].as_str().unwrap().to_owned();
    assert_eq!(payload(&own)["access"], json!([access[0]]));
    push(&server, &own, "granted/a").expect(202);
    push(&server, &own, "team/app").expect(401);
    let (_dir, _path, server) = start(&[key.jwk()], "");
    push(&server, &token, "granted/a").expect_error(403, "DENIED");
    push(&server, &token, "team/app").expect(202);
}

#[test]
fn the_example_of_the_page_about_access_lets_a_job_push_and_its_pull_request_pull() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/access.md")).unwrap();
    let example = page.split("```toml\n").find(|block| block.starts_with("[[issuer]]")).unwrap();
    let example = example.split("```").next().unwrap();
    let (key, dir) = (Key::new("one"), TempDir::new().unwrap());
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, json!({ "keys": [key.jwk()] }).to_string()).unwrap();
    let url = "https://token.actions.githubusercontent.com/.well-known/jwks";
    assert!(example.contains(url));
    let server = Server::with_file(&example.replace(url, &path.display().to_string()), &[]);
    let of = |sub: &str, owner: &str| {
        // As the system documents its tokens.
        key.sign(&claims(&json!({
            "iss": "https://token.actions.githubusercontent.com", "aud": "https://registry.example.org", "sub": sub,
            "repository": "team/app", "repository_owner": owner, "repository_id": "74", "run_attempt": "1",
            "ref": "refs/heads/main", "ref_type": "branch", "job_workflow_ref": "team/app/.github/workflows/x.yml@main",
        })))
    };
    let main = of("repo:team/app:ref:refs/heads/main", "team");
    push(&server, &main, "team/app").expect(202);
    push(&server, &main, "team/other").expect(403);
    exchange(&server, &main, "repository:team/app:push").expect(200);
    let request = of("repo:team/app:pull_request", "team");
    push(&server, &request, "team/app").expect(403);
    get(&server, &request, "/v2/team/app/tags/list").expect(404);
    get(&server, &of("repo:x/app:ref:refs/heads/main", "x"), "/v2/team/app/tags/list").expect(403);
}

#[test]
fn where_there_are_issuers_not_everybody_may_do_everything() {
    let key = Key::new("one");
    let (dir, path, _) = start(&[key.jwk()], "");
    let file = configuration(&path.display().to_string(), "access = true").replace(RULES, "");
    let server = Server::with_file(&file, &[]);
    server.get("/v2/").send().expect(401);
    let access = json!([{"type": "repository", "name": "granted/a", "actions": ["pull", "push"]}]);
    push(&server, &key.sign(&claims(&json!({"access": access}))), "granted/a").expect(202);
    push(&server, &key.sign(&claims(&json!({}))), "granted/a").expect(403);
    drop(dir);
}

#[test]
fn clients_are_sent_to_the_endpoint_of_an_issuer_that_has_one() {
    let key = Key::new("one");
    let (_dir, _path, server) = start(&[key.jwk()], "realm = \"https://auth.example/token\"");
    let reply = server.get("/v2/team/app/tags/list").send().expect(401);
    let expected = format!(
        "Bearer realm=\"https://auth.example/token\",service=\"{AUDIENCE}\",scope=\"repository:team/app:pull\""
    );
    assert_eq!(reply.header("www-authenticate"), expected);
}

#[test]
fn an_issuer_may_sign_by_rsa() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let components = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let jwk = json!({"kty": "RSA", "n": encode(components.n), "e": encode(components.e)});
    let (_dir, _path, server) = start(&[jwk], "algorithms = [\"RS256\"]");
    // A set of one key needs no name for it.
    let header = encode(json!({ "alg": "RS256" }).to_string());
    let message = format!("{header}.{}", encode(claims(&json!({})).to_string()));
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    get(&server, &format!("{message}.{}", encode(&signature)), "/v2/").expect(200);
    // An algorithm that the key could sign by, and that isn't configured.
    let header = encode(json!({ "alg": "PS256" }).to_string());
    let by_pss = format!("{header}.{}", encode(claims(&json!({})).to_string()));
    let mut pss = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), by_pss.as_bytes(), &mut pss).unwrap();
    get(&server, &format!("{by_pss}.{}", encode(&pss)), "/v2/").expect(401);
    signature[5] ^= 1;
    get(&server, &format!("{message}.{}", encode(&signature)), "/v2/").expect(401);
}

/// What serves a set of keys by HTTP, and how often it was asked.
struct Published {
    url: String,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<usize>>,
}

impl Published {
    fn start() -> Published {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new((503, String::new())));
        let asked = Arc::new(Mutex::new(0));
        let (given, count) = (Arc::clone(&answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                *count.lock().unwrap() += 1;
                let (status, body) = given.lock().unwrap().clone();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                // The other side may be gone.
                let _ = (&stream).write_all((head + &body).as_bytes());
            }
        });
        Published { url, answer, asked }
    }

    fn publish(&self, keys: &[Value]) {
        *self.answer.lock().unwrap() = (200, json!({ "keys": keys }).to_string());
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

#[test]
fn keys_are_fetched_where_they_are_needed_and_not_for_every_stranger() {
    let (key, published) = (Key::new("one"), Published::start());
    let mut server = Server::with_file(&configuration(&published.url, ""), &[("log.level", "info")]);
    let token = key.sign(&claims(&json!({})));
    // Nobody is let in without the keys, and their issuer isn't pestered.
    for _ in 0..5 {
        get(&server, &token, "/v2/").expect_error(401, "UNAUTHORIZED");
    }
    assert_eq!(published.asked(), 1);
    server.wait_for_line(&["WARN", "can't be fetched", "issuer=\"ci\""]);
    published.publish(&[key.jwk()]);
    server.stop();
    server.run_again();
    for _ in 0..5 {
        get(&server, &token, "/v2/").expect(200);
    }
    assert_eq!(published.asked(), 2, "the keys are remembered");
    for _ in 0..5 {
        get(&server, &Key::new("two").sign(&claims(&json!({}))), "/v2/").expect(401);
    }
    assert!(published.asked() <= 3, "a token with an unknown key costs a question at most every ten seconds");
}

#[test]
fn a_mistake_about_an_issuer_is_named() {
    let table = |text: &str| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("orlop.toml");
        std::fs::write(&path, format!("[[issuer]]\n{text}\n")).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orlop"));
        let output = command.args(["config", "check", "--config"]).arg(&path).output().unwrap();
        assert!(!output.status.success(), "{text}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let whole = "name = \"ci\"\nissuer = \"a\"\naudience = \"b\"\njwks = \"/x\"";
    for (text, said) in [
        ("name = \"ci\"".to_owned(), "\"issuer\""),
        (whole.replace("\"a\"", "\"orlop\""), "the registry's own"),
        (whole.replace("/x", "x"), "absolute path"),
        (format!("{whole}\nalgorithms = [\"HS256\"]"), "algorithms of public keys"),
        (format!("{whole}\nalgorithms = []"), "\"algorithms\""),
        (format!("{whole}\n[[issuer]]\n{whole}"), "another name"),
        (format!("{whole}\n[[issuer]]\n{}", whole.replace("ci", "cj")), "already"),
    ] {
        let message = table(&text);
        assert!(message.contains(said), "{text}: {message}");
    }
}
