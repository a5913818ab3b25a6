//! How long parsing, planning and guarding take: `cargo xtask bench planning`.

mod worlds;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use worlds::{SIZES, WORK, World};

fn planning(criterion: &mut Criterion) {
    for (name, work) in WORK {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20);
        for size in SIZES {
            let world = World::of(size);
            group.throughput(Throughput::Elements(size as u64));
            group.bench_with_input(BenchmarkId::from_parameter(size), &world, |bencher, world| {
                bencher.iter(|| work(world));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, planning);
criterion_main!(benches);
