//! The strings of `conformance/reference/llama_tokenizer_cases.py`, drawn here by the same rules.
#![allow(dead_code, reason = "each test file uses a part")]

/// Kinds of characters, first and last one of each; the first four come up more often.
const RANGES: [(u32, u32); 22] = [
    (0x61, 0x7A),
    (0x20, 0x7E),
    (0x20, 0x20),
    (0x41, 0x5A),
    (0x09, 0x0D),
    (0x30, 0x39),
    (0xA0, 0xFF),
    (0x300, 0x36F),
    (0x391, 0x451),
    (0x5D0, 0x64A),
    (0x905, 0x94D),
    (0xE01, 0xE5B),
    (0x2000, 0x206F),
    (0x3041, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0x1D400, 0x1D7FF),
    (0x1F300, 0x1F64F),
    (0xFE00, 0xFE0F),
    (0x00, 0x1F),
    (0x2581, 0x2581),
    (0x10FF00, 0x10FFFF),
];

const WORDS: [&str; 28] = [
    "the",
    " the",
    " of",
    "model",
    " tokens",
    "Hello",
    " is",
    "ing",
    " 2024",
    "don't",
    "I'LL",
    "\n\n",
    "    ",
    "été",
    " camelid",
    "http://",
    "12345",
    " \t",
    "==",
    "#include",
    "▁",
    "  ",
    "</",
    "s>",
    "<0x0A>",
    "日本",
    "Привет",
    "🐪",
];

/// Strings that go into one digest.
pub const GROUP: usize = 64;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

fn string(random: &mut SplitMix) -> String {
    let mut text = String::new();
    let only = random.below(RANGES.len() + 4);
    for _ in 0..random.below(24) + 1 {
        let form = random.below(4);
        if form == 0 {
            text.push_str(WORDS[random.below(WORDS.len())]);
            continue;
        }
        let kind = if form == 1 && only < RANGES.len() { only } else { random.below(RANGES.len() + 12) };
        let (low, high) = RANGES[if kind < RANGES.len() { kind } else { kind % 4 }];
        let code = low + random.below((high - low + 1) as usize) as u32;
        text.push(char::from_u32(code).expect("no range has a surrogate"));
    }
    text
}

/// The first strings of seed 1.
pub fn strings(count: usize) -> Vec<String> {
    let mut random = SplitMix(1);
    (0..count).map(|_| string(&mut random)).collect()
}

/// The text where sentencepiece and transformers mean the same by spaces: not at its beginning, and not written `▁`.
pub fn inner(text: &str) -> String {
    format!("a{}", text.replace('▁', "_"))
}

/// FNV-1a with 64 bits over the ids as 32-bit little-endian numbers, each list with 2^32 - 1 behind it.
pub fn digest(rows: &[Vec<u32>]) -> String {
    let mut value = 0xCBF2_9CE4_8422_2325u64;
    for id in rows.iter().flat_map(|row| row.iter().copied().chain([u32::MAX])) {
        for byte in id.to_le_bytes() {
            value = (value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
    format!("{value:016x}")
}

/// Compares the ids of as many strings as there are digests for, and names the strings of a digest that differs.
pub fn compare(name: &str, digests: &[String], change: impl Fn(&str) -> String, encode: impl Fn(&str) -> Vec<u32>) {
    assert!(!digests.is_empty(), "{name} has no digests");
    let texts: Vec<String> = strings(digests.len() * GROUP).iter().map(|text| change(text)).collect();
    for (group, expected) in texts.chunks(GROUP).zip(digests) {
        let ids: Vec<Vec<u32>> = group.iter().map(|text| encode(text)).collect();
        assert_eq!(digest(&ids), *expected, "{name}: {:?}", group.iter().zip(&ids).collect::<Vec<_>>());
    }
}
