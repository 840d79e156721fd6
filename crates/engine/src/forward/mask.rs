//! From attention masks to what each row of the batch computes.

use camelid_core::ops::softmax::MASKED;

use super::inputs::{AttentionMask, Dims};
use super::{Array, ForwardError, ForwardInputs};

/// Added to every score of a row, it leaves nothing of them, so that all that have it weigh the same; yet it hides none.
const FLAT: f32 = MASKED / 2.0;

/// A mask whose largest number is below this leaves nothing of a score in double precision either.
const ABSORBS: f64 = -1e25;

/// What a row of the batch computes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RowPlan {
    /// The new tokens that are computed, as indices into the inputs.
    pub kept: Vec<usize>,
    /// For each new token, whether it is masked: its results are zeros.
    pub masked: Vec<bool>,
    /// `[kept, cached + kept]`, what is added to the scores, if it is not plain causality.
    pub scores: Option<Vec<f32>>,
}

/// Whether each new token of row `row` is masked by a padding mask.
pub(super) fn masked(inputs: &ForwardInputs, dims: Dims, row: usize) -> Vec<bool> {
    match &inputs.attention_mask {
        Some(AttentionMask::Padding(mask)) => {
            let columns = mask.row(row);
            columns[columns.len() - dims.length..].iter().map(|there| !there).collect()
        }
        _ => vec![false; dims.length],
    }
}

/// The plan of row `row`. `cached` are the columns of the past that its sequence holds. With `exact` the masked tokens
/// are computed too, as transformers' eager attention computes them; there must be no past then.
pub(super) fn plan(
    inputs: &ForwardInputs,
    dims: Dims,
    row: usize,
    cached: &[usize],
    exact: bool,
    packed: bool,
) -> Result<RowPlan, ForwardError> {
    let masked = masked(inputs, dims, row);
    let everything = || (0..dims.length).collect::<Vec<_>>();
    let columns =
        |kept: &[usize]| -> Vec<usize> { cached.iter().copied().chain(kept.iter().map(|t| dims.past + t)).collect() };
    match &inputs.attention_mask {
        None if packed => {
            let kept = everything();
            let scores = packed_scores(&inputs.positions(row, dims));
            Ok(RowPlan { kept, masked, scores })
        }
        None => Ok(RowPlan { kept: everything(), masked, scores: None }),
        Some(AttentionMask::Padding(_)) if exact => {
            let kept = everything();
            let scores = Some(eager_scores(&masked));
            Ok(RowPlan { kept, masked, scores })
        }
        Some(AttentionMask::Padding(mask)) => {
            let kept: Vec<usize> = (0..dims.length).filter(|t| !masked[*t]).collect();
            let of_past = &mask.row(row)[..mask.shape()[1] - dims.length];
            if let Some(column) = (0..of_past.len()).find(|c| of_past[*c] && cached.binary_search(c).is_err()) {
                return Err(ForwardError::NotInPast { row, column });
            }
            let hidden = |c: &usize| of_past.get(*c).is_some_and(|there| !there);
            let scores = cached.iter().any(hidden).then(|| {
                let causal = |t: usize| {
                    let sees = move |c: &usize| !hidden(c) && *c <= dims.past + t;
                    columns(&kept).into_iter().map(move |c| if sees(&c) { 0.0 } else { MASKED }).collect::<Vec<_>>()
                };
                kept.iter().flat_map(|t| causal(*t)).collect()
            });
            Ok(RowPlan { kept, masked, scores })
        }
        Some(AttentionMask::Visible(mask)) => {
            let shown = |b: &bool| if *b { 0.0 } else { f64::NEG_INFINITY };
            let kept = everything();
            let scores = custom_scores(mask, shown, dims, row, &columns(&kept))?;
            Ok(RowPlan { kept, masked, scores: Some(scores) })
        }
        Some(AttentionMask::Additive(mask)) => {
            let kept = everything();
            let scores = custom_scores(mask, |x| *x, dims, row, &columns(&kept))?;
            Ok(RowPlan { kept, masked, scores: Some(scores) })
        }
    }
}

/// `[T, T]`: each token looks at its own packed sequence. A new one begins wherever a position is not one more than the
/// position before; `None` if none does (transformers 5.8, masking_utils.find_packed_sequence_indices).
fn packed_scores(positions: &[u32]) -> Option<Vec<f32>> {
    let mut sequence = vec![0usize; positions.len()];
    for i in 1..positions.len() {
        let goes_on = positions[i - 1].checked_add(1) == Some(positions[i]);
        sequence[i] = sequence[i - 1] + usize::from(!goes_on);
    }
    sequence.last().is_some_and(|last| *last > 0).then(|| {
        let sees = |i: usize, j: usize| j <= i && sequence[i] == sequence[j];
        let row = |i: usize| (0..positions.len()).map(move |j| if sees(i, j) { 0.0 } else { MASKED });
        (0..positions.len()).flat_map(row).collect()
    })
}

/// `[T, T]`: a padding mask as the eager attention of transformers computes with it. A token looks at those before it
/// and itself that are not masked; one that would look at none looks at all alike, the later ones too, because the least
/// number of the dtype is added to every score.
fn eager_scores(masked: &[bool]) -> Vec<f32> {
    let length = masked.len();
    let mut scores = vec![MASKED; length * length];
    for (i, row) in scores.chunks_exact_mut(length).enumerate() {
        let seen: Vec<usize> = (0..=i).filter(|j| !masked[*j]).collect();
        if seen.is_empty() {
            row.fill(FLAT);
        }
        seen.into_iter().for_each(|j| row[j] = 0.0);
    }
    scores
}

