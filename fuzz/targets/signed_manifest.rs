//! Signed manifests: what verifies has to survive being stored and served.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::oci::schema1::{SignatureSet, SignedManifest};

fuzz_target!(|bytes: &[u8]| {
    let signed = match SignedManifest::parse(bytes) {
        Ok(signed) => signed,
        Err(error) => {
            assert!(error.to_string().len() < 2_000);
            return;
        }
    };
    let mut set = SignatureSet::new();
    set.merge(signed.signatures().iter().cloned()).expect("one document has one format");
    let served = set.assemble(signed.payload(), usize::MAX).expect("the payload is the signatures' own");
    let again = SignedManifest::parse(&served).expect("what is served is a signed manifest");
    assert_eq!(again.payload(), signed.payload());
    assert!(again.signatures().iter().eq(set.iter()));
});
