//! Every function of every set of instructions that this processor has, against what plain Rust gives.

use super::{Isa, IsaName, LANES};
use crate::kernel::{Task, on};

type Lanes = [f32; LANES];

/// What is not ordinary about floats, and some ordinary ones.
const EDGES: [f32; LANES] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    2.5,
    -0.5,
    f32::MIN_POSITIVE,
    -1e-40,
    1e-45,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    8_388_609.0,
    -3.499_999_8,
];

fn here() -> impl Iterator<Item = IsaName> {
    IsaName::ALL.into_iter().filter(|isa| isa.is_here())
}

/// Numbers that look random.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// From -4 to 4.
    fn float(&mut self) -> f32 {
        self.bits() as i32 as f32 / (1u64 << 29) as f32
    }

    fn floats(&mut self) -> Lanes {
        std::array::from_fn(|_| self.float())
    }
}

/// Equal bit for bit, but one NaN is as good as another.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

#[track_caller]
fn assert_same(what: &str, isa: IsaName, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(same(*a, *b), "{what} on {isa}, {i}: {a:e}, not {b:e}");
    }
}

#[inline(always)]
unsafe fn lanes<I: Isa>(x: I::F) -> Lanes {
    let mut y = [0.0; LANES];
    // SAFETY: room for sixteen lanes.
    unsafe { I::store(y.as_mut_ptr(), x) };
    y
}

/// A function of arrays, run on a set of instructions: `$fields` are its inputs, `$I` the set.
macro_rules! task {
    ($name:ident { $($field:ident: $type:ty),* } -> $output:ty, |$I:ident| $body:block) => {{
        struct $name {
            $($field: $type,)*
        }
        impl Task for $name {
            type Output = $output;
            #[inline(always)]
            unsafe fn run<$I: Isa>(self) -> $output {
                let $name { $($field,)* } = self;
                // SAFETY: the instructions are there, and every pointer is to an array of the length that is read.
                unsafe { $body }
            }
        }
        |isa: IsaName, $($field: $type),*| {
            assert!(isa.is_here());
            // SAFETY: it is here.
            unsafe { on(isa, $name { $($field,)* }) }
        }
    }};
}

#[test]
fn arithmetic_is_that_of_ieee() {
    let run = task!(Arithmetic { a: Lanes, b: Lanes } -> [Lanes; 8], |I| {
        let first = a[0];
        let (a, b) = (I::load(a.as_ptr()), I::load(b.as_ptr()));
        [
            lanes::<I>(I::splat(first)),
            lanes::<I>(I::add(a, b)),
            lanes::<I>(I::sub(a, b)),
            lanes::<I>(I::mul(a, b)),
            lanes::<I>(I::div(a, b)),
            lanes::<I>(I::max(a, b)),
            lanes::<I>(I::min(a, b)),
            lanes::<I>(I::round(a)),
        ]
    });
    let check = |isa, a: Lanes, b: Lanes| {
        let pairs = |f: fn(f32, f32) -> f32| -> Lanes { std::array::from_fn(|i| f(a[i], b[i])) };
        let y = run(isa, a, b);
        assert_same("splat", isa, &y[0], &[a[0]; LANES]);
        assert_same("add", isa, &y[1], &pairs(|a, b| a + b));
        assert_same("sub", isa, &y[2], &pairs(|a, b| a - b));
        assert_same("mul", isa, &y[3], &pairs(|a, b| a * b));
        assert_same("div", isa, &y[4], &pairs(|a, b| a / b));
        assert_same("max", isa, &y[5], &pairs(|a, b| if a > b { a } else { b }));
        assert_same("min", isa, &y[6], &pairs(|a, b| if a < b { a } else { b }));
        assert_same("round", isa, &y[7], &a.map(f32::round_ties_even));
    };
    for isa in here() {
        for turn in 0..LANES {
            let mut b = EDGES;
            b.rotate_left(turn);
            check(isa, EDGES, b);
        }
        let mut noise = Noise(1);
        for _ in 0..1000 {
            check(isa, noise.floats(), noise.floats());
        }
    }
}

#[test]
fn a_product_is_rounded_once_or_twice_before_it_is_added() {
    let run = task!(Fma { a: Lanes, b: Lanes, c: Lanes } -> Lanes, |I| {
        lanes::<I>(I::fma(I::load(a.as_ptr()), I::load(b.as_ptr()), I::load(c.as_ptr())))
    });
    let mut noise = Noise(2);
    for isa in here() {
        for round in 0..1000 {
            let (a, b, mut c) = (noise.floats(), noise.floats(), noise.floats());
            if round < LANES {
                c = EDGES;
                c.rotate_left(round);
            }
            for (i, y) in run(isa, a, b, c).into_iter().enumerate() {
                let (once, twice) = (a[i].mul_add(b[i], c[i]), a[i] * b[i] + c[i]);
                assert!(same(y, once) || same(y, twice), "{isa}: {} * {} + {} gave {y}", a[i], b[i], c[i]);
            }
        }
    }
}

