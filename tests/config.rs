//! The configuration: its sources, their order, its messages, and its page in the documentation.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

#[path = "config/cache.rs"]
mod cache;

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orlop::config::{
    Config, DescriptorCache, FILE_VARIABLE, Input, KEYS, LISTS, Listen, Source, example, reference,
};
use orlop::maintenance::retention::{DeleteRules, DeleteTags};
use orlop::notifications::Version;
use orlop::oci::MediaType;
use orlop::registry::Action;
use orlop::snapshots::{BackupOptions, BackupTarget, Keep, S3Options};
use orlop::telemetry::LogLevel;

/// A directory that goes away with the test.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn with_file(directory: &Path, text: &str) -> Input {
    let file = directory.join("orlop.toml");
    fs::write(&file, text).unwrap();
    // Nothing of the environment in which the tests run takes part.
    Input { file: Some(file), ..Input::default() }
}

fn variable(name: &str, value: &str) -> (OsString, OsString) {
    (name.into(), value.into())
}

/// The message about the only mistake in `input`.
fn mistake(input: &Input) -> String {
    let errors = input.load().expect_err("the configuration is not valid");
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages[0].clone()
}

#[test]
fn every_key_stands_in_the_example_with_its_variable_and_default() {
    let text = example();
    for key in KEYS {
        let (table, name) = key.table_and_name();
        assert!(text.contains(&format!("\n#{name} = {}\n", key.default_in_file())), "{}", key.name);
        assert!(text.contains(&format!("\n# Environment: {}\n", key.variable())), "{}", key.name);
        assert!(table.is_empty() || text.contains(&format!("\n[{table}]\n")), "{}", key.name);
    }
}

#[test]
fn the_example_as_it_is_and_with_every_key_uncommented_means_the_defaults() {
    let directory = directory();
    let uncommented: String = example()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n");
    let loaded = with_file(directory.path(), &example()).load().unwrap();
    assert_eq!(loaded.config, Config::default());
    let loaded = with_file(directory.path(), &uncommented).load().unwrap();
    let small = r#"
        [[upstream]]
        host = "docker.io"
        [[rule]]
        repositories = ["team/**"]
        who = ["user:anna", "user:ci"]
        actions = ["pull", "push"]
        [[issuer]]
        name = "ci"
        issuer = "https://token.actions.example.com"
        audience = "https://registry.example.org"
        jwks = "https://token.actions.example.com/.well-known/jwks"
        [[notifications.endpoint]]
        name = "hook"
        url = "https://hooks.example.org/orlop"
        [[retention.policy]]
        name = "builds"
        repositories = ["team/**"]
        keep_last = 10
        delete_others = true
        [[immutable]]
        repositories = ["team/**"]
        [[quota]]
        repositories = ["team/**"]
        max_size = "10 GiB"
        [[backup]]
        to = "/mnt/disk/orlop"
        at = "03:00"
        keep_daily = 7
        keep_weekly = 4
        keep_monthly = 12
    "#;
    let small = with_file(directory.path(), small).load().unwrap();
    assert_eq!(loaded.config, small.config, "the example shows one table of each list, and the defaults");
    for effective in loaded.effective {
        assert!(
            matches!(effective.origin, Source::File { .. }),
            "{} is not in the example",
            effective.key.name
        );
    }
}

