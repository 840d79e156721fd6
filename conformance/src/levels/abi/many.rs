//! Much on one device: plans, memory, writes, runs and copies beyond what short queues, narrow handles and caches that look at
//! too little can hold.

use camelid_core::backend::{BufferDesc, BufferUsage};
use camelid_core::graph::Graph;
use camelid_core::ops::Op;
use camelid_host::{Buffer, DeviceHandle};

use super::case;
use super::device::{added, same, works};
use crate::case::{Case, Context, Problem};
use crate::check;
use crate::graph_case::contents::SplitMix64;
use crate::levels::rig::{self, Rig, WIDTH};

/// Tokens of most plans here.
const TOKENS: usize = 6;

/// Its cases.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("abi/plan/a_thousand", "more than a thousand plans alive at once, of three kinds", thousand),
        case("abi/plan/other_attributes", "plans that differ in nothing but an attribute", attributes),
        case("abi/plan/freed_after_run", "a plan and its operands go before anybody waits for the run", freed),
        case("abi/plan/thousand_runs", "two plans feed each other a thousand times before anybody reads", runs),
        case("abi/plan/small_writes", "two thousand writes of an element each before a run", small_writes),
        case("abi/plan/many_values", "a graph of seven hundred operands", many_values),
        case("abi/memory/hundreds_of_copies", "six hundred copies before anybody reads", copies),
        case("abi/memory/large", "33 MiB, written and read at once and in pieces", large),
        case(
            "abi/memory/seventy_thousand",
            "seventy thousand buffers one after the other, and some that stay",
            seventy,
        ),
        case("abi/weight/same_name", "weights of one name and size that differ in their last element", |cx| {
            let device = cx.subject.handle()?;
            same_name([&device, &device])
        }),
        case("abi/weight/same_name_elsewhere", "the same on two devices", |cx| {
            same_name([&cx.subject.handle()?, &cx.subject.handle()?])
        }),
    ]
}

fn elementwise(op: &Op, tokens: usize) -> Result<Graph, Problem> {
    rig::graph(tokens, |g| {
        let (a, b) = (g.input("a", rig::rows(WIDTH))?, g.input("b", rig::rows(WIDTH))?);
        let y = g.push(op.clone(), &[a, b])?[0];
        g.output("y", y)
    })
}

fn thousand(cx: &Context<'_>) -> Result<(), Problem> {
    let device = cx.subject.handle()?;
    // All plans share their memory, so that the plans are what there are many of.
    let [a, b, y] = ["a", "b", "y"].map(|name| rig::memory(&device, name, 2 * WIDTH));
    let (a, b, y) = (a?, b?, y?);
    let twice = || {
        rig::graph(2, |g| {
            let (a, b) = (g.input("a", rig::rows(WIDTH))?, g.input("b", rig::rows(WIDTH))?);
            let sum = g.push(Op::Add, &[a, b])?[0];
            let y = g.push(Op::Add, &[sum, b])?[0];
            g.output("y", y)
        })
    };
    let plan = |n: usize| {
        let graph = match n % 3 {
            0 => elementwise(&Op::Add, 2)?,
            1 => elementwise(&Op::Mul, 2)?,
            _ => twice()?,
        };
        Rig::new(&device, graph, &[("a", &a), ("b", &b), ("y", &y)])
    };
    let rigs = (0..1_030).map(plan).collect::<Result<Vec<_>, _>>()?;
    let (left, right) = (rig::whole(2 * WIDTH, 3), rig::whole(2 * WIDTH, 8));
    a.write(0, &rig::bytes(&left))?;
    b.write(0, &rig::bytes(&right))?;
    for n in [0, 1, 2, 255, 256, 257, 258, 511, 512, 513, 1_023, 1_024, 1_025, 1_026, 1_029] {
        let expected: Vec<f32> = match n % 3 {
            0 => added(&left, &right),
            1 => left.iter().zip(&right).map(|(a, b)| a * b).collect(),
            _ => added(&added(&left, &right), &right),
        };
        y.write(0, &rig::bytes(&[f32::NAN; 2 * WIDTH]))?;
        rigs[n].run(2)?;
        same(&rig::read(&y, 2 * WIDTH)?, &expected, &format!("plan {n} of 1030"))?;
    }
    Ok(())
}

