use std::sync::Arc;

use super::*;
use crate::auth::{Action, Scope, hash_password, with_user};
use crate::clock::{ManualClock, Timestamp};
use crate::fsio::SimulatedDisk;
use crate::registry::{AccountName, NewAccessToken, PasswordHash, Registry};
use crate::telemetry::StorageMetrics;

const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

struct Bench {
    clock: Arc<ManualClock>,
    metrics: StorageMetrics,
    registry: Registry,
    access: Access,
}

impl Bench {
    fn new(state: State) -> Bench {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let metrics = StorageMetrics::default();
        let registry = Registry::open(registry::Options {
            disk: Arc::new(SimulatedDisk::new()),
            clock: clock.clone(),
            metrics: metrics.clone(),
            ..registry::Options::new("/data")
        });
        let (registry, access) = (registry.unwrap(), Access::with(state));
        access.attach(registry.accounts()).unwrap();
        Bench { clock, metrics, registry, access }
    }

    async fn add(&self, user: &str, password: &str, groups: &[&str]) {
        let groups: Vec<AccountName> = groups.iter().map(|group| name(group)).collect();
        let hash = bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
        let hash = PasswordHash::new(hash.format_for_version(bcrypt::Version::TwoY));
        self.registry.accounts().add_user(&name(user), hash, &groups).await.unwrap();
        self.access.refresh_accounts().unwrap();
    }

    async fn create(
        &self,
        token: &str,
        owner: Option<&str>,
        scope: Option<&str>,
        lasts: Option<u64>,
    ) -> TokenSecret {
        let secret = TokenSecret::generate();
        let expires_at = lasts.map(|seconds| self.clock_now().saturating_add(Duration::from_secs(seconds)));
        let token = NewAccessToken {
            name: name(token),
            hash: secret.hash(),
            owner: owner.map(str::to_owned),
            is_owner_elsewhere: owner.is_some_and(|owner| self.access.is_in_file(owner)),
            scope: scope.map(|scope| vec![scope.to_owned()]),
            expires_at,
        };
        self.registry.accounts().create_token(token).await.unwrap();
        self.access.refresh_accounts().unwrap();
        secret
    }

    fn clock_now(&self) -> Timestamp {
        self.registry.accounts().now()
    }

    async fn basic(&self, user: &str, password: &str) -> Result<Identity, AuthenticationError> {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.access.identify(Some(&format!("Basic {encoded}")), HERE).await
    }

    async fn bearer(&self, secret: &TokenSecret) -> Result<Identity, AuthenticationError> {
        self.access.identify(Some(&format!("Bearer {}", secret.reveal())), HERE).await
    }
}

fn name(text: &str) -> AccountName {
    text.parse().unwrap()
}

/// A file with a user whose password is `in-file`.
fn file_of(user: &str) -> State {
    let text = with_user("", user, &hash_password("in-file").unwrap()).unwrap();
    State::of(Some(Htpasswd::parse(&text).unwrap()), Vec::new())
}

#[tokio::test]
async fn the_first_account_closes_the_registry_and_the_last_one_does_not_open_it_again() {
    let bench = Bench::new(State::of(None, Vec::new()));
    assert!(bench.access.is_open());
    let secret = bench.create("ci", None, Some("team/**:pull"), None).await;
    assert!(!bench.access.is_open());
    let (team, other) = ("team/a".parse().unwrap(), "other".parse().unwrap());
    let may = |identity: &Identity, action, name| {
        bench.access.rules().decide(identity, action, Some(name)).is_allowed()
    };
    let robot = bench.bearer(&secret).await.unwrap();
    assert!(may(&robot, Action::Pull, &team) && !may(&robot, Action::Push, &team));
    assert!(!may(&robot, Action::Pull, &other) && !may(&Identity::anonymous(), Action::Pull, &team));
    bench.registry.accounts().revoke_token(&name("ci")).await.unwrap();
    bench.access.refresh_accounts().unwrap();
    assert!(!bench.access.is_open());
    assert_eq!(bench.bearer(&secret).await, Err(AuthenticationError::Wrong));
}

