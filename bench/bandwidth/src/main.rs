//! How fast this machine reads memory: the limit of decoding, which reads every weight once a token.
//!
//! Threads read their parts of one buffer, far larger than any cache, with the widest loads there are, in as many streams
//! at a time and on small or huge pages as is fastest; the median of several rounds counts, and the best is told. Prints one JSON object.
//!
//! ```text
//! camelid-bandwidth [--threads N] [--mib N] [--rounds N]
//! ```

use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use memmap2::{MmapMut, MmapOptions};

/// Words of one step of a stream: four cache lines.
const STEP: usize = 32;

fn main() -> ExitCode {
    match Options::read().and_then(|options| measure(&options)) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    threads: usize,
    mib: usize,
    rounds: usize,
}

impl Options {
    fn read() -> Result<Options, String> {
        let mut options = Options { threads: 1, mib: 1024, rounds: 15 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let target = match word.as_str() {
                "--threads" => &mut options.threads,
                "--mib" => &mut options.mib,
                "--rounds" => &mut options.rounds,
                _ => return Err(format!("{word}: the options are --threads, --mib and --rounds, each with a number")),
            };
            let value = words.next().and_then(|value| value.parse().ok()).filter(|n| (1..=1 << 20).contains(n));
            *target = value.ok_or_else(|| format!("{word} takes a number from 1 on"))?;
        }
        Ok(options)
    }
}

fn measure(options: &Options) -> Result<String, String> {
    let mut variants = Vec::new();
    for huge in [false, true] {
        let buffer = buffer(options.mib << 20, huge)?;
        let words: &[u64] = {
            // SAFETY: any bytes are words; the middle of `align_to` is aligned.
            let (_, words, _) = unsafe { buffer.align_to::<u64>() };
            words
        };
        for streams in [1, 2, 4, 8] {
            variants.push((huge, streams, rate(words, options.threads, streams, options.rounds)));
        }
    }
    let best = variants.iter().map(|(_, _, rate)| rate).max_by(|a, b| a.median.total_cmp(&b.median));
    let Rate { median, peak } = best.expect("there are variants");
    let shown = variants.iter().map(|(huge, streams, Rate { median, peak })| {
        format!(
            "{{\"huge_pages\": {huge}, \"streams\": {streams}, \"gb_per_s\": {median:.2}, \"peak_gb_per_s\": {peak:.2}}}"
        )
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let Options { threads, mib, rounds } = options;
    Ok(format!(
        "{{\"gb_per_s\": {median:.2}, \"peak_gb_per_s\": {peak:.2}, \"threads\": {threads}, \"mib\": {mib}, \
         \"rounds\": {rounds}, \"loads\": \"{}\", \"variants\": [{shown}]}}",
        loads()
    ))
}

/// GB/s of several rounds.
struct Rate {
    median: f64,
    peak: f64,
}

/// Memory that has been written, so that every page of it is one of its own.
fn buffer(bytes: usize, huge: bool) -> Result<MmapMut, String> {
    let map = MmapOptions::new().len(bytes).map_anon();
    let mut map =
        map.map_err(|error| format!("{bytes} bytes of memory cannot be had: {error}; give a smaller --mib"))?;
    #[cfg(target_os = "linux")]
    // Only advice: where it is not taken, both measurements are of small pages.
    let _ = map.advise(if huge { memmap2::Advice::HugePage } else { memmap2::Advice::NoHugePage });
    #[cfg(not(target_os = "linux"))]
    let _ = huge;
    for (i, byte) in map.iter_mut().enumerate() {
        *byte = i as u8;
    }
    Ok(map)
}

/// Reads for several rounds, in each of which all threads read all of their parts once.
fn rate(words: &[u64], threads: usize, streams: usize, rounds: usize) -> Rate {
    let part = words.len() / threads / (streams * STEP) * (streams * STEP);
    let barrier = Barrier::new(threads);
    let reader = |part: &[u64]| {
        // The first round is for pages and the clock of the processor.
        let times = (0..=rounds).map(|_| {
            barrier.wait();
            let start = Instant::now();
            std::hint::black_box(read(part, streams));
            (start, Instant::now())
        });
        times.collect::<Vec<_>>()
    };
    let times = thread::scope(|scope| {
        let parts = words.chunks_exact(part).take(threads);
        let readers: Vec<_> = parts
            .map(|part| {
                scope.spawn({
                    let reader = &reader;
                    move || reader(part)
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect::<Vec<_>>()
    });
    // A round lasts from the first start to the last end, by the readers' own clocks.
    let lasts = (1..=rounds).map(|round| {
        let start = times.iter().map(|times| times[round].0).min().expect("there is a thread");
        let end = times.iter().map(|times| times[round].1).max().expect("there is a thread");
        (end - start).as_secs_f64()
    });
    let bytes = (part * threads * size_of::<u64>()) as f64;
    let mut rates: Vec<f64> = lasts.map(|seconds| bytes / seconds / 1e9).collect();
    rates.sort_by(f64::total_cmp);
    Rate { median: rates[rates.len() / 2], peak: rates[rates.len() - 1] }
}

/// The sum of all words, so that each must be read.
fn read(words: &[u64], streams: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature.
            return unsafe { read_avx512(words, streams) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { read_avx2(words, streams) };
        }
    }
    read_any(words, streams)
}

fn loads() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "64 bytes";
        }
        if is_x86_feature_detected!("avx2") {
            return "32 bytes";
        }
    }
    "16 bytes"
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn read_avx512(words: &[u64], streams: usize) -> u64 {
    use std::arch::x86_64::{_mm512_add_epi64, _mm512_loadu_si512, _mm512_reduce_add_epi64, _mm512_setzero_si512};
    let mut sums = [_mm512_setzero_si512(); STEP / 8];
    each_step(words, streams, |step| {
        for (sum, line) in sums.iter_mut().zip(step.chunks_exact(8)) {
            // SAFETY: `line` has 8 words, 64 bytes.
            *sum = _mm512_add_epi64(*sum, unsafe { _mm512_loadu_si512(line.as_ptr().cast()) });
        }
    });
    sums.into_iter().fold(0, |total, sum| total.wrapping_add(_mm512_reduce_add_epi64(sum) as u64))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn read_avx2(words: &[u64], streams: usize) -> u64 {
    read_any(words, streams)
}

#[inline(always)]
fn read_any(words: &[u64], streams: usize) -> u64 {
    let mut sums = [0u64; STEP];
    each_step(words, streams, |step| {
        for (sum, word) in sums.iter_mut().zip(step) {
            *sum = sum.wrapping_add(*word);
        }
    });
    sums.into_iter().fold(0, u64::wrapping_add)
}

/// Calls `take` for every step of the words: the first of each stream, then the second of each, ...
#[inline(always)]
fn each_step(words: &[u64], streams: usize, mut take: impl FnMut(&[u64; STEP])) {
    let (steps, _) = words.as_chunks::<STEP>();
    let length = steps.len() / streams;
    for i in 0..length {
        for stream in 0..streams {
            take(&steps[stream * length + i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_once() {
        let words: Vec<u64> = (0..STEP as u64 * 16).map(|i| i * i).collect();
        let sum = words.iter().sum::<u64>();
        for streams in [1, 2, 4, 8] {
            assert_eq!(read(&words, streams), sum, "{streams} streams");
            assert_eq!(read_any(&words, streams), sum, "{streams} streams");
        }
    }
}
