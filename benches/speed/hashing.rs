//! The hash that pushes are measured by: as fast as OpenSSL's with the SHA instructions, and much faster than without.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use orlop::clock::monotonic;
use orlop::oci::{DigestAlgorithm, Hasher};

use crate::blob::{Blob, MIB};
use crate::comparison::{Amount, Comparison, Contender};
use crate::machine::has_sha_instructions;
use crate::measured::Measured;
use crate::processors::cpu_of_this_thread;
use crate::program::installed;
use crate::pull::name;
use crate::report::Report;
use crate::setting::Setting;

/// Hides the SHA instructions from OpenSSL.
const WITHOUT_INSTRUCTIONS: &str = ":~0x20000000";

/// What the hasher has to reach of OpenSSL's speed where the processor has the instructions.
const LEAST: f64 = 0.8;

/// Measures, and fails when the instructions are there and not in use.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let folder = setting.folder();
    let path = folder.path().join("blob");
    let blob = Blob::new(setting.or_quick(1 << 30, 64 * MIB));
    fs::write(&path, blob.pieces().collect::<Vec<_>>().concat()).expect("a file can be written");
    let (path, bytes) = (path.as_path(), blob.len());
    let digest = blob.digest().hex();
    let openssl = |environment: Option<&str>| {
        let (before, began) = (cpu_of_children(), monotonic());
        let mut command = Command::new(installed("openssl", "openssl"));
        command.args(["dgst", "-sha256", "-r"]).arg(path).stderr(Stdio::inherit());
        if let Some(value) = environment {
            command.env("OPENSSL_ia32cap", value);
        }
        let output = command.output().expect("openssl runs");
        assert!(output.stdout.starts_with(digest.as_bytes()), "openssl computes the same");
        measured(bytes, began.elapsed(), cpu_of_children().saturating_sub(before))
    };
    let own = || {
        let (before, began) = (cpu_of_this_thread(), monotonic());
        assert_eq!(hash(path), digest);
        measured(bytes, began.elapsed(), cpu_of_this_thread().saturating_sub(before))
    };
    let mut comparison = Comparison::new("SHA-256 of a file in memory", "file", Amount::Bytes);
    let contenders = vec![
        Contender::new("openssl dgst -sha256", move |_| openssl(None)),
        Contender::new("openssl without the SHA instructions", move |_| openssl(Some(WITHOUT_INSTRUCTIONS))),
        Contender::new("orlop", move |_| own()),
    ];
    #[expect(clippy::cast_precision_loss, reason = "a place on an axis")]
    comparison.alternate(setting.rounds, bytes as f64, name(bytes), contenders);
    let ratio = report.add(&comparison).of(&name(bytes), "orlop").ratio;
    assert!(
        ratio >= LEAST || !has_sha_instructions(),
        "the hasher reaches {ratio:.2} of OpenSSL: are the SHA instructions in use?"
    );
}

fn measured(bytes: u64, elapsed: Duration, cpu: Duration) -> Measured {
    Measured { bytes, server_cpu: Some(cpu), ..Measured::one(elapsed) }
}

fn hash(path: &Path) -> String {
    let mut file = File::open(path).expect("it is there");
    let mut hasher = Hasher::new(DigestAlgorithm::CANONICAL);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).expect("it can be read") {
            0 => return hasher.finish().hex(),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Processor time of the processes that this one has waited for.
fn cpu_of_children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("this process runs");
    // The name in parentheses may hold anything; behind it, the times of children are the 14th and 15th fields.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(13).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
