//! The content-addressed directory of blob bytes.