#[tokio::test]
async fn a_user_has_their_groups_whichever_way_they_come() {
    let bench = Bench::new(State::of(None, Vec::new()));
    bench.add("anna", "sesame", &["ops", "dev"]).await;
    let secret = bench.create("laptop", Some("anna"), None, None).await;
    for identity in [
        bench.basic("anna", "sesame").await,
        bench.basic("anna", "sesame").await,
        bench.basic("anna", secret.reveal()).await,
        bench.bearer(&secret).await,
    ] {
        let identity = identity.unwrap();
        let principal = identity.principal().unwrap();
        assert_eq!((principal.kind, principal.name.as_str()), (PrincipalKind::User, "anna"));
        assert_eq!(principal.groups, ["dev", "ops"]);
    }
    bench.registry.accounts().change_user(&name("anna"), None, Some(&[])).await.unwrap();
    bench.access.refresh_accounts().unwrap();
    for identity in [bench.basic("anna", "sesame").await, bench.bearer(&secret).await] {
        assert!(identity.unwrap().principal().unwrap().groups.is_empty());
    }
    let hash = hash_password("another").unwrap();
    bench.registry.accounts().change_user(&name("anna"), Some(hash), None).await.unwrap();
    bench.access.refresh_accounts().unwrap();
    assert_eq!(
        bench.basic("anna", "sesame").await,
        Err(AuthenticationError::Wrong),
        "not from memory either"
    );
    bench.basic("anna", "another").await.unwrap();
}

#[tokio::test]
async fn a_token_is_used_under_its_own_name_or_its_owners_and_no_other() {
    let bench = Bench::new(State::of(None, Vec::new()));
    bench.add("anna", "sesame", &[]).await;
    let robot = bench.create("ci", None, None, None).await;
    let of_anna = bench.create("laptop", Some("anna"), Some("team/**:pull"), None).await;
    let identity = bench.basic("ci", robot.reveal()).await.unwrap();
    assert_eq!(identity.principal().unwrap().kind, PrincipalKind::AccessToken);
    let identity = bench.basic("anna", of_anna.reveal()).await.unwrap();
    let scope: Vec<Scope> = vec!["team/**:pull".parse().unwrap()];
    assert_eq!(identity.principal().unwrap().scope.as_deref(), Some(&scope[..]));
    for (user, secret) in [("anna", &robot), ("laptop", &of_anna), ("ci", &of_anna), ("", &robot)] {
        assert_eq!(bench.basic(user, secret.reveal()).await, Err(AuthenticationError::Wrong), "{user}");
    }
    let known = bench.registry.accounts().tokens().unwrap().0;
    for token in known {
        let found = bench.access.find_access_token(token.id).unwrap();
        assert_eq!(found.access_token, Some(token.id));
    }
    assert!(bench.access.find(PrincipalKind::AccessToken, "ci").is_some());
    assert!(bench.access.find(PrincipalKind::AccessToken, "laptop").is_none());
}

#[tokio::test]
async fn what_has_expired_or_is_revoked_or_whose_owner_is_gone_fails_at_once() {
    let bench = Bench::new(State::of(None, Vec::new()));
    bench.add("anna", "sesame", &[]).await;
    let short = bench.create("short", None, None, Some(60)).await;
    let of_anna = bench.create("laptop", Some("anna"), None, None).await;
    let id = bench.bearer(&short).await.unwrap().principal().unwrap().access_token.unwrap();
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.bearer(&short).await, Err(AuthenticationError::Expired));
    assert_eq!(bench.basic("short", short.reveal()).await, Err(AuthenticationError::Expired));
    // That it was one of theirs is for nobody else to know.
    assert_eq!(bench.basic("other", short.reveal()).await, Err(AuthenticationError::Wrong));
    assert_eq!(bench.access.find_access_token(id), None);
    bench.bearer(&of_anna).await.unwrap();
    bench.registry.accounts().remove_user(&name("anna")).await.unwrap();
    bench.access.refresh_accounts().unwrap();
    assert_eq!(bench.bearer(&of_anna).await, Err(AuthenticationError::Wrong));
    assert_eq!(bench.basic("anna", "sesame").await, Err(AuthenticationError::Wrong));
    bench.add("anna", "sesame", &[]).await;
    assert_eq!(bench.bearer(&of_anna).await, Err(AuthenticationError::Wrong), "another of the same name");
}

