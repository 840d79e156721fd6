//! The bytes of a value: generated, stored, or written out in the case.
//!
//! Generators use SplitMix64 and no function of a mathematical library, so that every program makes the same bits:
//! a normal is the sum of twelve uniforms less six.

use camelid_core::DType;
use half::{bf16, f16};

use super::file::Contents;
use crate::fixtures::Fixture;

/// The generator of Steele, Lea and Flood (2014).
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number in 0..1.
    pub fn uniform(&mut self) -> f64 {
        // 53 bits, every one of which an f64 holds.
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The next of about normal distribution: mean 0, variance 1.
    pub fn normal(&mut self) -> f64 {
        (0..12).fold(0.0, |sum, _| sum + self.uniform()) - 6.0
    }
}

impl Contents {
    /// The bytes of `elements` elements of type `dtype` in rows of `columns`; `case` is where stored ones are looked up in `fixture`.
    ///
    /// # Errors
    /// What is wrong with the case.
    pub fn bytes(
        &self,
        case: &str,
        fixture: &Fixture,
        dtype: DType,
        elements: usize,
        columns: usize,
    ) -> Result<Vec<u8>, String> {
        if let Some(ints) = &self.ints {
            if dtype != DType::I32 || ints.len() != elements {
                return Err(format!("{} ints for {elements} elements of {dtype}", ints.len()));
            }
            return Ok(ints.iter().flat_map(|i| i.to_le_bytes()).collect());
        }
        if let Some(file) = &self.file {
            let bytes = fixture.bytes(&format!("{case}#{file}")).map_err(|e| e.to_string())?;
            let expected = elements / dtype.block_elems() * dtype.block_bytes();
            if bytes.len() != expected {
                return Err(format!("{} bytes stored for {elements} elements of {dtype}", bytes.len()));
            }
            return Ok(bytes.to_vec());
        }
        let generator = self.generator.as_deref().ok_or("one of gen, file and ints must say what is in it")?;
        if generator == "poison" {
            return Ok(poison(dtype, elements / dtype.block_elems() * dtype.block_bytes()));
        }
        let missing = |field: &str| format!("gen = \"{generator}\" needs {field}");
        let mut random = SplitMix64(self.seed.unwrap_or_default());
        if generator == "blocks" {
            let scale = self.scale.ok_or_else(|| missing("scale"))?;
            let Some(rows) = &self.rows else {
                return blocks(&mut random, dtype, elements / dtype.block_elems(), scale);
            };
            let len = dtype.row_bytes(columns).ok_or_else(|| format!("rows of {columns} are no whole blocks"))?;
            let mut bytes = poison(dtype, elements / columns.max(1) * len);
            for row in rows {
                let drawn = blocks(&mut random, dtype, columns / dtype.block_elems(), scale)?;
                let place = bytes.get_mut(row * len..(row + 1) * len);
                place.ok_or_else(|| format!("there is no row {row}"))?.copy_from_slice(&drawn);
            }
            return Ok(bytes);
        }
        if let Some(rows) = &self.rows {
            let scale = self.scale.ok_or_else(|| missing("scale"))?;
            let mut bytes = poison(dtype, elements * dtype.block_bytes());
            let len = columns * dtype.block_bytes();
            for row in rows {
                let mut drawn = Vec::with_capacity(len);
                for _ in 0..columns {
                    push(&mut drawn, (random.normal() * scale) as f32, dtype)?;
                }
                let place = bytes.get_mut(row * len..(row + 1) * len);
                place.ok_or_else(|| format!("there is no row {row}"))?.copy_from_slice(&drawn);
            }
            return Ok(bytes);
        }
        let mut draw: Box<dyn FnMut() -> f64> = match generator {
            "normal" => {
                let scale = self.scale.ok_or_else(|| missing("scale"))?;
                let mean = self.mean;
                Box::new(move || {
                    let x = random.normal() * scale;
                    mean.map_or(x, |mean| x + mean)
                })
            }
            "uniform" => {
                let (lo, hi) = (self.lo.ok_or_else(|| missing("lo"))?, self.hi.ok_or_else(|| missing("hi"))?);
                Box::new(move || lo + (hi - lo) * random.uniform())
            }
            "const" => {
                let value = self.value.ok_or_else(|| missing("value"))?;
                Box::new(move || value)
            }
            other => return Err(format!("gen = \"{other}\"; the generators are normal, uniform, const, poison")),
        };
        let mut bytes = Vec::with_capacity(elements * dtype.block_bytes());
        for _ in 0..elements {
            push(&mut bytes, draw() as f32, dtype)?;
        }
        Ok(bytes)
    }
}

