//! Content that comes from elsewhere than a push: the stores of other registries.

pub mod distribution;
