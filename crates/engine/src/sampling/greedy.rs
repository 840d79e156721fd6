//! The first of the highest numbers, in one pass.

/// Numbers of a block: it is looked through a second time where the highest is in it.
const BLOCK: usize = 512;

/// The index of the first of the highest values; `None` if there are none, or one is no number.
pub(super) fn first_highest<T: Copy + PartialOrd>(values: &[T]) -> Option<usize> {
    let mut top = *values.first()?;
    let mut from = 0;
    for (block, begin) in values.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        let highest = highest(block)?;
        if highest > top {
            (top, from) = (highest, begin);
        }
    }
    values[from..].iter().position(|x| *x == top).map(|at| from + at)
}

/// The highest value of a block; `None` if one is no number. In lanes, so that it becomes vector code.
#[inline(always)]
fn highest<T: Copy + PartialOrd>(block: &[T]) -> Option<T> {
    let higher = |a: T, b: T| if b > a { b } else { a };
    let (chunks, rest) = block.as_chunks::<16>();
    let mut lanes = [block[0]; 16];
    let mut is_number = [true; 16];
    for chunk in chunks {
        for ((lane, is), x) in lanes.iter_mut().zip(&mut is_number).zip(chunk) {
            *lane = higher(*lane, *x);
            *is &= equals_itself(*x);
        }
    }
    let all = is_number.into_iter().chain(rest.iter().map(|x| equals_itself(*x))).all(|is| is);
    all.then(|| lanes.into_iter().chain(rest.iter().copied()).fold(block[0], higher))
}

/// False for NaN alone.
#[inline(always)]
fn equals_itself<T: Copy + PartialOrd>(x: T) -> bool {
    x.partial_cmp(&x).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_lanes_and_ends_are_all_looked_at() {
        for len in [1, 15, 16, 17, 511, 512, 513, 1600] {
            for at in [0, len / 3, len / 2, len - 1] {
                let mut values = vec![-1.0f32; len];
                values[at] = 2.0;
                assert_eq!(first_highest(&values), Some(at), "{at} of {len}");
                values[len - 1] = 2.0;
                assert_eq!(first_highest(&values), Some(at), "the first of two");
                values[at] = f32::NAN;
                assert_eq!(first_highest(&values), None, "NaN at {at} of {len}");
            }
        }
        assert_eq!(first_highest::<f32>(&[]), None);
        assert_eq!(first_highest(&[-0.0, 0.0]), Some(0));
        assert_eq!(first_highest(&[f64::NEG_INFINITY; 600]), Some(0));
        assert_eq!(first_highest(&[1.0, f64::INFINITY, f64::INFINITY]), Some(1));
    }

    proptest! {
        #[test]
        fn it_is_what_looking_at_one_after_the_other_finds(values in prop::collection::vec(-9..9i8, 1..2000)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(first_highest(&values), values.iter().position(|x| *x == highest));
        }
    }
}
