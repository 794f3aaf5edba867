//! Programs that are killed at random moments, the same ones each time.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Random numbers, the same for the same seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }
}

/// How long the program takes that nobody interrupts.
pub(crate) fn time(command: &mut Command) -> Duration {
    let began = Instant::now();
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    began.elapsed()
}

/// Starts a program and kills it at a random moment of the time that it takes; says whether it was over before.
pub(crate) fn kill_within(command: &mut Command, took: Duration, random: &mut Random) -> bool {
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let took = u64::try_from(took.as_micros()).unwrap();
    std::thread::sleep(Duration::from_micros(random.below(took)));
    let is_over = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    is_over
}
