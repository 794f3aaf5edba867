//! Proof that the SHA instructions are in use: as fast as OpenSSL with them, and much faster than OpenSSL without.

use std::fs::File;
use std::io::Read;
use std::process::Command;

use orlop::clock::monotonic;
use orlop::oci::{Digest, DigestAlgorithm, Hasher};
use tempfile::TempDir;

use crate::program::cpu_of_this_thread;
use crate::sample::{HEAD, Sample, Samples};
use crate::{BLOB, ROUNDS, output_of, processor};

/// Hides the SHA instructions from OpenSSL.
const WITHOUT_INSTRUCTIONS: &str = ":~0x20000000";

/// Prints the comparison, and fails when the instructions are there and not in use.
pub(crate) fn report() {
    let folder = TempDir::with_prefix("orlop-bench-").expect("a temporary folder can be made");
    let path = folder.path().join("blob");
    let mut random = File::open("/dev/urandom").expect("it opens").take(BLOB);
    std::io::copy(&mut random, &mut File::create(&path).expect("a file can be made"))
        .expect("it can be written");

    let (mut ours, mut openssl, mut plain) = (Samples::default(), Samples::default(), Samples::default());
    let mut digests = Vec::new();
    for round in 0..ROUNDS {
        let started = monotonic();
        let before = cpu_of_this_thread();
        digests.push(hash_file(&path).to_string());
        ours.push(Sample::new(BLOB, started.elapsed(), cpu_of_this_thread().saturating_sub(before)));

        let mut dgst = Command::new("openssl");
        dgst.args(["dgst", "-sha256", "-r"]).arg(&path);
        let started = monotonic();
        let line = output_of(&mut dgst);
        openssl.push(Sample::new(BLOB, started.elapsed(), started.elapsed()));
        assert_eq!(digests[round], format!("sha256:{}", &line[..64]));

        dgst.env("OPENSSL_ia32cap", WITHOUT_INSTRUCTIONS);
        let started = monotonic();
        output_of(&mut dgst);
        plain.push(Sample::new(BLOB, started.elapsed(), started.elapsed()));
    }
    println!("## SHA-256 of a file of 1 GiB in memory\n\n{HEAD}");
    println!("{}", openssl.row("`openssl dgst -sha256`", &openssl));
    println!("{}", plain.row("the same without the SHA instructions", &openssl));
    println!("{}\n", ours.row("`orlop::oci::Hasher`", &openssl));
    if processor::has_sha_instructions() {
        let ratio = ours.throughput() / openssl.throughput();
        assert!(ratio >= 0.8, "the hasher reaches {ratio:.2} of OpenSSL: are the SHA instructions in use?");
    }
}

fn hash_file(path: &std::path::Path) -> Digest {
    let mut file = File::open(path).expect("it is there");
    let mut hasher = Hasher::new(DigestAlgorithm::Sha256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).expect("it can be read") {
            0 => return hasher.finish(),
            read => hasher.update(&buffer[..read]),
        }
    }
}