/// Close enough to tell attributes apart in any class.
fn near(found: &[f32], expected: f32, what: &str) -> Result<(), Problem> {
    match found.iter().find(|x| ((*x - expected) / expected).abs().is_nan() || ((*x - expected) / expected).abs() > 0.1)
    {
        Some(x) => Err(Problem::fail(format!("{what}: {x}, expected {expected}"))),
        None => Ok(()),
    }
}

fn attributes(cx: &Context<'_>) -> Result<(), Problem> {
    let device = cx.subject.handle()?;
    let ones = rig::weight(&device, "w", &[WIDTH], &[1.0; WIDTH], 0)?;
    let norm = |eps: f32| {
        let graph = rig::graph(TOKENS, |g| {
            let (x, w) = (g.input("x", rig::rows(WIDTH))?, g.weight("w", rig::fixed(&[WIDTH]))?);
            let y = g.push(Op::RmsNorm { eps }, &[x, w])?[0];
            g.output("y", y)
        })?;
        Rig::new(&device, graph, &[("w", &ones)])
    };
    let softmax = |scale: f32| {
        let graph = rig::graph(TOKENS, |g| {
            let x = g.input("x", rig::rows(WIDTH))?;
            let y = g.push(Op::Softmax { scale }, &[x])?[0];
            g.output("y", y)
        })?;
        Rig::new(&device, graph, &[])
    };
    let product = |transpose_b: bool| {
        let graph = rig::graph(TOKENS, |g| {
            let (a, b) = (g.input("a", rig::fixed(&[1, 2, 2]))?, g.input("b", rig::fixed(&[1, 2, 2]))?);
            let y = g.push(Op::Bmm { transpose_b }, &[a, b])?[0];
            g.output("y", y)
        })?;
        Rig::new(&device, graph, &[])
    };
    let norms = [(1e-5, 1.0), (27.0, 0.5), (72.0, 1.0 / 3.0)].map(|(eps, y)| (norm(eps), y));
    // Four elements of 0 and the first of ln 16: with scale 1 it weighs 16 of 20.
    let softmaxes = [(1.0, 0.8), (0.0, 0.2), (0.25, 1.0 / 3.0)].map(|(scale, y)| (softmax(scale), y));
    let products = [(false, [1.0, 2.0, 10.0, 20.0]), (true, [1.0, 3.0, 10.0, 30.0])].map(|(t, y)| (product(t), y));
    for _ in 0..2 {
        for (rig, expected) in &norms {
            let rig = rig.as_ref().map_err(again)?;
            rig.write("x", &[3.0; 2 * WIDTH])?;
            rig.run(2)?;
            near(&rig.read("y", 2 * WIDTH)?, *expected, "rms_norm of threes beside others with another eps")?;
        }
        for (rig, expected) in &softmaxes {
            let rig = rig.as_ref().map_err(again)?;
            rig.write("x", &[16f32.ln(), 0.0, 0.0, 0.0, 0.0])?;
            rig.run(1)?;
            near(&rig.read("y", 1)?, *expected, "softmax beside others with another scale")?;
        }
        for (rig, expected) in &products {
            let rig = rig.as_ref().map_err(again)?;
            rig.write("a", &[1.0, 0.0, 10.0, 0.0])?;
            rig.write("b", &[1.0, 2.0, 3.0, 4.0])?;
            rig.run(1)?;
            same(&rig.read("y", 4)?, expected, "a product of square matrices beside a transposed one")?;
        }
    }
    Ok(())
}

/// A problem that was met when plans were made.
fn again(problem: &Problem) -> Problem {
    Problem::fail(format!("a plan that differs in an attribute: {problem:?}"))
}

fn freed(cx: &Context<'_>) -> Result<(), Problem> {
    let device = cx.subject.handle()?;
    for salt in 0..30 {
        let y = rig::memory(&device, "y", TOKENS * WIDTH)?;
        let rig = Rig::new(&device, rig::sum(TOKENS)?, &[("y", &y)])?;
        let (a, b) = (rig::whole(TOKENS * WIDTH, salt), rig::whole(TOKENS * WIDTH, salt + 50));
        rig.write("a", &a)?;
        rig.write("b", &b)?;
        rig.run(TOKENS)?;
        drop(rig);
        // Where the operands were, if it is given out again.
        let other = rig::memory(&device, "other", TOKENS * WIDTH)?;
        other.write(0, &rig::bytes(&rig::whole(TOKENS * WIDTH, salt + 70)))?;
        same(&rig::read(&y, TOKENS * WIDTH)?, &added(&a, &b), "the result of a run whose operands were freed")?;
    }
    works(&device)
}

