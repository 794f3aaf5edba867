//! Wires the layers together and serves.
