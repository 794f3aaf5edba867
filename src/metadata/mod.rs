//! The transactional tables; the only user of redb and bincode.
