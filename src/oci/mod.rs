//! The words of the OCI specifications as types: pure, without input or output.
