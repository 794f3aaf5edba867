//! Single signatures without their payload, so that keys, certificates and protected headers are reached.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use orlop::oci::schema1::{Signature, TrustRoots};

const ROOT: &[u8] = include_bytes!("../../tests/vectors/schema1/root.der");

fuzz_target!(|bytes: &[u8]| {
    let signature = match Signature::from_json(bytes) {
        Ok(signature) => signature,
        Err(error) => {
            assert!(error.to_string().len() < 2_000);
            return;
        }
    };
    let stored = signature.to_json();
    assert_eq!(Signature::from_json(&stored).as_ref(), Ok(&signature));
    let _ = signature.verify(b"{}");
    let roots = TrustRoots::from_der([ROOT]).expect("a root certificate");
    let _ = signature.verify_chain(&roots, Duration::from_secs(2_000_000_000));
});