#[tokio::test]
async fn of_the_same_name_the_user_in_the_file_is_meant() {
    let bench = Bench::new(file_of("anna"));
    bench.add("anna", "in-database", &["ops"]).await;
    bench.add("bo", "bo", &["ops"]).await;
    assert_eq!(bench.basic("anna", "in-database").await, Err(AuthenticationError::Wrong));
    let secret = bench.create("laptop", Some("anna"), None, None).await;
    for identity in [bench.basic("anna", "in-file").await, bench.bearer(&secret).await] {
        assert!(identity.unwrap().principal().unwrap().groups.is_empty(), "the groups are another's");
    }
    assert!(bench.access.find(PrincipalKind::User, "anna").unwrap().groups.is_empty());
    assert_eq!(bench.access.find(PrincipalKind::User, "bo").unwrap().groups, ["ops"]);
}

#[tokio::test]
async fn the_token_of_a_user_in_the_file_goes_with_them() {
    let bench = Bench::new(file_of("anna"));
    let secret = bench.create("laptop", Some("anna"), None, None).await;
    bench.bearer(&secret).await.unwrap();
    *bench.access.0.state.write().unwrap() = Arc::new(State::of(Some(Htpasswd::default()), Vec::new()));
    assert_eq!(bench.bearer(&secret).await, Err(AuthenticationError::Wrong));
    bench.add("anna", "sesame", &[]).await;
    assert_eq!(bench.bearer(&secret).await, Err(AuthenticationError::Wrong), "another of the same name");
}

#[tokio::test]
async fn many_uses_of_a_token_are_one_row_a_minute() {
    let bench = Bench::new(State::of(None, Vec::new()));
    let secret = bench.create("ci", None, None, None).await;
    let used_at = || bench.registry.accounts().tokens().unwrap().0[0].used_at;
    let commits = bench.metrics.commits();
    let first = bench.clock_now();
    for _ in 0..59 {
        bench.bearer(&secret).await.unwrap();
        bench.registry.accounts().flush_uses().await.unwrap();
        bench.clock.advance(Duration::from_secs(1));
        // Whoever changes another account in between has everything read again.
        bench.access.refresh_accounts().unwrap();
    }
    assert_eq!((used_at(), bench.metrics.commits()), (Some(first), commits + 1));
    bench.clock.advance(Duration::from_secs(1));
    bench.bearer(&secret).await.unwrap();
    bench.registry.accounts().flush_uses().await.unwrap();
    assert_eq!((used_at(), bench.metrics.commits()), (Some(bench.clock_now()), commits + 2));
}

#[tokio::test]
async fn who_tries_wrong_tokens_has_to_wait_and_right_ones_are_taken_all_the_same() {
    let bench = Bench::new(State::of(None, Vec::new()));
    let secret = bench.create("ci", None, None, None).await;
    let wrong = TokenSecret::generate();
    for _ in 0..10 {
        assert_eq!(bench.basic("ci", wrong.reveal()).await, Err(AuthenticationError::Wrong));
        assert_eq!(bench.bearer(&wrong).await, Err(AuthenticationError::Wrong));
    }
    assert!(matches!(bench.basic("ci", wrong.reveal()).await, Err(AuthenticationError::TooMany(_))));
    assert!(matches!(bench.bearer(&wrong).await, Err(AuthenticationError::TooMany(_))));
    bench.bearer(&secret).await.unwrap();
    bench.basic("ci", secret.reveal()).await.unwrap();
    let mistyped = bench.access.identify(Some("Bearer orlop_mistyped"), None).await;
    assert_eq!(mistyped, Err(AuthenticationError::Wrong));
}

#[tokio::test]
async fn a_scope_that_is_not_understood_opens_nothing() {
    let bench = Bench::new(State::of(None, Vec::new()));
    let secret = bench.create("ci", None, Some("team/**:fly"), None).await;
    assert!(!bench.access.is_open());
    assert_eq!(bench.bearer(&secret).await, Err(AuthenticationError::Wrong));
}

#[tokio::test]
async fn many_tries_at_once_are_as_many_as_one_after_the_other() {
    let bench = Bench::new(State::of(None, Vec::new()));
    bench.add("anna", "sesame", &[]).await;
    let right = futures_util::future::join_all((0..100).map(|_| bench.basic("anna", "sesame"))).await;
    assert!(right.iter().all(Result::is_ok), "{right:?}");
    let guesses: Vec<String> = (0..100).map(|at| format!("guess{at}")).collect();
    let tries = guesses.iter().map(|guess| bench.basic("bo", guess));
    let wrong = futures_util::future::join_all(tries).await;
    let checked = wrong.iter().filter(|result| **result == Err(AuthenticationError::Wrong)).count();
    assert!((10..=11).contains(&checked), "two are checked at once, and {checked} were");
}