/// The f16 fields of a block format as (byte offset, factor).
fn fields(dtype: DType) -> Option<&'static [(usize, f64)]> {
    Some(match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[(0, 1.0)],
        DType::Q4_1 => &[(0, 1.0), (2, -7.5)],
        DType::Q5_1 => &[(0, 1.0), (2, -15.5)],
        DType::Q2_K => &[(80, 1.0), (82, 1.0)],
        DType::Q3_K => &[(108, 1.0)],
        DType::Q4_K | DType::Q5_K => &[(0, 1.0), (2, 1.0)],
        DType::Q6_K => &[(208, 1.0)],
        _ => return None,
    })
}

/// Of each block random bytes first, then a number for each f16 field: factor * scale * (1/2 + u).
fn blocks(random: &mut SplitMix64, dtype: DType, count: usize, scale: f64) -> Result<Vec<u8>, String> {
    let fields = fields(dtype).ok_or_else(|| format!("gen = \"blocks\": {dtype} is no block format"))?;
    let size = dtype.block_bytes();
    let mut bytes = Vec::with_capacity(count * size);
    for _ in 0..count {
        let words = (0..size.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes());
        let mut block: Vec<u8> = words.collect();
        for (offset, factor) in fields {
            let half = f16::from_f32((factor * scale * (0.5 + random.uniform())) as f32);
            block[*offset..offset + 2].copy_from_slice(&half.to_le_bytes());
        }
        bytes.extend_from_slice(&block[..size]);
    }
    Ok(bytes)
}

fn push(bytes: &mut Vec<u8>, x: f32, dtype: DType) -> Result<(), String> {
    match dtype {
        DType::F32 => bytes.extend(x.to_le_bytes()),
        DType::F16 => bytes.extend(f16::from_f32(x).to_le_bytes()),
        DType::BF16 => bytes.extend(bf16::from_f32(x).to_le_bytes()),
        other => return Err(format!("elements of {other} are not generated; store them")),
    }
    Ok(())
}

/// What memory holds that nobody should read: NaN as f32, f16 and bf16, as the scales of blocks, an absurd index as i32.
pub fn poison(dtype: DType, len: usize) -> Vec<u8> {
    // Blocks have even lengths, and their f16 lie at even places.
    let halves = dtype.is_block() || dtype.block_bytes() == 2;
    let pattern: &[u8] = if halves { &[0xad, 0x7f] } else { &[0xad, 0xde, 0xc0, 0x7f] };
    pattern.iter().copied().cycle().take(len).collect()
}

/// The elements of a plain float type, widened, which is exact; `None` for other types.
pub fn floats(dtype: DType, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.as_chunks::<2>().0.iter().copied();
    match dtype {
        DType::F32 => Some(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        DType::F16 => Some(halves().map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        DType::BF16 => Some(halves().map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        // The first outputs for seed 1234567, as the generator's authors list them.
        let mut random = SplitMix64(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn normals_look_normal() {
        let mut random = SplitMix64(7);
        let draws: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn poison_is_not_a_number_in_any_type() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let values = floats(dtype, &poison(dtype, 8)).unwrap();
            assert!(values.iter().all(|x| x.is_nan()), "{dtype}: {values:?}");
        }
        for dtype in DType::ALL.iter().filter(|d| d.is_block()) {
            let mut values = vec![0.0; 3 * dtype.block_elems()];
            camelid_core::quant::dequantize(*dtype, &poison(*dtype, 3 * dtype.block_bytes()), &mut values).unwrap();
            assert!(values.iter().all(|x| x.is_nan()), "{dtype}: {values:?}");
        }
    }

    #[test]
    fn blocks_in_some_rows_leave_poison_in_the_others() {
        let text = "gen = 'blocks'\nscale = 0.01\nseed = 5\nrows = [2, 0]";
        let contents: Contents = toml::from_str(text).unwrap();
        let (fixture, elements) =
            (Fixture::open(crate::fixtures::suite_dir().join("op/copy.safetensors")).unwrap(), 4 * 64);
        let bytes = contents.bytes("case", &fixture, DType::Q8_0, elements, 64).unwrap();
        let row = |i: usize| &bytes[i * 68..(i + 1) * 68];
        let drawn = blocks(&mut SplitMix64(5), DType::Q8_0, 4, 0.01).unwrap();
        assert_eq!((row(2), row(0)), (&drawn[..68], &drawn[68..]));
        assert_eq!([row(1), row(3)].concat(), poison(DType::Q8_0, 136));
        let outside = Contents { rows: Some(vec![4]), ..contents };
        let error = outside.bytes("case", &fixture, DType::Q8_0, elements, 64).unwrap_err();
        assert_eq!(error, "there is no row 4");
    }
}
