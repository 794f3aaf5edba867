//! The configuration: one table of keys, read from a file, the environment and flags.
//!
//! [`KEYS`] is the only list: the commented example, the names of the environment variables, the page
//! `docs/configuration.md`, the messages about unknown keys and [`Config`]'s defaults all come from it.
//! Lists of tables, [`LISTS`], have a table of keys of their own and are written in the file only.
//! A flag wins over the environment, the environment over the file, the file over the default.

mod backup;
mod endpoint;
mod error;
mod file;
mod immutable;
mod issuer;
mod key;
mod keys;
mod listen;
mod lists;
mod load;
mod quota;
mod retention;
mod rule;
mod settings;
mod template;
mod tls;
mod upstream;
mod value;
mod wire_keys;

pub use error::{ConfigError, ConfigErrors, Source};
pub use key::Key;
pub use keys::{KEYS, RENAMED, SHORT};
pub use listen::Listen;
pub use lists::{LISTS, List, Row};
pub use load::{DEFAULT_FILE, Effective, FILE_VARIABLE, Input, Loaded, VARIABLE_PREFIX};
pub use settings::{
    Cache, Collection, Config, Database, Delete, DescriptorCache, Limits, Log, Manifests, Notifications,
    RetentionSettings, RowCache, Signatures, Storage, Uploads,
};
pub use template::{example, reference};
pub use tls::{ClientCertificates, Tls, TlsVersion};
pub use upstream::{Password, Upstream};
pub use value::{duration as parse_duration, size as parse_size};
