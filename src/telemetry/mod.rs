//! What a running registry says about itself: logs, request ids and metrics.
//!
//! This layer stands below everything that reports, so it knows nothing of blobs or requests beyond their names:
//! the storage layers record into [`StorageMetrics`], the HTTP layer into [`Metrics`].

mod audit;
mod backups;
mod cache;
mod logs;
mod metrics;
mod notifications;
mod printable;
mod request_id;
mod storage;

pub use audit::{Deed, Outcome, Said};
pub use backups::{BackupFigures, BackupMetrics};
pub use cache::{CacheAnswer, CacheKind, CacheMetrics, UpstreamMetrics, UpstreamRequest, UpstreamSummary};
pub use logs::{AuditLevel, LogFormat, LogLevel, set_audit_file, set_log_level, start_logs};
pub use metrics::{GaugeGuard, METRICS_CONTENT_TYPE, Metrics, Request};
pub use notifications::{EndpointMetrics, NotificationMetrics};
pub use printable::printable;
pub use request_id::RequestId;
pub use storage::StorageMetrics;