#[test]
fn scale_rounds_once() {
    let run = task!(Scale { x: Lanes, n: f32 } -> Lanes, |I| {
        lanes::<I>(I::scale(I::load(x.as_ptr()), I::splat(n)))
    });
    let mut noise = Noise(3);
    for isa in here() {
        for n in -252..=254 {
            for round in 0..20 {
                // Of every size.
                let x = match round {
                    0 => EDGES,
                    1..10 => std::array::from_fn(|_| f32::from_bits(noise.bits())),
                    _ => noise.floats(),
                };
                let expected = x.map(|x| (f64::from(x) * 2.0f64.powi(n)) as f32);
                assert_same("scale", isa, &run(isa, x, n as f32), &expected);
            }
        }
    }
}

#[test]
fn lanes_are_added_and_compared() {
    let run = task!(Reduce { x: [Lanes; LANES] } -> (f32, f32, Lanes, [Lanes; LANES]), |I| {
        let x = x.map(|x| I::load(x.as_ptr()));
        let turned = I::transpose(x);
        (I::reduce_add(x[0]), I::reduce_max(x[0]), lanes::<I>(I::reduce_add_each(x)), turned.map(|x| lanes::<I>(x)))
    });
    let mut noise = Noise(4);
    for isa in here() {
        for round in 0..100 {
            let mut x: [Lanes; LANES] = std::array::from_fn(|_| noise.floats());
            if round < LANES {
                x[0] = [-7.0; LANES];
                x[0][round] = -5.0;
            }
            let (sum, largest, sums, turned) = run(isa, x);
            let near = |y: f32, x: &Lanes| {
                let exact: f64 = x.iter().map(|x| f64::from(*x)).sum();
                let size: f64 = x.iter().map(|x| f64::from(x.abs())).sum();
                (f64::from(y) - exact).abs() <= 1e-6 * size
            };
            assert!(near(sum, &x[0]), "reduce_add on {isa}");
            assert_eq!(largest, x[0].into_iter().fold(f32::MIN, f32::max), "reduce_max on {isa}");
            for (i, x) in x.iter().enumerate() {
                assert!(near(sums[i], x), "reduce_add_each on {isa}, {i}: {}", sums[i]);
                for (j, x) in x.iter().enumerate() {
                    assert_eq!(turned[j][i], *x, "transpose on {isa}");
                }
            }
        }
    }
}

#[test]
fn every_half_and_every_byte_is_loaded() {
    let halves = task!(Halves { x: [u16; LANES] } -> [Lanes; 2], |I| {
        [lanes::<I>(I::load_f16(x.as_ptr())), lanes::<I>(I::load_bf16(x.as_ptr()))]
    });
    let bytes = task!(Bytes { x: [u8; LANES] } -> [Lanes; 2], |I| {
        [lanes::<I>(I::load_u8(x.as_ptr())), lanes::<I>(I::load_i8(x.as_ptr().cast()))]
    });
    let pairs = task!(Pairs { x: [u8; 64] } -> [Lanes; 2], |I| {
        {
            let x = I::load_q(x.as_ptr());
            [lanes::<I>(I::pair_low(x)), lanes::<I>(I::pair_high(x))]
        }
    });
    for isa in here() {
        for first in (0..=u16::MAX).step_by(LANES) {
            let x: [u16; LANES] = std::array::from_fn(|i| first + i as u16);
            let [f16, bf16] = halves(isa, x);
            assert_same("load_f16", isa, &f16, &x.map(|x| half::f16::from_bits(x).to_f32()));
            assert_same("load_bf16", isa, &bf16, &x.map(|x| half::bf16::from_bits(x).to_f32()));
            // The same as the second of a pair, with its complement as the first.
            let words = x.map(|x| u32::from(x) << 16 | u32::from(!x));
            let raw: [u8; 64] = std::array::from_fn(|i| words[i / 4].to_le_bytes()[i % 4]);
            let [low, high] = pairs(isa, raw);
            assert_same("pair_low", isa, &low, &x.map(|x| half::bf16::from_bits(!x).to_f32()));
            assert_same("pair_high", isa, &high, &bf16);
        }
        for first in (0..=u8::MAX).step_by(LANES) {
            let x: [u8; LANES] = std::array::from_fn(|i| first + i as u8);
            let [unsigned, signed] = bytes(isa, x);
            assert_same("load_u8", isa, &unsigned, &x.map(f32::from));
            assert_same("load_i8", isa, &signed, &x.map(|x| f32::from(x as i8)));
        }
    }
}