fn runs(cx: &Context<'_>) -> Result<(), Problem> {
    const ROUNDS: usize = 500;
    let device = cx.subject.handle()?;
    let size = 2 * WIDTH;
    let (x, y) = (rig::memory(&device, "x", size)?, rig::memory(&device, "y", size)?);
    let there = Rig::new(&device, rig::sum(2)?, &[("a", &x), ("y", &y)])?;
    let back = Rig::new(&device, rig::sum(2)?, &[("a", &y), ("y", &x)])?;
    let start = rig::whole(size, 5);
    x.write(0, &rig::bytes(&start))?;
    there.write("b", &vec![2.0; size])?;
    back.write("b", &vec![-1.0; size])?;
    for _ in 0..ROUNDS {
        there.run(2)?;
        back.run(2)?;
    }
    let expected: Vec<f32> = start.iter().map(|x| x + ROUNDS as f32).collect();
    same(&rig::read(&x, size)?, &expected, "a thousand runs of two plans that feed each other")
}

fn small_writes(cx: &Context<'_>) -> Result<(), Problem> {
    const ROWS: usize = 200;
    let device = cx.subject.handle()?;
    let rig = Rig::new(&device, rig::sum(ROWS)?, &[])?;
    for salt in 0..3 {
        let (a, b) = (rig::whole(ROWS * WIDTH, salt), rig::whole(ROWS * WIDTH, salt + 50));
        for (name, values) in [("a", &a), ("b", &b)] {
            for (i, value) in values.iter().enumerate() {
                rig.buffer(name).write(4 * i, &value.to_le_bytes())?;
            }
        }
        rig.run(ROWS)?;
        same(&rig.read("y", ROWS * WIDTH)?, &added(&a, &b), "a sum of operands that were written one by one")?;
    }
    Ok(())
}

fn many_values(cx: &Context<'_>) -> Result<(), Problem> {
    const COUNT: usize = 700;
    let name = |n: usize| format!("x{n}");
    let graph = rig::graph(2, |g| {
        let mut sum = g.input(name(0), rig::rows(WIDTH))?;
        for n in 1..COUNT {
            let x = g.input(name(n), rig::rows(WIDTH))?;
            sum = g.push(Op::Add, &[sum, x])?[0];
        }
        g.output("y", sum)
    })?;
    let rig = Rig::new(&cx.subject.handle()?, graph, &[])?;
    let mut expected = vec![0.0; 2 * WIDTH];
    for n in 0..COUNT {
        let x: Vec<f32> = rig::whole(2 * WIDTH, n).iter().map(|x| x % 3.0).collect();
        rig.write(&name(n), &x)?;
        expected = added(&expected, &x);
    }
    rig.run(2)?;
    same(&rig.read("y", 2 * WIDTH)?, &expected, "a sum of seven hundred operands")
}

fn alloc(device: &DeviceHandle, size: usize) -> Result<Buffer, Problem> {
    Ok(device.alloc(BufferDesc { name: format!("{size} bytes"), size, usage: BufferUsage::State })?)
}