#[test]
fn every_key_can_be_set_by_its_variable_and_by_set() {
    for key in KEYS {
        let by_variable =
            Input { environment: vec![variable(&key.variable(), key.default)], ..Input::default() };
        let by_flag =
            Input { assignments: vec![format!("{}={}", key.name, key.default)], ..Input::default() };
        for input in [by_variable, by_flag] {
            let loaded = input.load().unwrap();
            assert_eq!(loaded.config, Config::default());
            let effective = loaded.effective.iter().find(|effective| effective.key.name == key.name).unwrap();
            assert_ne!(effective.origin, Source::Default, "{}", key.name);
        }
    }
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_and_that_over_the_default() {
    let directory = directory();
    let mut input = Input::default();
    assert_eq!(input.load().unwrap().config.log.level, LogLevel::Info);
    input = with_file(directory.path(), "log.level = \"error\"");
    assert_eq!(input.load().unwrap().config.log.level, LogLevel::Error);
    input.environment.push(variable("ORLOP_LOG_LEVEL", "warn"));
    assert_eq!(input.load().unwrap().config.log.level, LogLevel::Warn);
    input.flags.push(("--log-level", "log.level", "debug".to_owned()));
    assert_eq!(input.load().unwrap().config.log.level, LogLevel::Debug);
    input.assignments.push("log.level=trace".to_owned());
    assert_eq!(input.load().unwrap().config.log.level, LogLevel::Trace);
}

#[test]
fn values_arrive_in_their_fields() {
    let directory = directory();
    let text = r#"
        listen = "0.0.0.0:80"
        data = "/srv/orlop"
        external_url = "https://r.example.org/"
        uploads.expire_after = "1h30m"
        manifests = { max_size = "8 MiB", sparse_indexes = true }
        [delete]
        tags = false
        [limits]
        connections = 7
        buffers = 4194304
    "#;
    let config = with_file(directory.path(), text).load().unwrap().config;
    assert_eq!(config.listen, [Listen::Address(SocketAddr::from(([0, 0, 0, 0], 80)))]);
    assert_eq!(config.data, PathBuf::from("/srv/orlop"));
    assert_eq!(config.external_url.as_deref(), Some("https://r.example.org"));
    assert_eq!(config.uploads.expire_after, Duration::from_secs(5400));
    assert_eq!((config.manifests.max_size, config.manifests.sparse_indexes), (8 << 20, true));
    assert_eq!((config.delete.tags, config.delete.blobs), (false, true));
    assert_eq!((config.limits.connections, config.limits.buffers), (7, 4 << 20));
}

#[test]
fn an_unknown_key_in_the_file_is_named_with_its_line_and_the_nearest_key() {
    let directory = directory();
    let message =
        mistake(&with_file(directory.path(), "listen = \"127.0.0.1:1\"\n\n[log]\nlevle = \"debug\"\n"));
    for part in ["orlop.toml, line 4", "\"log.levle\"", "nearest is \"log.level\"", "orlop config example"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn an_unknown_table_in_the_file_is_an_error_even_when_it_is_empty() {
    let directory = directory();
    let message = mistake(&with_file(directory.path(), "[upload]\n"));
    assert!(message.contains("\"upload\""), "{message}");
    let message = mistake(&with_file(directory.path(), "[upload]\nexpire_after = \"1h\"\n"));
    assert!(message.contains("nearest is \"uploads.expire_after\""), "{message}");
}

#[test]
fn an_unknown_variable_is_named_with_the_nearest_variable() {
    let input = Input { environment: vec![variable("ORLOP_LOGLEVEL", "debug")], ..Input::default() };
    let message = mistake(&input);
    assert!(message.contains("ORLOP_LOGLEVEL") && message.contains("\"ORLOP_LOG_LEVEL\""), "{message}");
    let others = Input { environment: vec![variable("LOG_LEVEL", "debug")], ..Input::default() };
    assert!(others.load().is_ok(), "other programs' variables are none of our business");
}

#[test]
fn an_unknown_key_of_set_is_named_with_the_nearest_key() {
    let input = Input { assignments: vec!["delete.blob=false".to_owned()], ..Input::default() };
    let message = mistake(&input);
    assert!(message.contains("--set delete.blob=false"), "{message}");
    assert!(message.contains("nearest is \"delete.blobs\""), "{message}");
    let without_value = Input { assignments: vec!["delete.blobs".to_owned()], ..Input::default() };
    assert!(mistake(&without_value).contains("--set key=value"));
}

#[test]
fn a_wrong_value_is_named_with_its_key_its_place_and_what_to_write() {
    let directory = directory();
    for (text, parts) in [
        ("database.cache = \"64 megs\"", ["line 1", "\"database.cache\"", "64 megs", "\"64 MiB\""]),
        ("limits.idle_timeout = 60", ["line 1", "\"limits.idle_timeout\"", "60", "\"30s\""]),
        ("delete.tags = \"no\"", ["line 1", "\"delete.tags\"", "no", "true or false"]),
        ("listen = 5000", ["line 1", "\"listen\"", "5000", "\"127.0.0.1:5000\""]),
        ("listen = [\"a\"]", ["line 1", "\"listen\"", "\"a\"", "\"127.0.0.1:5000\""]),
        ("data = [\"a\"]", ["line 1", "\"data\"", "single value", "\"./data\""]),
        ("tls.certificate = \"a\"", ["\"tls.key\"", "the default", "write", "its key"]),
        ("limits.connections = 0", ["line 1", "\"limits.connections\"", "too small", "1 or more"]),
    ] {
        let message = mistake(&with_file(directory.path(), text));
        for part in parts {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let directory = directory();
    let mut input = with_file(directory.path(), "lisen = \"x\"\ndelete.tags = 3\n");
    input.environment.push(variable("ORLOP_DATTA", "x"));
    input.flags.push(("--listen", "listen", "nowhere".to_owned()));
    assert_eq!(input.load().expect_err("four mistakes").iter().count(), 4);
}

#[test]
fn a_file_that_was_named_must_be_readable_and_toml() {
    let directory = directory();
    let missing = directory.path().join("missing.toml");
    let by_flag = Input { file: Some(missing.clone()), ..Input::default() };
    let by_variable =
        Input { environment: vec![variable(FILE_VARIABLE, missing.to_str().unwrap())], ..Input::default() };
    for input in [by_flag, by_variable] {
        assert!(mistake(&input).contains("missing.toml"));
    }
    let message = mistake(&with_file(directory.path(), "listen = 127.0.0.1:5000\n"));
    assert!(message.contains("orlop.toml, line 1") && message.contains("not valid TOML"), "{message}");
}

/// The file of one endpoint, with `lines` in it.
fn endpoint(directory: &Path, lines: &str) -> Input {
    let start = "[[notifications.endpoint]]\nname = \"hook\"\nurl = \"http://127.0.0.1:1/\"\n";
    with_file(directory, &format!("{start}{lines}\n"))
}

#[test]
fn every_key_of_a_list_stands_in_the_example() {
    let text = example();
    for list in LISTS {
        let table = text.split(&format!("\n#[[{}]]\n", list.name)).nth(1).unwrap();
        let table = table.split("\n#[[").next().unwrap();
        for row in list.rows() {
            assert!(table.contains(&format!("\n#{} = {}\n", row.name, row.example)), "{}", row.name);
        }
    }
}

#[test]
fn every_key_of_an_endpoint_can_be_set() {
    let directory = directory();
    let input = endpoint(
        directory.path(),
        "headers = { Authorization = \"Bearer secret\", X-Other = \"a: b\" }\nversion = \"v2\"\ntimeout = \"5s\"\n\
         threshold = 3\nbackoff = \"2m\"\nignore_actions = [\"pull\", \"mount\"]\n\
         ignore_media_types = [\"application/octet-stream\"]\n[[notifications.endpoint]]\nname = \"other\"\n\
         url = \"https://hooks.example.org/x\"",
    );
    let config = input.load().unwrap().config;
    let [hook, other] = &config.notifications.endpoints[..] else { panic!("two endpoints") };
    assert_eq!((hook.listener.name.as_str(), other.listener.name.as_str()), ("hook", "other"));
    let headers: Vec<&str> = hook.headers.iter().map(orlop::client::Header::name).collect();
    assert_eq!(headers, ["authorization", "x-other"]);
    assert_eq!((hook.version, other.version), (Version::V2, Version::V1));
    assert_eq!(
        (hook.timeout, hook.threshold, hook.backoff),
        (Duration::from_secs(5), 3, Duration::from_secs(120))
    );
    assert_eq!(
        (other.timeout, other.threshold, other.backoff),
        (Duration::from_secs(1), 10, Duration::from_secs(1))
    );
    assert_eq!(hook.listener.ignored_actions, [Action::Pull, Action::Mount]);
    assert_eq!(hook.listener.ignored_media_types, [MediaType::OCTET_STREAM]);
    assert!(!format!("{config:?}").contains("secret"), "the values of headers are not printed");
}

#[test]
fn a_mistake_in_an_endpoint_is_named_with_its_line_and_what_to_write() {
    let directory = directory();
    for (lines, parts) in [
        (
            "tiemout = \"1s\"",
            &["line 4", "\"notifications.endpoint.tiemout\"", "notifications.endpoint.timeout"][..],
        ),
        ("timeout = 1", &["line 4", "notifications.endpoint.timeout", "\"30s\""]),
        ("timeout = [\"1s\"]", &["line 4", "notifications.endpoint.timeout", "single value"]),
        (
            "ignore_actions = \"pull\"",
            &["line 4", "notifications.endpoint.ignore_actions", "list of strings"],
        ),
        ("ignore_actions = [\"pul\"]", &["line 4", "push, pull, mount and delete"]),
        ("headers = [\"a: b\"]", &["line 4", "notifications.endpoint.headers", "table of strings"]),
        ("headers = { A = \"x\\ny\" }", &["line 4", "notifications.endpoint.headers", "\"…\""]),
        ("version = \"v3\"", &["line 4", "v1, v2"]),
        ("[[notifications.endpoint]]\nurl = \"http://a\"", &["line 4", "no \"name\""]),
        ("[[notifications.endpoint]]\nname = \"b\"", &["line 4", "no \"url\""]),
        ("[[notifications.endpoint]]\nname = \"hook\"\nurl = \"http://a\"", &["line 5", "hook", "already"]),
        ("url.x = 1", &["valid TOML"]),
    ] {
        let message = mistake(&endpoint(directory.path(), lines));
        for part in parts {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
    for text in ["[notifications.endpoint]\nname = \"a\"", "notifications.endpoint = \"a\""] {
        assert!(mistake(&with_file(directory.path(), text)).contains("[[notifications.endpoint]]"), "{text}");
    }
    let by_flag = Input { assignments: vec!["notifications.endpoint.name=a".to_owned()], ..Input::default() };
    let by_variable =
        Input { environment: vec![variable("ORLOP_NOTIFICATIONS_ENDPOINT_NAME", "a")], ..Input::default() };
    for input in [by_flag, by_variable] {
        assert!(mistake(&input).contains("[[notifications.endpoint]] in the file"));
    }
}

#[test]
fn every_key_of_policies_immutable_tags_and_quotas_arrives_in_its_field() {
    let directory = directory();
    let text = r#"
        storage.max_size = "1 TiB"
        retention.every = "6h"
        [[retention.policy]]
        name = "prod"
        repositories = ["team/prod/**"]
        keep_matching = ["latest", "release-*"]
        keep_regex = '^v[0-9]{1,3}$'
        keep_semver = ">=1.2, <2 || ^3"
        keep_last = 3
        keep_last_pulled = 4
        keep_pushed_within = "7d"
        keep_pulled_within = "30d"
        delete_others = true
        delete_untagged_after = "14d"
        [[retention.policy]]
        name = "all"
        repositories = ["**"]
        tags = ["dev-*"]
        except = ["dev-keep"]
        delete_older_than = "1h30m"
        [[immutable]]
        repositories = ["team/**"]
        tags = ["v*"]
        except = ["v-next"]
        [[quota]]
        repositories = ["team/**", "other"]
        max_size = "10 GiB"
    "#;
    let config = with_file(directory.path(), text).load().unwrap().config;
    assert_eq!(
        (config.storage.max_size, config.retention.every),
        (Some(1 << 40), Duration::from_secs(21_600))
    );
    let [prod, all] = &config.retention.policies.policies[..] else { panic!("two policies") };
    assert_eq!((prod.name.as_str(), all.name.as_str()), ("prod", "all"));
    assert_eq!(prod.repositories.to_string(), "team/prod/**");
    let keep = &prod.keep;
    let patterns: Vec<String> = keep.matching.iter().map(ToString::to_string).collect();
    assert_eq!(patterns, ["latest", "release-*"]);
    assert_eq!(keep.regex.as_ref().unwrap().to_string(), "^v[0-9]{1,3}$");
    assert_eq!(keep.versions.as_ref().unwrap().to_string(), ">=1.2, <2 || ^3");
    assert_eq!((keep.last, keep.last_pulled), (NonZeroUsize::new(3), NonZeroUsize::new(4)));
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    assert_eq!((keep.pushed_within, keep.pulled_within), (days(7), days(30)));
    assert_eq!(prod.delete, DeleteRules { tags: DeleteTags::Others, untagged_after: days(14) });
    let age = Duration::from_secs(5400);
    assert_eq!(all.delete, DeleteRules { tags: DeleteTags::OlderThan(age), untagged_after: None });
    for (tag, is_about) in [("dev-1", true), ("dev-keep", false), ("v1", false)] {
        assert_eq!(all.is_about(&tag.parse().unwrap()), is_about, "{tag}");
        assert!(prod.is_about(&tag.parse().unwrap()));
    }
    let name = "team/a".parse().unwrap();
    for (tag, is_immutable) in [("v1", true), ("v-next", false), ("latest", false)] {
        assert_eq!(config.immutable.contains(&name, &tag.parse().unwrap()), is_immutable, "{tag}");
    }
    assert_eq!(config.quotas[0].max_bytes, 10 << 30);
    assert_eq!(config.quotas[0].repositories.to_string(), "team/**, other");
}

#[test]
fn a_mistake_in_a_policy_is_named_with_its_line_and_what_to_write() {
    let directory = directory();
    let begin = "[[retention.policy]]\nname = \"a\"\nrepositories = [\"**\"]\n";
    for (lines, parts) in [
        ("", &["line 2", "retention.policy.name", "at least one rule"][..]),
        ("delete_others = true", &["line 4", "retention.policy.delete_others", "keep_last = 10"]),
        ("delete_others = false", &["line 2", "at least one rule"]),
        ("keep_last = 1\ndelete_others = true\ndelete_older_than = \"1d\"", &["line 5", "either"]),
        ("keep_last = -1", &["line 4", "retention.policy.keep_last", "whole number"]),
        ("keep_last = 100001", &["line 4", "100000 or less"]),
        ("keep_regex = \"(\"", &["line 4", "retention.policy.keep_regex", "unclosed group"]),
        ("keep_semver = \"new\"", &["line 4", "retention.policy.keep_semver", ">=1.2, <2"]),
        ("keep_matching = \"v*\"", &["line 4", "retention.policy.keep_matching", "list of strings"]),
        ("keep_matching = [\"v/*\"]", &["line 4", "retention.policy.keep_matching", "patterns of tags"]),
        ("tags = [\"v?\"]", &["line 4", "retention.policy.tags", "patterns of tags"]),
        ("keep_pushed_within = 7", &["line 4", "retention.policy.keep_pushed_within", "30s"]),
        ("delete_older_then = \"7d\"", &["line 4", "nearest is \"retention.policy.delete_older_than\""]),
        (
            "keep_last = 1\n[[retention.policy]]\nname = \"a\"\nrepositories = [\"b\"]\nkeep_last = 1",
            &["line 6", "already"],
        ),
        ("keep_last = 1\n[[retention.policy]]\nname = \"b\"", &["line 5", "no \"repositories\""]),
        ("keep_last = 1\n[[retention.policy]]\nrepositories = [\"b\"]", &["line 5", "no \"name\""]),
        ("keep_last = 1\n[[immutable]]\ntags = [\"v*\"]", &["line 5", "no \"repositories\""]),
        (
            "keep_last = 1\n[[immutable]]\nrepositories = [\"A\"]",
            &["line 6", "immutable.repositories", "team/**"],
        ),
        ("keep_last = 1\n[[quota]]\nrepositories = [\"a\"]", &["line 5", "no \"max_size\""]),
        ("keep_last = 1\n[[quota]]\nmax_size = \"1 GiB\"", &["line 5", "no \"repositories\""]),
        (
            "keep_last = 1\n[[quota]]\nrepositories = [\"a\"]\nmax_size = \"much\"",
            &["line 7", "quota.max_size", "MiB"],
        ),
    ] {
        let message = mistake(&with_file(directory.path(), &format!("{begin}{lines}\n")));
        for part in parts {
            assert!(message.contains(part), "{lines}: {part} is not in: {message}");
        }
    }
    for (list, text) in [
        ("retention.policy", "[retention.policy]\nname = \"a\""),
        ("immutable", "[immutable]\ntags = [\"v*\"]"),
        ("quota", "quota = \"1 GiB\""),
    ] {
        assert!(
            mistake(&with_file(directory.path(), text)).contains(&format!("[[{list}]] in the file")),
            "{text}"
        );
    }
    let by_variable =
        Input { environment: vec![variable("ORLOP_QUOTA_MAX_SIZE", "1 GiB")], ..Input::default() };
    assert!(mistake(&by_variable).contains("[[quota]] in the file"));
}

#[test]
fn a_scope_is_a_list_in_the_file_and_separated_by_commas_elsewhere() {
    let directory = directory();
    let by_file = with_file(directory.path(), "scope = [\"team/**\", \"base\"]");
    let by_flag = Input { assignments: vec!["scope=team/**, base".to_owned()], ..Input::default() };
    for input in [by_file, by_flag] {
        let scope = input.load().unwrap().config.scope;
        for (name, is_in) in [("team/a", true), ("base", true), ("teams/a", false)] {
            assert_eq!(scope.contains(&name.parse().unwrap()), is_in, "{name}");
        }
    }
    for text in ["scope = \"team/**\"", "scope = [1]", "scope = [\"Team\"]"] {
        let message = mistake(&with_file(directory.path(), text));
        assert!(
            message.contains("line 1") && message.contains("\"scope\"") && message.contains("write"),
            "{message}"
        );
    }
}

/// `UPDATE_DOCS=1 cargo test --test config` writes the table into the page.
#[test]
fn the_page_about_the_configuration_has_the_table_of_keys() {
    const BEGIN: &str = "<!-- The table below is written by `UPDATE_DOCS=1 cargo test --test config`. -->\n";
    const END: &str = "<!-- End of the table. -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the table begins");
    let (table, after) = rest.split_once(END).expect("the page says where the table ends");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
        return;
    }
    assert_eq!(table, reference(), "run UPDATE_DOCS=1 cargo test --test config");
}

#[test]
fn a_key_under_its_old_name_is_understood_with_a_warning() {
    let (old, empty) = (directory(), directory());
    for name in ["layerinfo", "blobdescriptor"] {
        let file = with_file(old.path(), &format!("[cache]\n{name} = \"none\"\n"));
        let environment = vec![variable(&format!("ORLOP_CACHE_{}", name.to_uppercase()), "none")];
        let environment = Input { environment, ..with_file(empty.path(), "") };
        let assignments = vec![format!("cache.{name}=none")];
        let assignment = Input { assignments, ..with_file(empty.path(), "") };
        for input in [file, environment, assignment] {
            let loaded = input.load().unwrap();
            assert_eq!(loaded.config.storage.cache.blobdescriptor, DescriptorCache::None);
            assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
            let warning = format!("cache.{name} is now called storage.cache.blobdescriptor");
            assert!(loaded.warnings[0].contains(&warning), "{:?}", loaded.warnings);
        }
    }
    let sizes = with_file(old.path(), "[cache]\ndescriptors = 7\nmanifests = \"1 MiB\"\n").load().unwrap();
    assert_eq!((sizes.config.storage.cache.descriptors, sizes.config.storage.cache.manifests), (7, 1 << 20));
    assert_eq!(sizes.warnings.len(), 2);
    let present = with_file(old.path(), "[storage.cache]\nblobdescriptor = \"inmemory\"\n");
    assert!(present.load().unwrap().warnings.is_empty());
    let wrong = with_file(old.path(), "[cache]\nlayerinfo = \"redis\"\n");
    assert!(mistake(&wrong).contains("write one of inmemory, none"), "{}", mistake(&wrong));
}

#[test]
fn the_page_names_exactly_what_is_read_again() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let section = page.split("\n## Reading it again\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: Vec<&str> = section.split('`').skip(1).step_by(2).collect();
    for key in KEYS {
        assert_eq!(named.contains(&key.name), key.is_reloaded, "{}", key.name);
    }
    assert!(named.contains(&"[[rule]]") && named.contains(&"[[upstream]]"));
}

#[test]
fn only_what_no_running_server_goes_by_needs_a_restart() {
    let directory = directory();
    let upstream = "[[upstream]]\nhost = \"a.example\"\nusername = \"anna\"\npassword_file = \"p\"\n";
    let rule = "[[rule]]\nrepositories = [\"**\"]\nwho = [\"anonymous\"]\nactions = [\"pull\"]\n";
    let before = with_file(directory.path(), &format!("{upstream}{rule}")).load().unwrap();
    for (text, expected) in [
        (format!("# moved\n\n{upstream}{rule}"), &[][..]),
        (upstream.replace("anna", "bo"), &[]),
        (format!("log.level = \"debug\"\naccess.htpasswd = \"u\"\n{upstream}{rule}{rule}"), &[]),
        (format!("listen = \"127.0.0.1:1\"\n{upstream}"), &["listen"]),
        (upstream.replace("a.example", "b.example"), &["upstream"]),
        (format!("{upstream}max_size = \"1 GiB\"\n"), &["upstream"]),
        (String::new(), &["upstream"]),
        (format!("{upstream}[[quota]]\nrepositories = [\"a\"]\nmax_size = \"1 MiB\"\n"), &["quota"]),
    ] {
        let after = with_file(directory.path(), &text).load().unwrap();
        assert_eq!(before.needs_restart(&after), expected, "{text}");
    }
}

#[test]
fn each_key_of_a_backup_arrives_in_its_field() {
    let directory = directory();
    let text = r#"
        [[backup]]
        to = "s3://bucket/orlop"
        every = "48h"
        at = "03:30"
        keep_last = 1
        keep_hourly = 2
        keep_daily = 3
        keep_weekly = 4
        keep_monthly = 5
        include_cache = true
        s3_endpoint = "https://store.example"
        s3_region = "eu-central-1"
        s3_credentials = "/etc/orlop/keys"
        encrypt_to = ["age1anna", "age1bo"]
        [[backup]]
        to = "/mnt/disk/orlop"
        s3_virtual_host = true
    "#;
    let config = with_file(directory.path(), text).load().unwrap().config;
    let s3 = S3Options {
        endpoint: Some("https://store.example".to_owned()),
        region: Some("eu-central-1".to_owned()),
        credentials: Some("/etc/orlop/keys".into()),
        virtual_host: false,
    };
    let encrypt_to = vec!["age1anna".to_owned(), "age1bo".to_owned()];
    let one = BackupTarget {
        to: "s3://bucket/orlop".parse().unwrap(),
        options: BackupOptions { s3, encrypt_to, identities: Vec::new() },
        every: Duration::from_secs(48 * 60 * 60),
        at: Some("03:30".parse().unwrap()),
        keep: Keep { last: 1, hourly: 2, daily: 3, weekly: 4, monthly: 5 },
        include_cache: true,
    };
    let other = BackupTarget {
        to: "/mnt/disk/orlop".parse().unwrap(),
        options: BackupOptions {
            s3: S3Options { virtual_host: true, ..S3Options::default() },
            ..BackupOptions::default()
        },
        every: Duration::from_secs(24 * 60 * 60),
        at: None,
        keep: Keep::default(),
        include_cache: false,
    };
    assert_eq!(config.backups, [one, other]);
}

#[test]
fn a_schedule_that_makes_no_sense_is_refused_with_what_to_write() {
    for (table, message) in [
        ("every = \"1h\"", "to"),
        ("to = \"backup\"", "write the whole path"),
        ("to = \"/b\"\nevery = \"0s\"", "write 1s or more"),
        ("to = \"/b\"\nat = \"3:00\"", "such as \"03:00\""),
        ("to = \"/b\"\nat = \"03:00\"\nevery = \"6h\"", "a number of days beside `at`"),
        ("to = \"/b\"\n[[backup]]\nto = \"/b\"", "write each place once"),
        ("to = \"s3://B\"", "is not the name of a bucket"),
        ("to = \"s3://bucket\"\ns3_endpoint = \"store\"", "write a URL"),
        ("to = \"/b\"\ns3_credentials = \"keys\"", "write the whole path of a file"),
        ("to = \"/b\"\nencrypt_to = [\"anna\"]", "write age recipients"),
        ("to = \"/b\"\nkeep_last = \"many\"", "write a whole number"),
    ] {
        let directory = directory();
        let errors = with_file(directory.path(), &format!("[[backup]]\n{table}\n")).load().unwrap_err();
        assert!(errors.to_string().contains(message), "{table}: {errors}");
    }
}
