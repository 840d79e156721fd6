//! What `benches/kernels.rs` measures; no part of the interface.

use std::hint::black_box;

use camelid_core::DType;

use crate::activations::{Input, prepare};
use crate::isa::{Isa, IsaName, LANES, unroll};
use crate::kernel::{Kernel, Task, on};

/// A set of instructions that this processor has.
#[derive(Clone, Copy, Debug)]
pub struct Set(IsaName);

impl Set {
    /// All.
    pub fn here() -> impl Iterator<Item = Set> {
        IsaName::ALL.into_iter().filter(|isa| isa.is_here()).map(Set)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Floating-point operations of `rounds` rounds of nothing but products: of f32, of pairs of bf16, or of four bytes.
    pub fn products(self, kind: Product, rounds: usize) -> f64 {
        let chains = match self.0 {
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx512Bf16 => {
                // Only products of weights are compiled for it, not every task.
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
                unsafe fn run(chains: Chains) -> usize {
                    // SAFETY: by the caller's word.
                    unsafe { chains.run::<crate::isa::Avx512Bf16>() }
                }
                // SAFETY: a `Set` is only made of instructions that are here.
                unsafe { run(Chains { kind, rounds }) }
            }
            isa => unsafe_on(isa, Chains { kind, rounds }),
        };
        let each = match kind {
            Product::F32 => 2 * LANES,
            Product::Bf16 => 4 * LANES,
            Product::Q8 => 8 * LANES,
        };
        (chains * each * rounds) as f64
    }

    /// Reads all of `memory`.
    pub fn read(self, memory: &[f32]) {
        unsafe_on(self.0, Read { memory });
    }
}

/// The instruction that a kernel mostly is.
#[derive(Clone, Copy, Debug)]
pub enum Product {
    /// `Isa::fma`.
    F32,
    /// `Isa::dot2`.
    Bf16,
    /// `Isa::dot4`.
    Q8,
}

fn unsafe_on<T: Task>(isa: IsaName, task: T) -> T::Output {
    // SAFETY: a `Set` is only made of instructions that are here.
    unsafe { on(isa, task) }
}

struct Chains {
    kind: Product,
    rounds: usize,
}

impl Task for Chains {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<I: Isa>(self) -> usize {
        // As many as hide an instruction's latency and fit the registers.
        let chains = if I::TILE == 16 { 16 } else { 4 };
        let bytes = black_box([[1u8; 64]; 4]);
        // SAFETY: by the caller's word; the arrays have 64 bytes.
        unsafe {
            let (a, b) = (I::splat(black_box(0.5)), I::splat(black_box(0.25)));
            let mut f = [a; LANES];
            let mut sums = [I::splat_i32(0); LANES];
            let x = black_box(0x0101_0101);
            match self.kind {
                Product::F32 => {
                    for _ in 0..self.rounds {
                        unroll!(i < chains => { f[i] = I::fma(a, b, f[i]); });
                    }
                }
                Product::Bf16 => {
                    for _ in 0..self.rounds {
                        unroll!(i < chains => { f[i] = I::dot2(f[i], I::load_q(bytes[0].as_ptr()), x as u32); });
                    }
                }
                Product::Q8 => {
                    // Not the same in every round, or what is done before the addition would be done once.
                    for round in 0..self.rounds {
                        let x = x + round as i32;
                        unroll!(i < chains => { sums[i] = I::dot4_low(sums[i], I::load_q(bytes[i % 4].as_ptr()), x); });
                    }
                }
            }
            for (f, sum) in f.into_iter().zip(sums) {
                let mut y = [0.0f32; LANES];
                I::store(y.as_mut_ptr(), I::add(f, I::to_f32(sum)));
                black_box(y);
            }
        }
        chains
    }
}

struct Read<'a> {
    memory: &'a [f32],
}

impl Task for Read<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: by the caller's word; chunks have four vectors.
        unsafe {
            let mut sums = [I::splat(0.0); 4];
            for chunk in self.memory.chunks_exact(4 * LANES) {
                unroll!(i < 4 => { sums[i] = I::add(sums[i], I::load(chunk.as_ptr().add(i * LANES))); });
            }
            for sum in sums {
                black_box(I::reduce_add(sum));
            }
        }
    }
}

/// Panels of one type of weights, and a tile of activations.
#[derive(Debug)]
pub struct Case {
    /// Tokens of the tile.
    pub tokens: usize,
    /// Bytes of all panels.
    pub bytes: usize,
    /// Floating-point operations of a run.
    pub flops: usize,
    /// The instruction that the kernel mostly is.
    pub product: Product,
    kernel: Kernel,
    steps: usize,
    panel_len: usize,
    panels: Vec<u8>,
    x: Vec<u8>,
    y: Vec<f32>,
}

impl Case {
    /// The types of weights that have kernels.
    pub fn types() -> impl Iterator<Item = DType> {
        Kernel::TYPES.into_iter()
    }

    /// At least one panel of rows of `k`, and at most `bytes` of them; a tile of `tokens`, a power of two, or the largest that the
    /// instructions have.
    pub fn new(set: Set, dtype: DType, k: usize, bytes: usize, tokens: usize) -> Case {
        let kernel = Kernel::of(dtype, set.0).expect("there is a kernel");
        let panel_len = kernel.panel_len(k).expect("a small number");
        let count = (bytes / panel_len).max(1);
        let tokens = tokens.min(kernel.tile);
        let mut x = vec![0; kernel.input.row_bytes(k).expect("a small number") * tokens];
        unsafe_on(set.0, Prepare { input: kernel.input, k, tokens, to: &mut x });
        Case {
            tokens,
            bytes: count * panel_len,
            flops: 2 * LANES * k * tokens * count,
            product: match kernel.input {
                Input::F32 => Product::F32,
                Input::Bf16 => Product::Bf16,
                Input::Q8 => Product::Q8,
            },
            kernel,
            steps: kernel.steps(k),
            panel_len,
            // In every type a small ordinary number.
            panels: vec![0x11; count * panel_len + 64],
            x,
            y: vec![0.0; tokens * LANES],
        }
    }

    /// Computes all panels, one after the other.
    pub fn run(&mut self) {
        let tile = self.kernel.tiles[self.tokens.ilog2() as usize];
        for panel in self.panels[self.panels.as_ptr().align_offset(64)..].chunks_exact(self.panel_len) {
            // SAFETY: the instructions are here; all memory has the sizes that the kernel says.
            unsafe { tile(panel.as_ptr(), self.steps, self.x.as_ptr(), self.y.as_mut_ptr()) };
        }
        black_box(&self.y);
    }
}

struct Prepare<'a> {
    input: Input,
    k: usize,
    tokens: usize,
    to: &'a mut [u8],
}

impl Task for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Prepare { input, k, tokens, to } = self;
        let rows: Vec<f32> = (0..tokens * k).map(|i| (i % k % 17) as f32 - 8.0).collect();
        // SAFETY: rows of `k`, and room for `tokens` of them.
        unsafe { prepare::<I>(input, rows.as_ptr(), k, 0..tokens, tokens, to.as_mut_ptr()) };
    }
}
