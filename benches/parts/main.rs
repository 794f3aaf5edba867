//! The parts by themselves: digest, routes, records, manifests, descriptor cache, group commit.
//!
//! `cargo bench --bench parts` measures all of them, or those whose name contains an argument. `counted.rs` beside this runs
//! the same cases where their instructions are counted; `docs/performance.md` says what the figures mean.

#[expect(dead_code, reason = "rounds are counted elsewhere")]
mod case;
mod descriptor_cache;
mod digest;
mod document;
mod group_commit;
mod manifests;
mod parts;
mod records;
mod routes;
mod store;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn measure(criterion: &mut Criterion) {
    for (_, cases) in parts::PARTS {
        for mut case in cases() {
            let (group, name) = case.name.split_once('/').expect("a case is named part/what");
            let mut group = criterion.benchmark_group(group);
            if let Some(bytes) = case.bytes {
                group.throughput(Throughput::Bytes(bytes));
            }
            group.bench_function(name, |bencher| bencher.iter(|| (case.run)()));
            group.finish();
        }
    }
}

criterion_group!(all, measure);
criterion_main!(all);
