//! Fifty clients that want the same gibibyte at the same moment, of a cache that hasn't got it.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::figures::median;
use crate::image::Image;
use crate::load;
use crate::program::Program;
use crate::pull::pull;
use crate::relay::Relay;

/// The size of the layer.
const SIZE: u64 = 1 << 30;

/// How many clients there are.
const CLIENTS: usize = 50;

/// How often each thing is measured on loopback, and over a line, which takes its time and always the same.
const ROUNDS: usize = 3;
const LINE_ROUNDS: usize = 2;

/// What a good line carries in a second.
const LINE: u32 = 50_000_000;

/// One way of pulling, in all its rounds.
#[derive(Debug, Default)]
struct Figures {
    /// Seconds until the last client had everything.
    slowest: Vec<f64>,
    /// What the upstream sent, as a multiple of the layer.
    fetched: Vec<f64>,
    /// MiB.
    memory: Vec<f64>,
}

/// Prints the comparison with the upstream on loopback, where fifty times the bytes have to be carried by one machine.
pub(crate) fn report() {
    let upstream = Program::docker_registry();
    let image = Image::push(upstream.address(), "crowd", SIZE);
    let (mut direct, mut one, mut many, mut warm) =
        (Figures::default(), Figures::default(), Figures::default(), Figures::default());
    for _ in 0..ROUNDS {
        measure(&upstream, upstream.address(), 1, &image, None, &mut direct);
        let cache = Program::orlop(upstream.address());
        measure(&upstream, cache.address(), 1, &image, Some(&cache), &mut one);
        drop(cache);
        let cache = Program::orlop(upstream.address());
        measure(&upstream, cache.address(), CLIENTS, &image, Some(&cache), &mut many);
        measure(&upstream, cache.address(), CLIENTS, &image, Some(&cache), &mut warm);
    }
    head("on loopback");
    direct.row("1, from the upstream itself", &direct);
    one.row("1, cold", &direct);
    many.row(&format!("{CLIENTS}, cold"), &direct);
    warm.row(&format!("{CLIENTS}, warm"), &direct);
    println!("\nThen: {}\n", load());
}

/// Prints the comparison with the upstream at the end of a line.
pub(crate) fn report_line() {
    let upstream = Program::docker_registry();
    let image = Image::push(upstream.address(), "crowd", SIZE);
    let line = Relay::to(upstream.address(), LINE);
    let (mut direct, mut many) = (Figures::default(), Figures::default());
    for _ in 0..LINE_ROUNDS {
        measure(&upstream, line.address(), 1, &image, None, &mut direct);
        let cache = Program::orlop(line.address());
        measure(&upstream, cache.address(), CLIENTS, &image, Some(&cache), &mut many);
    }
    head("at the end of a line of 50 MB/s");
    direct.row("1, from the upstream itself", &direct);
    many.row(&format!("{CLIENTS}, cold"), &direct);
    println!("\nThen: {}\n", load());
}

fn head(place: &str) {
    println!("## {CLIENTS} clients that want the same 1 GiB at once, of an upstream {place}\n");
    println!("| clients | slowest client | × | upstream sent | peak memory |");
    println!("| --- | --- | --- | --- | --- |");
}

fn measure(
    upstream: &Program,
    from: SocketAddr,
    clients: usize,
    image: &Image,
    cache: Option<&Program>,
    figures: &mut Figures,
) {
    let before = upstream.written_bytes();
    let slowest = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(|| pull(from, image).whole)).collect();
        let times = clients.into_iter().map(|client| client.join().expect("the client ends well"));
        times.max().unwrap_or(Duration::ZERO)
    });
    figures.slowest.push(slowest.as_secs_f64());
    let sent = upstream.written_bytes() - before;
    #[expect(clippy::cast_precision_loss, reason = "three digits are read")]
    {
        figures.fetched.push(sent as f64 / SIZE as f64);
        figures.memory.push(cache.map_or(0.0, |cache| cache.peak_memory() as f64 / 1024.0));
    }
}

impl Figures {
    fn row(&self, name: &str, mark: &Figures) {
        let slowest = median(&self.slowest);
        let memory = median(&self.memory);
        let memory = if memory > 0.0 { format!("{memory:.0} MiB") } else { String::new() };
        println!(
            "| {name} | {slowest:.2} s | {:.2} | {:.3} × | {memory} |",
            slowest / median(&mark.slowest),
            median(&self.fetched),
        );
    }
}
