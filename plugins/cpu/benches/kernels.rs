//! How near the kernels come to what the processor can do.
//!
//! ```sh
//! cargo bench -p camelid-cpu                            # every set of instructions, type of weights and number of tokens
//! cargo bench -p camelid-cpu -- 'avx512/q4_k'           # those whose names contain this
//! ```
//!
//! One token is measured in bytes of weights read, from memory; several in products, from the caches. After each benchmark
//! stands which part that is of what the processor can do on one thread, measured here too: reading alone, and nothing but
//! the instruction that multiplies. For that the best time counts, because others may use the machine.
#![allow(clippy::print_stdout)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use camelid_cpu::bench::{Case, Product, Set};
use criterion::{BenchmarkId, Criterion, Throughput};

/// Bytes of weights that no cache holds.
const MEMORY: usize = 64 << 20;
/// Elements of a row of weights from memory.
const LONG: usize = 4096;
/// Elements of a row, where a panel and the tokens are to stay in the first cache.
const SHORT: usize = 512;
/// Tokens of a tile, as far as the instructions have such tiles.
const TOKENS: [usize; 3] = [1, 2, 16];

/// What a set of instructions can do on one thread.
struct Limits {
    bytes_per_s: f64,
    /// By [`Product`].
    flops_per_s: [f64; 3],
}

impl Limits {
    fn measure(set: Set) -> Limits {
        let memory = vec![1.0f32; MEMORY / 4];
        let peak = |kind| {
            let mut flops = 0.0;
            let seconds = best(|| flops = set.products(kind, 100_000));
            flops / seconds
        };
        let limits = Limits {
            bytes_per_s: MEMORY as f64 / best(|| set.read(&memory)),
            flops_per_s: [peak(Product::F32), peak(Product::Bf16), peak(Product::Q8)],
        };
        let [f32, bf16, q8] = limits.flops_per_s.map(|flops| flops / 1e9);
        println!(
            "{}: reads {:.1} GB/s; products {f32:.0} f32, {bf16:.0} bf16, {q8:.0} 8-bit GFLOP/s",
            set.name(),
            limits.bytes_per_s / 1e9
        );
        limits
    }
}

/// The least seconds of a call.
fn best(mut f: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..20).map(time).fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for set in Set::here() {
        let mut limits = None;
        for dtype in Case::types() {
            let mut group = criterion.benchmark_group(format!("{}/{dtype}", set.name()));
            let mut done = 0;
            for tokens in TOKENS {
                let from_memory = tokens == 1;
                let (k, bytes) = if from_memory { (LONG, MEMORY) } else { (SHORT, 1) };
                let mut case = Case::new(set, dtype, k, bytes, tokens);
                if case.tokens == done {
                    continue;
                }
                done = case.tokens;
                group.throughput(if from_memory {
                    Throughput::Bytes(case.bytes as u64)
                } else {
                    Throughput::Elements(case.flops as u64)
                });
                let least = Cell::new(f64::INFINITY);
                group.bench_function(BenchmarkId::from_parameter(case.tokens), |bencher| {
                    bencher.iter_custom(|runs| {
                        let start = Instant::now();
                        (0..runs).for_each(|_| case.run());
                        let time = start.elapsed();
                        least.set(least.get().min(time.as_secs_f64() / runs as f64));
                        time
                    });
                });
                // Infinite if a filter left it out.
                let seconds = least.get();
                if seconds.is_finite() {
                    let limits = limits.get_or_insert_with(|| Limits::measure(set));
                    if from_memory {
                        let rate = case.bytes as f64 / seconds;
                        println!(
                            "{:24}{:.1} GB/s, {:.0} % of reading",
                            "",
                            rate / 1e9,
                            rate / limits.bytes_per_s * 100.0
                        );
                    } else {
                        let (rate, peak) = (case.flops as f64 / seconds, limits.flops_per_s[case.product as usize]);
                        println!("{:24}{:.1} GFLOP/s, {:.0} % of the products", "", rate / 1e9, rate / peak * 100.0);
                    }
                }
            }
        }
    }
    criterion.final_summary();
}
