//! Buffers: sizes, offsets, copies, many of them, more than there is.

use camelid_core::backend::{BufferDesc, BufferUsage, ErrorCode};
use camelid_host::{Buffer, DeviceHandle};

use super::case;
use super::device::works;
use crate::case::{Case, Problem};
use crate::check;
use crate::graph_case::contents::SplitMix64;

const SIZES: [usize; 9] = [1, 2, 3, 4, 7, 255, 257, 4_096, (1 << 20) + 3];
const USAGES: [(&str, BufferUsage); 3] =
    [("input", BufferUsage::Input), ("output", BufferUsage::Output), ("state", BufferUsage::State)];

/// Its cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, usage) in USAGES {
        let id = format!("abi/memory/sizes_of_{name}");
        cases.push(case(id, "buffers from a byte to a megabyte hold what was written", move |cx| {
            let device = cx.subject.handle()?;
            SIZES.iter().try_for_each(|size| whole(&device, *size, usage))
        }));
        for seed in 0..2 {
            let id = format!("abi/memory/random_{name}_{seed}");
            let about = "random writes, reads and copies at odd offsets change what they should and nothing else";
            cases.push(case(id, about, move |cx| random(&cx.subject.handle()?, usage, seed)));
        }
    }
    cases.push(case("abi/memory/two_thousand", "buffers of all sizes at once, some freed and made again", |cx| {
        many(&cx.subject.handle()?)
    }));
    cases.push(case("abi/memory/freed_and_made", "ten thousand buffers one after the other", |cx| {
        let device = cx.subject.handle()?;
        for n in 0..10_000usize {
            let buffer = alloc(&device, 1 + n % 97, BufferUsage::State)?;
            if n % 100 == 0 {
                filled(&buffer, n as u8)?;
            }
        }
        works(&device)
    }));
    cases.push(case("abi/memory/more_than_there_is", "an exabyte is refused, and the device goes on", |cx| {
        let device = cx.subject.handle()?;
        let kept = alloc(&device, 300, BufferUsage::State)?;
        for size in [1 << 60, (1 << 60) + 1, isize::MAX as usize] {
            let desc = BufferDesc { name: "far too much".into(), size, usage: BufferUsage::State };
            let error = match device.alloc(desc) {
                Ok(_) => return Err(Problem::fail(format!("a buffer of {size} bytes was given"))),
                Err(error) => error,
            };
            check!(error.code() != Some(ErrorCode::DeviceLost), "asking for {size} bytes lost the device: {error}");
            filled(&kept, size as u8)?;
        }
        works(&device)
    }));
    cases.push(case("abi/memory/copy_chain", "a chain of copies takes effect in the order of the calls", |cx| {
        let device = cx.subject.handle()?;
        let chain = (0..20).map(|_| alloc(&device, 257, BufferUsage::State)).collect::<Result<Vec<_>, _>>()?;
        for round in 0..5u8 {
            let contents = pattern(257, round);
            chain[0].write(0, &contents)?;
            for pair in chain.windows(2) {
                device.copy((&pair[1], 0), (&pair[0], 0), 257)?;
            }
            // After the copies; what was copied is not what is written now.
            chain[0].write(0, &pattern(257, round + 100))?;
            holds(&chain[19], &contents, "the end of a chain of copies")?;
        }
        Ok(())
    }));
    cases
}

fn alloc(device: &DeviceHandle, size: usize, usage: BufferUsage) -> Result<Buffer, Problem> {
    Ok(device.alloc(BufferDesc { name: format!("{size} bytes"), size, usage })?)
}

fn pattern(size: usize, salt: u8) -> Vec<u8> {
    (0..size).map(|i| (i as u8).wrapping_mul(37).wrapping_add(salt) ^ (i >> 8) as u8).collect()
}