#[test]
fn pairs_are_multiplied_and_added() {
    let run = task!(Dot2 { acc: Lanes, w: [u32; LANES], x: u32 } -> Lanes, |I| {
        lanes::<I>(I::dot2(I::load(acc.as_ptr()), I::load_q(w.as_ptr().cast()), x))
    });
    let mut noise = Noise(5);
    for isa in here() {
        for _ in 0..1000 {
            let mut pair = || {
                let mut half = || u32::from(half::bf16::from_f32(noise.float()).to_bits());
                half() | half() << 16
            };
            let (w, x): ([u32; LANES], u32) = (std::array::from_fn(|_| pair()), pair());
            let acc = noise.floats();
            let halves =
                |bits: u32| (f64::from(f32::from_bits(bits << 16)), f64::from(f32::from_bits(bits >> 16 << 16)));
            for (i, y) in run(isa, acc, w, x).into_iter().enumerate() {
                let ((w0, w1), (x0, x1), acc) = (halves(w[i]), halves(x), f64::from(acc[i]));
                let size = acc.abs() + (w0 * x0).abs() + (w1 * x1).abs();
                assert!((f64::from(y) - (acc + w0 * x0 + w1 * x1)).abs() <= 2e-7 * size, "dot2 on {isa}: {y}");
            }
        }
    }
}

#[test]
fn numbers_are_rounded_to_bf16_as_they_should_be() {
    let run = task!(Pairs { a: Lanes, b: Lanes } -> Lanes, |I| {
        lanes::<I>(I::bf16_pairs(I::load(a.as_ptr()), I::load(b.as_ptr())))
    });
    let pair = |a: f32, b: f32| {
        let [a, b] = [a, b].map(|x| u32::from(half::bf16::from_f32(x).to_bits()));
        a | b << 16
    };
    // Halfway up and down, the largest, subnormal, infinite and not a number, also one whose quiet bit is not set.
    let edges =
        [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x7f7f_ffff, 0x0000_8001, 0x7f80_0000, 0x7fc0_0001, 0x7f80_0001];
    let mut noise = Noise(7);
    for isa in here() {
        for round in 0..1000 {
            let mut some = || -> Lanes {
                std::array::from_fn(|i| {
                    let bits = if round == 0 { edges[i % 8] | (i as u32 / 8) << 31 } else { noise.bits() };
                    f32::from_bits(bits)
                })
            };
            let (a, b) = (some(), some());
            for (i, y) in run(isa, a, b).into_iter().enumerate() {
                assert_eq!(y.to_bits(), pair(a[i], b[i]), "{isa}: {:x} {:x}", a[i].to_bits(), b[i].to_bits());
            }
        }
    }
}

#[test]
fn whole_numbers_are_exact() {
    let run = task!(Whole { a: i32, b: i32 } -> [Lanes; 5], |I| {
        let (a, b) = (I::splat_i32(a), I::splat_i32(b));
        [
            lanes::<I>(I::to_f32(I::sub_i32(a, b))),
            lanes::<I>(I::to_f32(a)),
            lanes::<I>(I::to_f32(I::shl_i32::<1>(a))),
            lanes::<I>(I::to_f32(I::shl_i32::<2>(a))),
            lanes::<I>(I::to_f32(I::shl_i32::<4>(a))),
        ]
    });
    let mut noise = Noise(6);
    let edges = [0, 1, -1, 127, -128, i32::MAX, i32::MIN, (1 << 24) + 1, -(1 << 24) - 3, 33_554_435];
    for isa in here() {
        let check = |a: i32, b: i32| {
            let y = run(isa, a, b);
            let expected = [a.wrapping_sub(b), a, a << 1, a << 2, a << 4];
            for (y, expected) in y.iter().zip(expected) {
                assert_same("whole numbers", isa, y, &[expected as f32; LANES]);
            }
        };
        for a in edges {
            for b in edges {
                check(a, b);
            }
        }
        for _ in 0..1000 {
            check(noise.bits() as i32, noise.bits() as i32);
        }
    }
}

