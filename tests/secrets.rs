//! No secret is ever in a log line, an error, a metric or an event: a server at its most talkative, with secrets everywhere.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "notifications/receiver.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod receiver;
mod support;

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use orlop::auth::TokenSecret;
use receiver::{Behaviour, Receiver};
use serde_json::json;
use support::{FaultyUpstream, Reply, Request, Server, image};
use tempfile::TempDir;

/// Every secret that is planted has this in it, or is entered by itself.
const MARK: &str = "planted";

/// What must not be anywhere.
struct Secrets(Vec<String>);

impl Secrets {
    /// A password, and what `Basic` makes of it.
    fn basic(&mut self, user: &str, password: &str) -> String {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        self.0.push(encoded.clone());
        self.0.push(URL_SAFE_NO_PAD.encode(password));
        format!("Basic {encoded}")
    }

    /// Complains of those that a text has.
    #[track_caller]
    fn are_not_in(&self, text: &str, what: &str) {
        for secret in self.0.iter().map(String::as_str).chain([MARK]) {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{what} has {secret}: {}", line.unwrap_or_default());
        }
    }
}

/// What an answer says.
fn spoken(reply: &Reply) -> String {
    let headers =
        ["www-authenticate", "location", "link", "warning"].map(|name| reply.get(name).unwrap_or_default());
    format!("{}\n{}", reply.text_whole(), headers.join("\n"))
}

