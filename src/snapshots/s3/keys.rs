//! How a store that speaks S3 is reached, and by which keys.

use std::path::Path;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::super::{Error, S3Location, S3Options};
use crate::secret::Secret;

/// So long no byte may come of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// So often, and for so long, a request is tried again.
const RETRIES: usize = 10;
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);

/// What most stores of one's own take for a region.
const REGION: &str = "us-east-1";

/// Who asks.
#[derive(Debug)]
struct Keys {
    id: String,
    secret: Secret,
    token: Option<Secret>,
}

/// Makes the client of a bucket.
pub(super) fn client(place: &S3Location, options: &S3Options) -> Result<AmazonS3, Error> {
    let unusable = |reason: String| Error::Settings { location: place.to_string(), reason };
    let keys = match &options.credentials {
        Some(path) => read(path).map_err(unusable)?,
        None => from_environment(&|name| std::env::var(name).ok().filter(|value| !value.is_empty())).ok_or_else(|| {
            unusable(
                "there are no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where it runs, or name a file with them"
                    .to_owned(),
            )
        })?,
    };
    let set = |names: &[&str]| {
        names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    };
    let endpoint = options.endpoint.clone().or_else(|| set(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
    let region = options.region.clone().or_else(|| set(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        ..BackoffConfig::default()
    };
    let http = ClientOptions::new().with_timeout_disabled().with_read_timeout(READ_TIMEOUT);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(place.bucket())
        .with_region(region.unwrap_or_else(|| REGION.to_owned()))
        .with_access_key_id(keys.id)
        .with_secret_access_key(keys.secret.reveal())
        .with_virtual_hosted_style_request(options.virtual_host)
        // Each object and each part goes with the digest of its bytes, which the store compares.
        .with_checksum_algorithm(Checksum::SHA256)
        .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT });
    if let Some(token) = &keys.token {
        builder = builder.with_token(token.reveal());
    }
    let mut is_plain = false;
    if let Some(endpoint) = endpoint {
        let (scheme, host) = endpoint
            .split_once("://")
            .filter(|(scheme, host)| matches!(*scheme, "http" | "https") && !host.is_empty())
            .ok_or_else(|| unusable(format!("write the endpoint as https://host, not as {endpoint:?}")))?;
        is_plain = scheme == "http";
        let host = host.trim_end_matches('/');
        let bucket = if options.virtual_host { format!("{}.", place.bucket()) } else { String::new() };
        builder = builder.with_endpoint(format!("{scheme}://{bucket}{host}"));
    }
    let builder = builder.with_client_options(http.with_allow_http(is_plain));
    builder.build().map_err(|error| unusable(error.to_string()))
}

fn from_environment(get: &dyn Fn(&str) -> Option<String>) -> Option<Keys> {
    Some(Keys {
        id: get("AWS_ACCESS_KEY_ID")?,
        secret: get("AWS_SECRET_ACCESS_KEY")?.into(),
        token: get("AWS_SESSION_TOKEN").map(Secret::from),
    })
}

/// Reads a file of AWS's own tools: lines such as `aws_access_key_id = …`; heads in brackets are passed over.
fn read(path: &Path) -> Result<Keys, String> {
    let unusable = |reason: &str| format!("the file with the keys, {}: {reason}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error.to_string()))?;
    let get = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    from_environment(&get)
        .ok_or_else(|| unusable("it has no lines aws_access_key_id = … and aws_secret_access_key = …"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::Location;

    #[test]
    fn keys_come_from_a_file_and_are_never_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, "[default]\naws_access_key_id = id\naws_secret_access_key=s3cr3t=\n").unwrap();
        let keys = read(&path).unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.reveal(), keys.token), ("id", "s3cr3t=", None));
        std::fs::write(&path, "AWS_SECRET_ACCESS_KEY=s3cr3t\n").unwrap();
        let refused = read(&path).unwrap_err();
        assert!(refused.contains("aws_access_key_id") && !refused.contains("s3cr3t"), "{refused}");
    }

    #[test]
    fn an_endpoint_has_its_scheme() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, "aws_access_key_id = id\naws_secret_access_key = s3cr3t\n").unwrap();
        let Ok(Location::S3(place)) = "s3://bucket/prefix".parse() else { panic!("it is S3") };
        let with = |endpoint: &str| {
            let endpoint = Some(endpoint.to_owned());
            client(&place, &S3Options { endpoint, credentials: Some(path.clone()), ..S3Options::default() })
        };
        assert!(with("https://store.example/").is_ok() && with("http://127.0.0.1:3900").is_ok());
        for wrong in ["store.example", "ftp://store.example", "https://"] {
            assert!(with(wrong).unwrap_err().to_string().contains("https://host"), "{wrong}");
        }
        assert!(!format!("{:?}", with("https://store.example").unwrap()).contains("s3cr3t"));
    }
}