#[test]
fn four_codes_are_multiplied_without_loss() {
    let run = task!(Dot4 { acc: i32, codes: [u8; 64], x: i32 } -> [Lanes; 2], |I| {
        let (acc, codes) = (I::splat_i32(acc), I::load_q(codes.as_ptr()));
        [lanes::<I>(I::to_f32(I::dot4(acc, codes, x))), lanes::<I>(I::to_f32(I::dot4_low(acc, codes, x)))]
    });
    let mut noise = Noise(7);
    for isa in here() {
        let check = |acc: i32, codes: &[u8; 64], x: [i8; 4]| {
            let [y, low] = run(isa, acc, *codes, i32::from_le_bytes(x.map(|x| x as u8)));
            for (i, y) in y.into_iter().enumerate() {
                let products = (0..4).map(|j| i32::from(codes[4 * i + j]) * i32::from(x[j]));
                // Below 2^24, so that every whole number is a float.
                let expected = acc + products.sum::<i32>();
                assert_eq!(y as i32, expected, "dot4 on {isa}: {codes:?} {x:?}");
                if codes.iter().all(|c| *c < 128) {
                    assert_eq!(low[i] as i32, expected, "dot4_low on {isa}: {codes:?} {x:?}");
                }
            }
        };
        let extremes = [-128, -127, -1, 0, 1, 127];
        for (c, x) in [0, 1, 15, 127, 128, 129, 254, 255].into_iter().flat_map(|c| extremes.map(|x| (c, x))) {
            for (d, y) in [0, 127, 128, 255].into_iter().flat_map(|d| extremes.map(|y| (d, y))) {
                check(-1016, &std::array::from_fn(|i| if i % 2 == 0 { c } else { d }), [x, y, x, y]);
                check(-1016, &std::array::from_fn(|i| if i % 4 < 2 { c } else { d }), [x, x, y, y]);
            }
        }
        for _ in 0..1000 {
            let codes: [u8; 64] = std::array::from_fn(|_| (noise.bits() >> 24) as u8);
            check(noise.bits() as i32 >> 12, &codes.map(|c| c & 127), noise.bits().to_le_bytes().map(|x| x as i8));
            check(noise.bits() as i32 >> 12, &codes, noise.bits().to_le_bytes().map(|x| x as i8));
        }
    }
}

#[test]
fn codes_are_masked_joined_and_shifted() {
    let run = task!(Codes { a: [u8; 64], b: [u8; 64] } -> [[u8; 64]; 12], |I| {
        let (a, b) = (I::load_q(a.as_ptr()), I::load_q(b.as_ptr()));
        [
            a,
            I::and_q(a, 0x0f),
            I::and_q(a, 0xf0),
            I::or_q(a, b),
            I::shr_q::<1>(a),
            I::shr_q::<2>(a),
            I::shr_q::<3>(a),
            I::shr_q::<4>(a),
            I::shl_q::<1>(a),
            I::shl_q::<2>(a),
            I::shl_q::<3>(a),
            I::shl_q::<4>(a),
        ]
        .map(|q| {
            // A product with one byte that is 1 is the code beside it.
            let beside = [1, 1 << 8, 1 << 16, 1 << 24]
                .map(|one| lanes::<I>(I::to_f32(I::dot4(I::splat_i32(0), q, one))));
            std::array::from_fn(|i| beside[i % 4][i / 4] as u8)
        })
    });
    let mut noise = Noise(8);
    for isa in here() {
        for _ in 0..200 {
            let mut codes = || -> [u8; 64] { std::array::from_fn(|_| (noise.bits() >> 24) as u8) };
            let (a, b) = (codes(), codes());
            let words = |f: &dyn Fn(u16) -> u16| -> [u8; 64] {
                let word = |i: usize| f(u16::from_le_bytes([a[i], a[i + 1]])).to_le_bytes();
                std::array::from_fn(|i| word(i / 2 * 2)[i % 2])
            };
            let y = run(isa, a, b);
            assert_eq!(y[0], a, "load_q on {isa}");
            assert_eq!(y[1], a.map(|a| a & 0x0f), "and_q on {isa}");
            assert_eq!(y[2], a.map(|a| a & 0xf0), "and_q on {isa}");
            assert_eq!(y[3], std::array::from_fn(|i| a[i] | b[i]), "or_q on {isa}");
            for n in 1..=4 {
                assert_eq!(y[3 + n], words(&|w| w >> n), "shr_q by {n} on {isa}");
                assert_eq!(y[7 + n], words(&|w| w << n), "shl_q by {n} on {isa}");
            }
        }
    }
}

