//! The key that signs Bearer tokens.

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, json};
use crate::clock::{Clock, SystemClock};
use crate::http::errors::ApiError;

/// The body of `POST access/rotate-key`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RotateKey {
    /// Whether the tokens that were signed before are refused at once, as after a key has leaked.
    pub forget: bool,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotatedKey {
    /// The id of the fresh key, as it stands in the header of tokens.
    pub key: String,
}

/// Signs with a fresh key from now on.
pub(super) async fn rotate_key(mut call: Call) -> Answer {
    let RotateKey { forget } = call.json().await?;
    let keys = call.token_keys()?;
    let rotated = tokio::task::spawn_blocking(move || keys.rotate(SystemClock.now(), forget)).await;
    let key = rotated.map_err(ApiError::failure)?.map_err(ApiError::failure)?;
    json(&RotatedKey { key })
}