fn holds(buffer: &Buffer, expected: &[u8], what: &str) -> Result<(), Problem> {
    let mut found = vec![0x5a; expected.len()];
    buffer.read(0, &mut found)?;
    if let Some(at) = found.iter().zip(expected).position(|(f, e)| f != e) {
        let (size, found, expected) = (expected.len(), found[at], expected[at]);
        return Err(Problem::fail(format!("{what}: byte {at} of {size} is {found:#04x}, expected {expected:#04x}")));
    }
    Ok(())
}

fn filled(buffer: &Buffer, salt: u8) -> Result<(), Problem> {
    let contents = pattern(buffer.size(), salt);
    buffer.write(0, &contents)?;
    holds(buffer, &contents, "a buffer")
}

fn whole(device: &DeviceHandle, size: usize, usage: BufferUsage) -> Result<(), Problem> {
    let buffer = alloc(device, size, usage)?;
    filled(&buffer, 1)?;
    filled(&buffer, 2)?;
    let mut last = [0];
    buffer.read(size - 1, &mut last)?;
    check!(last[0] == pattern(size, 2)[size - 1], "the last of {size} bytes is {:#04x}", last[0]);
    device.sync()?;
    holds(&buffer, &pattern(size, 2), "a buffer after sync")
}

/// Four buffers against four vectors.
fn random(device: &DeviceHandle, usage: BufferUsage, seed: u64) -> Result<(), Problem> {
    let sizes = [61, 1024, 4099, 130];
    let mut random = SplitMix64(seed);
    let mut model: Vec<Vec<u8>> = sizes.iter().map(|size| pattern(*size, seed as u8)).collect();
    let buffers = sizes.iter().map(|size| alloc(device, *size, usage)).collect::<Result<Vec<_>, _>>()?;
    for (buffer, contents) in buffers.iter().zip(&model) {
        buffer.write(0, contents)?;
    }
    for step in 0..400 {
        let mut below = |n: usize| (random.next_u64() % n as u64) as usize;
        let (a, b) = (below(4), below(4));
        let (from, to) = (below(sizes[a]), below(sizes[b]));
        let len = 1 + below((sizes[a] - from).min(sizes[b] - to));
        match below(3) {
            0 => {
                let bytes = pattern(len, step as u8);
                buffers[b].write(to, &bytes)?;
                model[b][to..to + len].copy_from_slice(&bytes);
            }
            1 if a != b || from + len <= to || to + len <= from => {
                device.copy((&buffers[b], to), (&buffers[a], from), len)?;
                let bytes = model[a][from..from + len].to_vec();
                model[b][to..to + len].copy_from_slice(&bytes);
            }
            _ => {
                let mut found = vec![0x5a; len];
                buffers[a].read(from, &mut found)?;
                let right = found == model[a][from..from + len];
                check!(right, "step {step}: {len} bytes at offset {from} of {} are not what was written", sizes[a]);
            }
        }
    }
    for (buffer, contents) in buffers.iter().zip(&model) {
        holds(buffer, contents, "after 400 writes, reads and copies, a buffer")?;
    }
    Ok(())
}

fn many(device: &DeviceHandle) -> Result<(), Problem> {
    let size = |n: usize| 1 + (n * 7) % 64;
    let mut buffers: Vec<Option<Buffer>> = Vec::new();
    for n in 0..2_000 {
        let buffer = alloc(device, size(n), BufferUsage::State)?;
        buffer.write(0, &pattern(size(n), n as u8))?;
        buffers.push(Some(buffer));
    }
    for n in (0..2_000).step_by(3) {
        buffers[n] = None;
    }
    for n in (0..2_000).step_by(6) {
        let buffer = alloc(device, size(n), BufferUsage::State)?;
        buffer.write(0, &pattern(size(n), n as u8))?;
        buffers[n] = Some(buffer);
    }
    for (n, buffer) in buffers.iter().enumerate().rev() {
        if let Some(buffer) = buffer {
            holds(buffer, &pattern(size(n), n as u8), &format!("buffer {n} of 2000"))?;
        }
    }
    Ok(())
}
