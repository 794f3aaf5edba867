//! The configuration: one table of keys, read from a file, the environment and flags.
//!
//! [`KEYS`] is the only list: the commented example, the names of the environment variables, the page
//! `docs/configuration.md`, the messages about unknown keys and [`Config`]'s defaults all come from it.
//! Lists of tables, such as [`ENDPOINTS`], have a table of keys of their own and are written in the file only.
//! A flag wins over the environment, the environment over the file, the file over the default.

mod endpoint;
mod error;
mod file;
mod keys;
mod load;
mod settings;
mod template;
mod value;

pub use endpoint::{ENDPOINT_KEYS, ENDPOINTS, EndpointTable};
pub use error::{ConfigError, ConfigErrors, Source};
pub use keys::{KEYS, Key, RENAMED};
pub use load::{DEFAULT_FILE, Effective, FILE_VARIABLE, Input, Loaded, VARIABLE_PREFIX};
pub use settings::{
    Cache, Config, Database, Delete, DescriptorCache, Limits, Log, Manifests, Notifications, Signatures,
    Storage, Uploads,
};
pub use template::{example, reference};