fn configuration(dir: &Path, upstream: &FaultyUpstream, hook: &Receiver) -> String {
    let file = |name: &str| dir.join(name).display().to_string();
    let hook = hook.url().replace("http://", "http://hook:planted-userinfo@");
    format!(
        "access.htpasswd = {:?}\n\
         [[rule]]\nrepositories = [\"**\"]\nwho = [\"user:anna\"]\nactions = [\"pull\", \"push\", \"list\", \"admin\"]\n\
         [[upstream]]\nhost = \"hub.example\"\nurl = \"{url}\"\nusername = \"up\"\npassword_file = {:?}\npublic = true\n\
         [[upstream]]\nhost = \"env.example\"\nurl = \"{url}\"\nusername = \"up\"\npassword_env = \"ORLOP_ENV_PASSWORD\"\npublic = true\n\
         [[notifications.endpoint]]\nname = \"hook\"\nurl = \"{hook}?key=planted-query\"\nheaders = {{ X-Key = \"planted-header\" }}\n",
        file("users"),
        file("password"),
        url = upstream.url(),
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "one server, with everything that it is told")]
fn no_secret_is_anywhere_at_the_level_trace() {
    let (dir, upstream, hook) =
        (TempDir::new().unwrap(), FaultyUpstream::start(), Receiver::start(Behaviour::Refuse));
    let mut secrets = Secrets(Vec::new());
    let hash = bcrypt::hash("planted-password", 4).unwrap();
    secrets.0.push(hash.clone());
    std::fs::write(dir.path().join("users"), format!("anna:{hash}\n")).unwrap();
    std::fs::write(dir.path().join("password"), "planted-upstream\n").unwrap();
    let upstream_basic = secrets.basic("up", "planted-upstream");
    secrets.basic("hook", "planted-userinfo");
    upstream.want_basic(&upstream_basic);
    let pulled = image(b"{}", &[], &json!({}));
    upstream.put_blob(b"{}");
    upstream.put_manifest("1", &pulled.media_type, &pulled.bytes);

    let config = configuration(dir.path(), &upstream, &hook);
    let mut server = Server::with_file("", &[("log.level", "trace"), ("log.audit", "pulls")]);
    server.stop();
    server.configure(&config);
    server.environment("ORLOP_ENV_PASSWORD", "planted-variable");
    server.run_again();

    // Right and wrong, of every kind.
    let right = secrets.basic("anna", "planted-password");
    let wrong = secrets.basic("anna", "planted-wrong");
    let of_nobody = secrets.basic("nobody", "planted-nobody");
    let access_token = TokenSecret::generate();
    secrets.0.push(access_token.reveal().to_owned());
    let as_token = secrets.basic("anna", access_token.reveal());
    let token_path = "/v2/_orlop/token?service=orlop&scope=repository:team/a:pull,push";
    let issued = server.get(token_path).header("authorization", &right).send().expect(200).json();
    let issued = issued["token"].as_str().unwrap().to_owned();
    secrets.0.push(issued.rsplit('.').next().unwrap().to_owned());
    let form = |password: &str| {
        let form = format!("grant_type=password&service=orlop&username=anna&password={password}&client_id=x");
        let request =
            server.post("/v2/_orlop/token").header("content-type", "application/x-www-form-urlencoded");
        request.body(form.as_bytes()).send()
    };
    form("planted-password").expect(200);

    let mut replies = vec![form("planted-form"), form("planted%form")];
    let headers = [
        right.clone(),
        wrong,
        of_nobody,
        as_token,
        format!("Bearer {issued}"),
        format!("Bearer {}", access_token.reveal()),
        "Bearer planted.bearer.token".to_owned(),
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJwbGFudGVkIn0.planted".to_owned(),
        "Basic planted-malformed".to_owned(),
        "Digest planted-digest".to_owned(),
        "planted-nothing".to_owned(),
    ];
    for header in &headers {
        let send = |request: Request| {
            request.header("authorization", header).header("cookie", "planted-cookie").send()
        };
        replies.push(send(server.get("/v2/?access_token=planted-parameter")));
        replies.push(send(server.get("/v2/team/a/manifests/1?token=planted-parameter")));
        replies.push(send(server.put("/v2/team/a/manifests/1").body(b"{planted")));
        replies.push(send(server.get("/v2/hub.example/team/app/manifests/1")));
        replies.push(send(server.get("/v2/env.example/team/app/manifests/1")));
        replies.push(send(server.post("/v2/_orlop/admin/gc").body(b"{\"password\":\"planted-body\"}")));
    }
    // The upstream tells what it was sent, and fails.
    let said: &'static str = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no planted-upstream here\"}]}";
    upstream.order("GET", "other", 9, support::Fault::Status(403, &[], said));
    upstream.order("HEAD", "other", 9, support::Fault::Status(403, &[], said));
    replies.push(server.get("/v2/hub.example/team/other/manifests/1").header("authorization", &right).send());
    replies.push(server.get("/metrics").send());
    for reply in &replies {
        secrets.are_not_in(&spoken(reply), "an answer");
    }

    // What is read again, and is wrong then.
    std::fs::write(dir.path().join("users"), "anna:planted-plain\n").unwrap();
    server.wait_for_line(&["ERROR", "htpasswd -B"]);
    std::fs::write(dir.path().join("password"), "planted\u{7}control\n").unwrap();
    server.wait_for_line(&["ERROR", "can't be sent"]);
    server.configure(&(config.clone() + "timeout = [\"planted-timeout\"\n"));
    server.wait_for_line(&["ERROR", "not valid TOML"]);
    server.configure(
        &config
            .replace("url = \"http://hook:", "url = \"ftp://hook:")
            .replace("headers = {", "headers = 7 #"),
    );
    server.wait_for_line(&["ERROR", "notifications.endpoint.url"]);
    server.configure(&config);
    server.hang_up();
    server.wait_for_line(&["were read again"]);
    let attempts = hook.wait(|envelopes| envelopes.len() >= 2);
    assert!(attempts[0].header("x-key") == Some("planted-header"));
    let events = format!("{:?}", attempts.iter().map(|envelope| &envelope.events).collect::<Vec<_>>());
    assert!(events.contains("anna"), "{events}");
    secrets.are_not_in(&events, "an event");

    std::fs::write(dir.path().join("users"), format!("anna:{hash}\n")).unwrap();
    std::fs::write(dir.path().join("password"), "planted-upstream\n").unwrap();
    for arguments in [
        &["config", "check"][..],
        &["config", "check", "--set", "external_url=https://a:planted@b"],
        &["status"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
        command.args(arguments).arg("--config").arg(server.configuration()).arg("--data").arg(server.data());
        let output = command
            .env("ORLOP_ENV_PASSWORD", "planted-variable")
            .env("ORLOP_LOG_LEVEL", "trace")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        secrets.are_not_in(&String::from_utf8_lossy(&said), &format!("{arguments:?}"));
    }
    server.stop();
    let log = server.log();
    assert!(log.contains("TRACE") && log.contains("hub.example"), "{log}");
    secrets.are_not_in(&log, "the log");
}

#[test]
fn a_crash_leaves_no_memory_behind() {
    let server = Server::start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(line.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
}