/// `[T, columns]` of a mask `[.., 1, T, K]`, of whose `K` columns the sequence holds `columns`.
fn custom_scores<T>(
    mask: &Array<T>,
    added: impl Fn(&T) -> f64,
    dims: Dims,
    row: usize,
    columns: &[usize],
) -> Result<Vec<f32>, ForwardError> {
    let of = if mask.shape()[0] == 1 { 0 } else { row };
    let width = dims.past + dims.length;
    let mut scores = Vec::with_capacity(dims.length * columns.len());
    for (t, values) in mask.row(of).chunks_exact(width).enumerate() {
        let values: Vec<f64> = values.iter().map(&added).collect();
        if let Some(column) = values.iter().position(|x| x.is_nan() || *x == f64::INFINITY) {
            let found = values[column].to_string();
            let rule = "be a number below infinity: 0 to look, -inf not to".into();
            return Err(ForwardError::Value { tensor: "attention_mask", index: vec![of, 0, t, column], found, rule });
        }
        let values = added_to_scores(&values);
        if let Some(column) = (0..width).find(|c| values[*c] > MASKED && columns.binary_search(c).is_err()) {
            return Err(ForwardError::NotInPast { row, column });
        }
        scores.extend(columns.iter().map(|c| values[*c]));
    }
    Ok(scores)
}

/// What the backend adds for a row of an additive mask. Softmax does not see what is added to a whole row, so the
/// largest becomes 0, which keeps single precision exact. A row that hides everything by the least number of a dtype
/// looks at all its largest alike, as it does in transformers; a row of minus infinities at nothing.
fn added_to_scores(values: &[f64]) -> Vec<f32> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let absorbed = largest <= ABSORBS;
    let one = |x: &f64| match () {
        () if *x == f64::NEG_INFINITY => MASKED,
        () if absorbed => [MASKED, FLAT][usize::from(*x == largest)],
        () => ((x - largest) as f32).max(MASKED),
    };
    values.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: f32 = MASKED;

    fn inputs(length: usize, mask: AttentionMask) -> ForwardInputs {
        let input_ids = Some(Array::new("input_ids", vec![1, length], vec![0; length]).unwrap());
        ForwardInputs { input_ids, attention_mask: Some(mask), ..ForwardInputs::default() }
    }

    fn padding(columns: &[u8]) -> AttentionMask {
        let there = columns.iter().map(|c| *c == 1).collect();
        AttentionMask::Padding(Array::new("attention_mask", vec![1, columns.len()], there).unwrap())
    }

    #[test]
    fn padding_is_left_out_of_the_batch() {
        let dims = Dims { batch: 1, length: 4, past: 0 };
        let plan = plan(&inputs(4, padding(&[0, 1, 1, 0])), dims, 0, &[], false, false).unwrap();
        assert_eq!((plan.kept, plan.scores), (vec![1, 2], None));
        assert_eq!(plan.masked, [true, false, false, true]);
    }

    #[test]
    fn a_mask_over_the_past_hides_what_is_there_and_cannot_bring_back_what_is_not() {
        let dims = Dims { batch: 1, length: 2, past: 3 };
        let run = |mask: &[u8]| plan(&inputs(2, padding(mask)), dims, 0, &[1, 2], false, false);
        assert_eq!(run(&[0, 1, 1, 1, 1]).unwrap().scores, None);
        assert_eq!(run(&[1, 1]).unwrap().scores, None, "a mask of the new tokens alone");
        let hides = run(&[0, 0, 1, 1, 1]).unwrap().scores.unwrap();
        assert_eq!(hides, [M, 0.0, 0.0, M, M, 0.0, 0.0, 0.0]);
        assert_eq!(run(&[1, 1, 1, 1, 1]), Err(ForwardError::NotInPast { row: 0, column: 0 }));
    }

    #[test]
    fn masked_tokens_look_as_eager_attention_lets_them() {
        assert_eq!(eager_scores(&[true, false, true]), [FLAT, FLAT, FLAT, M, 0.0, M, M, 0.0, M]);
        const { assert!(FLAT > MASKED) };
        assert_eq!(FLAT + 1e6, FLAT, "no score is left of it");
    }

    #[test]
    fn rows_of_additive_masks_keep_their_softmax() {
        let least = [f64::from(f32::MIN), f64::MIN, -65504.0];
        assert_eq!(added_to_scores(&[0.0, least[0], least[1], f64::NEG_INFINITY]), [0.0, M, M, M]);
        assert_eq!(added_to_scores(&[0.0, -65504.0]), [0.0, -65504.0]);
        assert_eq!(added_to_scores(&[3.0, 1.0]), [0.0, -2.0]);
        assert_eq!(added_to_scores(&[least[0], least[0], f64::NEG_INFINITY]), [FLAT, FLAT, M]);
        assert_eq!(added_to_scores(&[least[0], least[1]]), [FLAT, M]);
        assert_eq!(added_to_scores(&[f64::NEG_INFINITY; 2]), [M, M]);
    }

    #[test]
    fn positions_that_start_again_part_packed_sequences() {
        assert_eq!(packed_scores(&[4, 5, 6]), None);
        assert_eq!(packed_scores(&[0, 1, 0]).unwrap(), [0.0, M, M, 0.0, 0.0, M, M, M, 0.0]);
        assert_eq!(packed_scores(&[u32::MAX, 0]).unwrap(), [0.0, M, M, 0.0]);
    }
}
