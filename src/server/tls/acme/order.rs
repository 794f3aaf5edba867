//! One certificate, from the order to the file.

use std::path::Path;
use std::sync::Arc;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::fsio::{RealDisk, read_small, replace_file};

use super::transport::Transport;
use super::{ACCOUNT, AcmeError, CERTIFICATE, create_directory};
use crate::server::tls::{ACME_PROTOCOL, Tls};

/// The most bytes that an account may have.
const MAX_ACCOUNT: usize = 64 * 1024;

/// An account, and whose it is.
#[derive(Serialize, Deserialize)]
struct Stored {
    directory: String,
    credentials: AccountCredentials,
}

/// Has a certificate and keeps it below `dir`.
pub(super) async fn certificate(tls: &Tls, client: &Client, dir: &Path) -> Result<(), AcmeError> {
    create_directory(dir)?;
    let account = account(tls, client, dir).await?;
    let domains = &tls.settings().domains;
    let identifiers: Vec<Identifier> = domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let missing = || AcmeError::NoChallenge(name.clone());
        let mut challenge = authorization.challenge(ChallengeType::TlsAlpn01).ok_or_else(missing)?;
        let digest = challenge.key_authorization().digest();
        tls.challenges().set(name.to_ascii_lowercase(), proof(&name, digest.as_ref())?);
        challenge.set_ready().await?;
    }
    if order.poll_ready(&RetryPolicy::default()).await? != OrderStatus::Ready {
        return Err(AcmeError::NotProved(domains.join(", ")));
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(domains.clone())?;
    params.distinguished_name = DistinguishedName::new();
    order.finalize_csr(params.serialize_request(&key)?.der()).await?;
    let chain = order.poll_certificate(&RetryPolicy::default()).await?;
    replace_file(&dir.join(CERTIFICATE), format!("{}\n{chain}", key.serialize_pem()).as_bytes())?;
    Ok(())
}

/// The account with the authority, which is made the first time.
async fn account(tls: &Tls, client: &Client, dir: &Path) -> Result<Account, AcmeError> {
    let settings = tls.settings();
    let (path, builder) =
        (dir.join(ACCOUNT), Account::builder_with_http(Box::new(Transport(client.clone()))));
    let unreadable = |error: serde_json::Error| {
        // By its kind and place alone: the key stands in the file.
        let reason = format!("{:?} in line {}", error.classify(), error.line());
        AcmeError::Account { path: path.clone(), reason }
    };
    if let Some(bytes) = read_small(&RealDisk, &path, MAX_ACCOUNT)? {
        let stored: Stored = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if stored.directory == settings.acme_directory {
            return Ok(builder.from_credentials(stored.credentials).await?);
        }
    }
    let contact: Vec<&str> = settings.acme_contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let directory = settings.acme_directory.clone();
    let (account, credentials) = builder.create(&new, directory.clone(), None).await?;
    let stored = serde_json::to_vec(&Stored { directory, credentials }).map_err(unreadable)?;
    replace_file(&path, &stored)?;
    Ok(account)
}

/// What the authority wants to see when it connects to a name (RFC 8737, section 3).
fn proof(name: &str, digest: &[u8]) -> Result<ServerConfig, AcmeError> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key: PrivateKeyDer<'static> = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // The usual way checks the certificate, and takes offence at the extension that this is about.
    let shown =
        CertifiedKey::new(vec![certificate.der().clone()], provider.key_provider.load_private_key(key)?);
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config =
        builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![ACME_PROTOCOL.to_vec()];
    Ok(config)
}
