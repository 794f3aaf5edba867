//! Tar archives, whose headers get right checksums, since hardly any would pass otherwise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::oci::tarsum::{TarSum, TarSumError, TarSumVersion, TarSummer};

fn sum(version: TarSumVersion, archive: &[u8], piece: usize) -> Result<TarSum, TarSumError> {
    let mut summer = TarSummer::new(version);
    for piece in archive.chunks(piece) {
        summer.update(piece)?;
    }
    summer.finish()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, archive)) = bytes.split_first() else { return };
    let mut archive = archive.to_vec();
    for block in archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    for version in TarSumVersion::ALL {
        let whole = sum(version, &archive, 1 << 20);
        assert_eq!(sum(version, &archive, usize::from(piece) * 7 + 1), whole);
        if let Ok(whole) = whole {
            assert_eq!(whole.to_string().parse(), Ok(whole));
        }
    }
});
