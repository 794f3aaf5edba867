//! One client's pull of an image that the cache hasn't got, and of the same once it has, beside `docker-registry` as a proxy.

use std::thread;
use std::time::Duration;

use crate::figures::{median, quantile, spoken};
use crate::image::Image;
use crate::load;
use crate::program::Program;
use crate::pull::{Pull, pull};

/// The layers' sizes, what people call them, and how often each is pulled.
const SIZES: &[(u64, &str, usize)] =
    &[(1 << 20, "1 MiB", 15), (100 << 20, "100 MiB", 9), (1 << 30, "1 GiB", 5)];

/// What was measured of one cache.
#[derive(Debug, Default)]
struct Figures {
    cold: Vec<Pull>,
    warm: Vec<Pull>,
    /// What the upstream sent for a cold pull, as a multiple of the layer.
    fetched: Vec<f64>,
    /// KiB.
    memory: Vec<f64>,
}

/// Prints the comparison.
pub(crate) fn report() {
    let upstream = Program::docker_registry();
    println!("## A pull, cold and warm, beside docker-registry as a proxy\n");
    println!(
        "| layer | | manifest | layer's first byte | whole (quartiles) | × | upstream sent | peak memory |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for &(size, spoken_size, rounds) in SIZES {
        let image = Image::push(upstream.address(), &format!("s{size}"), size);
        let mut direct = Vec::new();
        let (mut ours, mut others) = (Figures::default(), Figures::default());
        for round in 0..=rounds {
            // The first round warms the upstream's pages, and is not counted.
            let counted = round > 0;
            let sample = pull(upstream.address(), &image);
            if counted {
                direct.push(sample);
            }
            let ours_first = round % 2 == 0;
            for is_ours in [ours_first, !ours_first] {
                let cache = if is_ours {
                    Program::orlop(upstream.address())
                } else {
                    Program::docker_registry_proxy(upstream.address())
                };
                let figures = if is_ours { &mut ours } else { &mut others };
                measure(&cache, &upstream, &image, counted.then_some(figures));
            }
        }
        let mark = whole(&others.cold);
        row(spoken_size, "from the upstream itself", &direct, mark, None);
        row(spoken_size, "docker-registry, cold", &others.cold, mark, Some(&others));
        row(spoken_size, "orlop, cold", &ours.cold, mark, Some(&ours));
        let mark = whole(&others.warm);
        row(spoken_size, "docker-registry, warm", &others.warm, mark, None);
        row(spoken_size, "orlop, warm", &ours.warm, mark, None);
    }
    println!("\nThen: {}\n", load());
}

fn measure(cache: &Program, upstream: &Program, image: &Image, figures: Option<&mut Figures>) {
    let before = upstream.written_bytes();
    let cold = pull(cache.address(), image);
    // docker-registry fetches the layer a second time to keep it, and names it when it has all.
    let digest = image.layer.to_string();
    let hex = digest.trim_start_matches("sha256:");
    let mut stored = false;
    for _ in 0..2_000 {
        stored = cache.has_file(hex);
        if stored {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(stored, "the cache keeps the layer");
    let sent = upstream.written_bytes() - before;
    let warm = pull(cache.address(), image);
    let Some(figures) = figures else { return };
    figures.cold.push(cold);
    figures.warm.push(warm);
    figures.fetched.push(share(sent, image.size));
    #[expect(clippy::cast_precision_loss, reason = "three digits are read")]
    figures.memory.push(cache.peak_memory() as f64);
}

#[expect(clippy::cast_precision_loss, reason = "three digits are read")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn micros(pulls: &[Pull], value: impl Fn(&Pull) -> Duration) -> Vec<f64> {
    pulls.iter().map(|pull| value(pull).as_secs_f64() * 1e6).collect()
}

fn whole(pulls: &[Pull]) -> f64 {
    median(&micros(pulls, |pull| pull.whole))
}

fn row(size: &str, name: &str, pulls: &[Pull], mark: f64, cold: Option<&Figures>) {
    let manifest = median(&micros(pulls, |pull| pull.manifest));
    let first = median(&micros(pulls, |pull| pull.first_byte));
    let all = micros(pulls, |pull| pull.whole);
    let (fetched, memory) = cold.map_or_else(Default::default, |figures| {
        (format!("{:.2} ×", median(&figures.fetched)), format!("{:.0} MiB", median(&figures.memory) / 1024.0))
    });
    println!(
        "| {size} | {name} | {} | {} | {} ({} to {}) | {:.2} | {fetched} | {memory} |",
        spoken(manifest),
        spoken(first),
        spoken(median(&all)),
        spoken(quantile(&all, 0.25)),
        spoken(quantile(&all, 0.75)),
        median(&all) / mark,
    );
}