fn pattern(size: usize, salt: usize) -> Vec<u8> {
    (0..size).map(|i| ((i * 37 + salt * 101) ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn holds(buffer: &Buffer, from: usize, expected: &[u8], what: &str) -> Result<(), Problem> {
    let mut found = vec![0x5a; expected.len()];
    buffer.read(from, &mut found)?;
    if let Some(at) = found.iter().zip(expected).position(|(f, e)| f != e) {
        let (found, expected) = (found[at], expected[at]);
        return Err(Problem::fail(format!("{what}: byte {} is {found:#04x}, expected {expected:#04x}", from + at)));
    }
    Ok(())
}

fn copies(cx: &Context<'_>) -> Result<(), Problem> {
    const SIZE: usize = 1_031;
    let device = cx.subject.handle()?;
    let mut model: Vec<Vec<u8>> = (0..4).map(|n| pattern(SIZE, n)).collect();
    let buffers = (0..4).map(|_| alloc(&device, SIZE)).collect::<Result<Vec<_>, _>>()?;
    for (buffer, contents) in buffers.iter().zip(&model) {
        buffer.write(0, contents)?;
    }
    let mut random = SplitMix64(600);
    let mut below = |n: usize| (random.next_u64() % n as u64) as usize;
    for _ in 0..600 {
        let (a, step) = (below(4), 1 + below(3));
        let (b, from, to) = ((a + step) % 4, below(SIZE), below(SIZE));
        let len = 1 + below((SIZE - from).min(SIZE - to).min(90));
        device.copy((&buffers[b], to), (&buffers[a], from), len)?;
        let bytes = model[a][from..from + len].to_vec();
        model[b][to..to + len].copy_from_slice(&bytes);
    }
    buffers.iter().zip(&model).try_for_each(|(b, m)| holds(b, 0, m, "after six hundred copies"))
}

fn large(cx: &Context<'_>) -> Result<(), Problem> {
    const SIZE: usize = (33 << 20) + 5;
    let device = cx.subject.handle()?;
    let (one, two) = (alloc(&device, SIZE)?, alloc(&device, SIZE)?);
    let mut contents = pattern(SIZE, 1);
    one.write(0, &contents)?;
    holds(&one, 0, &contents, "33 MiB")?;
    for at in [(16 << 20) - 7, (16 << 20) + 1, (32 << 20) - 1, SIZE - 300] {
        let piece = pattern(299, at);
        one.write(at, &piece)?;
        contents[at..at + 299].copy_from_slice(&piece);
    }
    for at in [0, (16 << 20) - 7, 17 << 20, (32 << 20) - 1, SIZE - 400] {
        holds(&one, at, &contents[at..at + 400], "a piece of 33 MiB")?;
    }
    // The beginning is where it was.
    holds(&one, 0, &contents[..4096], "the beginning of 33 MiB")?;
    two.write(0, &pattern(SIZE, 9))?;
    device.copy((&two, 0), (&one, 0), SIZE)?;
    holds(&two, 0, &contents, "a copy of 33 MiB")
}

fn seventy(cx: &Context<'_>) -> Result<(), Problem> {
    let device = cx.subject.handle()?;
    let kept = (0..3).map(|n| alloc(&device, 64 + n)).collect::<Result<Vec<_>, _>>()?;
    for (n, buffer) in kept.iter().enumerate() {
        buffer.write(0, &pattern(64 + n, n))?;
    }
    for n in 0..70_000usize {
        let buffer = alloc(&device, 4 + n % 13)?;
        if n % 1_000 > 996 || (65_530..65_540).contains(&n) {
            let contents = pattern(4 + n % 13, n);
            buffer.write(0, &contents)?;
            holds(&buffer, 0, &contents, &format!("buffer {n}"))?;
        }
    }
    for (n, buffer) in kept.iter().enumerate() {
        holds(buffer, 0, &pattern(64 + n, n), "a buffer that was there before seventy thousand others")?;
    }
    works(&device)
}

fn same_name(devices: [&DeviceHandle; 2]) -> Result<(), Problem> {
    const ROWS: usize = 200;
    let values = |last: f32| {
        let mut values = rig::whole(ROWS * WIDTH, 4);
        values[ROWS * WIDTH - 1] = last;
        values
    };
    let lookup = |n: usize| -> Result<(Rig, Buffer), Problem> {
        let device = devices[n % 2];
        let table = rig::weight(device, "table", &[ROWS, WIDTH], &values(n as f32 + 0.5), 0)?;
        let graph = rig::graph(2, |g| {
            let index = g.input("index", rig::indices())?;
            let table = g.weight("table", rig::fixed(&[ROWS, WIDTH]))?;
            let y = g.push(Op::GatherRows, &[table, index])?[0];
            g.output("y", y)
        })?;
        Ok((Rig::new(device, graph, &[("table", &table)])?, table))
    };
    let mut alive = (0..4).map(lookup).collect::<Result<Vec<_>, _>>()?;
    alive.remove(1);
    alive.push(lookup(4)?);
    for ((rig, _), n) in alive.iter().zip([0, 2, 3, 4]) {
        rig.write_ints("index", &[ROWS as i32 - 1, 0])?;
        rig.run(2)?;
        let found = rig.read("y", 2 * WIDTH)?;
        let expected = values(n as f32 + 0.5);
        check!(
            found[..WIDTH] == expected[(ROWS - 1) * WIDTH..] && found[WIDTH..] == expected[..WIDTH],
            "weight {n} of five of one name: its last row ends in {}, expected {}",
            found[WIDTH - 1],
            n as f32 + 0.5
        );
    }
    Ok(())
}