#[test]
fn a_part_of_a_vector_is_loaded_and_stored_and_nothing_beside_it() {
    let run = task!(Part { from: Vec<f32>, to: [f32; 40], at: usize } -> ([f32; 40], Lanes), |I| {
        let x = I::load_some(from.as_ptr(), from.len());
        let mut to = to;
        I::store_some(to[at..].as_mut_ptr(), from.len(), x);
        (to, lanes::<I>(x))
    });
    for isa in here() {
        for n in 0..=LANES {
            let from: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
            let (to, x) = run(isa, from, [-1.0; 40], 3);
            for (i, x) in x.into_iter().enumerate() {
                assert_eq!(x, if i < n { i as f32 + 1.0 } else { 0.0 }, "load_some on {isa}");
            }
            for (i, y) in to.into_iter().enumerate() {
                let inside = (3..3 + n).contains(&i);
                assert_eq!(y, if inside { i as f32 - 2.0 } else { -1.0 }, "store_some on {isa}");
            }
        }
    }
}

/// How far `y` is from `exact`, in units in the last place of an f32 of its size.
fn ulps(y: f32, exact: f64) -> f64 {
    if exact.is_nan() || exact.is_infinite() {
        return if same(y, exact as f32) { 0.0 } else { f64::INFINITY };
    }
    let limit = f64::from(f32::MAX);
    let y = if y.is_infinite() { f64::from(y.signum()) * limit * (1.0 + 2.0f64.powi(-24)) } else { f64::from(y) };
    let nearest = exact.clamp(-limit * (1.0 + 2.0f64.powi(-24)), limit * (1.0 + 2.0f64.powi(-24)));
    let unit = 2.0f64.powi((nearest.abs().log2().floor().max(-126.0)) as i32 - 23);
    (y - nearest).abs() / unit
}

#[test]
fn exp_is_within_two_units_in_the_last_place() {
    let run = task!(Exp { x: Lanes } -> Lanes, |I| { lanes::<I>(I::exp(I::load(x.as_ptr()))) });
    for isa in here() {
        let check = |x: Lanes| {
            for (x, y) in x.into_iter().zip(run(isa, x)) {
                let error = ulps(y, f64::from(x).exp());
                assert!(error <= 2.0, "{isa}: exp({x}) = {y:e}, {error} units from {:e}", f64::from(x).exp());
            }
        };
        check(EDGES);
        // From where it is 0 to where it is infinite, about 2^18 numbers; and small ones.
        for i in 0..1 << 14 {
            check(std::array::from_fn(|j| -110.0 + ((i * LANES + j) as f32) * (205.0 / (1 << 18) as f32)));
        }
        for exponent in -40..7 {
            check(std::array::from_fn(|j| (1.0 + j as f32 / 16.3) * 2.0f32.powi(exponent)));
            check(std::array::from_fn(|j| -(1.0 + j as f32 / 16.3) * 2.0f32.powi(exponent)));
        }
        for at in [88.722_84, -87.336_54, -103.972_08, -103.278_93] {
            check(std::array::from_fn(|j| f32::from_bits(f32::to_bits(at) + j as u32 - 8)));
        }
    }
}

#[test]
fn silu_is_near_and_has_the_formulas_limits() {
    let run = task!(Silu { x: Lanes } -> Lanes, |I| { lanes::<I>(I::silu(I::load(x.as_ptr()))) });
    for isa in here() {
        let check = |x: Lanes| {
            for (x, y) in x.into_iter().zip(run(isa, x)) {
                let exact = f64::from(x) / (1.0 + (-f64::from(x)).exp());
                // Below -88, e^-x is infinite in f32.
                let near =
                    if x >= -88.0 || x.is_nan() { ulps(y, exact) <= 5.0 } else { (y - exact as f32).abs() < 1e-36 };
                assert!(near, "{isa}: silu({x}) = {y:e}, not {exact:e}");
            }
        };
        for i in 0..1 << 14 {
            check(std::array::from_fn(|j| -110.0 + ((i * LANES + j) as f32) * (205.0 / (1 << 18) as f32)));
        }
        let finite = EDGES.map(|x| if x == f32::NEG_INFINITY { -1e30 } else { x });
        check(finite);
        // As the formula has it: -infinity through infinity.
        assert!(run(isa, [f32::NEG_INFINITY; LANES])[0].is_nan());
        assert_eq!(run(isa, [f32::INFINITY; LANES])[0], f32::INFINITY);
        assert_eq!(run(isa, [-0.0; LANES])[0].to_bits(), (-0.0f32).to_bits());
    }
}
