//! How near the kernels come to what the processor can do: `cargo bench -p camelid-cpu`, optionally with the name of a set of
//! instructions.
//!
//! One token is measured in bytes of weights read, from memory; a tile in products, from the caches. What they are compared
//! with is measured here too: reading alone, and nothing but the instruction that multiplies. The best of many runs counts,
//! because others may use the machine.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use camelid_cpu::bench::{Case, Product, Set};

const MEMORY: usize = 64 << 20;

/// The least seconds of a call.
fn best(calls: usize, rounds: usize, mut f: impl FnMut()) -> f64 {
    (0..rounds)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..calls {
                f();
            }
            start.elapsed().as_secs_f64() / calls as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn main() {
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let memory = vec![1.0f32; MEMORY / 4];
    for set in Set::here().filter(|set| only.as_deref().is_none_or(|only| only == set.name())) {
        let read = MEMORY as f64 / best(1, 20, || set.read(&memory)) / 1e9;
        let peak = |kind| {
            let mut flops = 0.0;
            let seconds = best(1, 20, || flops = set.products(kind, 100_000));
            flops / seconds / 1e9
        };
        let peaks = [peak(Product::F32), peak(Product::Bf16), peak(Product::Q8)];
        println!(
            "{}: reads {read:.1} GB/s; products {:.0} f32, {:.0} bf16, {:.0} 8-bit GFLOP/s",
            set.name(),
            peaks[0],
            peaks[1],
            peaks[2]
        );
        for (mut one, mut tile) in Case::all(set, 4096, MEMORY, true).zip(Case::all(set, 512, 1, false)) {
            let bytes = one.bytes as f64 / best(1, 10, || one.run()) / 1e9;
            let flops = tile.flops / best(200, 30, || tile.run()) / 1e9;
            let peak = peaks[tile.product as usize];
            println!(
                "  {:<5} one token {bytes:6.1} GB/s {:4.0} %   {:2} tokens {flops:7.1} GFLOP/s {:4.0} %",
                one.dtype,
                bytes / read * 100.0,
                tile.tokens,
                flops / peak * 100.0
            );
        }
    }
}
