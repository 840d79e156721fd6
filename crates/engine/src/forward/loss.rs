//! Losses, computed on the host in double precision from the model's f32 logits.
//!
//! The rules are those of transformers 5.8, loss/loss_utils.py: `ForCausalLMLoss` and `ForSequenceClassificationLoss`.

use camelid_core::llama::ProblemType;

use super::{Array, ForwardError, Labels};

/// The label that counts for nothing.
const IGNORED: i64 = -100;

/// The labels that row `row` of the logits is held against: that of the next position, [`IGNORED`] for the last.
pub(super) fn shifted(labels: &Array<i64>, row: usize) -> impl Iterator<Item = Option<i64>> + '_ {
    let next = labels.row(row).iter().skip(1).copied().chain([IGNORED]);
    next.map(|label| (label != IGNORED).then_some(label))
}

/// The labels of a language model: `[B, K]` token ids below `vocab_size`, or -100.
pub(super) fn check_tokens(
    labels: &Labels,
    [batch, kept]: [usize; 2],
    vocab_size: usize,
) -> Result<&Array<i64>, ForwardError> {
    let shape = labels.shape();
    if shape != [batch, kept] {
        let rule = format!("be [{batch}, {kept}], a label for each position that gives logits");
        return Err(ForwardError::Shape { tensor: "labels", found: shape.to_vec(), rule });
    }
    let labels = integers(labels, "token ids")?;
    check_classes(labels, vocab_size, "vocab_size - 1")?;
    Ok(labels)
}

/// The mean cross entropy of each position's logits `[B, K, V]` and the next position's label; NaN if all labels are
/// ignored, as in transformers.
pub(super) fn of_tokens(logits: &Array<f32>, labels: &Array<i64>) -> f64 {
    let (batch, width) = (logits.shape()[0], logits.shape()[2]);
    let pairs = (0..batch).flat_map(|b| logits.row(b).chunks_exact(width).zip(shifted(labels, b)));
    mean(pairs.filter_map(|(row, label)| Some(cross_entropy(row, usize::try_from(label?).ok()?))))
}

/// The loss of pooled logits `[B, num_labels]`. The kind of problem, where the configuration does not say it, follows
/// from the labels: one number is a regression, integers are classes, other numbers are labels that each may hold.
pub(super) fn of_classes(
    logits: &Array<f32>,
    labels: &Labels,
    problem: Option<ProblemType>,
) -> Result<f64, ForwardError> {
    let (batch, width) = (logits.shape()[0], logits.shape()[1]);
    let problem = problem.unwrap_or(match labels {
        _ if width == 1 => ProblemType::Regression,
        Labels::Ints(_) => ProblemType::SingleLabel,
        Labels::Floats(_) => ProblemType::MultiLabel,
    });
    match problem {
        ProblemType::SingleLabel => {
            check_size(labels, batch, format!("be [{batch}], a class for each row"))?;
            let labels = integers(labels, "classes")?;
            check_classes(labels, width, "num_labels - 1")?;
            let rows = logits.data().chunks_exact(width).zip(labels.data());
            Ok(mean(rows.filter_map(|(row, label)| Some(cross_entropy(row, usize::try_from(*label).ok()?)))))
        }
        ProblemType::Regression | ProblemType::MultiLabel => {
            let alone = width == 1 && problem == ProblemType::Regression;
            if alone {
                check_size(labels, batch, format!("be [{batch}], a number for each row"))?;
            } else if labels.shape() != [batch, width] {
                let rule = format!("be [{batch}, {width}], a number for each label (num_labels) of each row");
                return Err(ForwardError::Shape { tensor: "labels", found: labels.shape().to_vec(), rule });
            }
            let labels: Vec<f64> = match labels {
                Labels::Ints(a) => a.data().iter().map(|y| *y as f64).collect(),
                Labels::Floats(a) => a.data().to_vec(),
            };
            let one = if problem == ProblemType::Regression { squared_error } else { binary_cross_entropy };
            Ok(mean(logits.data().iter().zip(labels).map(|(x, y)| one(f64::from(*x), y))))
        }
    }
}

fn check_size(labels: &Labels, size: usize, rule: String) -> Result<(), ForwardError> {
    let found = labels.shape().to_vec();
    if found.iter().product::<usize>() == size {
        Ok(())
    } else {
        Err(ForwardError::Shape { tensor: "labels", found, rule })
    }
}

fn integers<'a>(labels: &'a Labels, what: &str) -> Result<&'a Array<i64>, ForwardError> {
    match labels {
        Labels::Ints(a) => Ok(a),
        Labels::Floats(_) => {
            let why = format!("the model takes {what}, which are integers, and these are not; give I64 or I32");
            Err(ForwardError::NotForThisModel { what: "labels", why })
        }
    }
}

fn check_classes(labels: &Array<i64>, count: usize, last: &str) -> Result<(), ForwardError> {
    let wrong = |l: &i64| *l != IGNORED && !usize::try_from(*l).is_ok_and(|l| l < count);
    match labels.data().iter().position(wrong) {
        None => Ok(()),
        Some(at) => Err(ForwardError::Value {
            tensor: "labels",
            index: labels.index_of(at),
            found: labels.data()[at].to_string(),
            rule: format!("be from 0 to {} ({last}), or -100 to be ignored", count - 1),
        }),
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), x| (sum + x, count + 1));
    sum / count as f64
}

/// `ln sum exp x - x[class]`
fn cross_entropy(row: &[f32], class: usize) -> f64 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|x| libm::exp(f64::from(*x) - f64::from(largest))).sum();
    libm::log(sum) + f64::from(largest) - f64::from(row[class])
}

fn squared_error(x: f64, y: f64) -> f64 {
    (x - y) * (x - y)
}

/// `-(y ln s(x) + (1 - y) ln (1 - s(x)))` with the logistic function `s`, in a form that never overflows.
fn binary_cross_entropy(x: f64, y: f64) -> f64 {
    x.max(0.0) - x * y + libm::log1p(libm::exp(-x.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(shape: &[usize], data: &[i64]) -> Labels {
        Labels::Ints(Array::new("labels", shape.to_vec(), data.to_vec()).unwrap())
    }

    fn floats(shape: &[usize], data: &[f64]) -> Labels {
        Labels::Floats(Array::new("labels", shape.to_vec(), data.to_vec()).unwrap())
    }

    fn logits(shape: &[usize], data: &[f32]) -> Array<f32> {
        Array::new("logits", shape.to_vec(), data.to_vec()).unwrap()
    }

    #[test]
    fn a_position_answers_for_the_next_label() {
        // Row by row: ln(1 + e) - 1 for the right one of [1, 0], ln(1 + e) for the wrong one.
        let x = logits(&[1, 3, 2], &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        let loss = |labels: [i64; 3]| {
            let labels = ints(&[1, 3], &labels);
            of_tokens(&x, check_tokens(&labels, [1, 3], 2).unwrap())
        };
        let wrong = (1.0f64 + 1.0f64.exp()).ln();
        assert!((loss([1, 0, 1]) - (2.0 * wrong - 1.0) / 2.0).abs() < 1e-12);
        assert!((loss([1, -100, 1]) - wrong).abs() < 1e-12, "-100 is neither counted nor summed");
        assert!(loss([1, -100, -100]).is_nan(), "the first label belongs to no position");
    }

    #[test]
    fn the_kind_of_problem_follows_from_the_labels() {
        let x = logits(&[2, 2], &[1.0, 0.0, 0.0, 2.0]);
        let classes = of_classes(&x, &ints(&[2], &[0, 1]), None).unwrap();
        let expected = ((1.0 + (-1.0f64).exp()).ln() + (1.0 + (-2.0f64).exp()).ln()) / 2.0;
        assert!((classes - expected).abs() < 1e-12);
        assert!(
            (of_classes(&x, &ints(&[2, 1], &[0, -100]), None).unwrap() - (1.0 + (-1.0f64).exp()).ln()).abs() < 1e-12
        );
        let labels = floats(&[2, 2], &[1.0, 0.0, 0.0, 1.0]);
        let each = of_classes(&x, &labels, None).unwrap();
        let softplus = |x: f64| (1.0 + x.exp()).ln();
        assert!((each - (softplus(-1.0) + 2.0 * softplus(0.0) + softplus(-2.0)) / 4.0).abs() < 1e-12);
        let squares = of_classes(&x, &labels, Some(ProblemType::Regression)).unwrap();
        assert!((squares - 1.0 / 4.0).abs() < 1e-12);
        let one = logits(&[2, 1], &[1.0, 3.0]);
        assert!((of_classes(&one, &floats(&[2], &[0.0, 1.0]), None).unwrap() - 2.5).abs() < 1e-12);
        assert!((of_classes(&one, &ints(&[2, 1], &[0, 1]), None).unwrap() - 2.5).abs() < 1e-12);
    }

    #[test]
    fn labels_that_do_not_fit_are_named() {
        let x = logits(&[2, 3], &[0.0; 6]);
        let message = |labels: Labels, problem| of_classes(&x, &labels, problem).unwrap_err().to_string();
        assert!(message(ints(&[2], &[0, 3]), None).contains("`labels`[1] is 3, but it must be from 0 to 2"));
        assert!(message(ints(&[3], &[0; 3]), None).contains("be [2], a class for each row"));
        assert!(message(floats(&[2], &[0.0; 2]), None).contains("be [2, 3]"));
        let single = Some(ProblemType::SingleLabel);
        assert!(message(floats(&[2], &[0.0; 2]), single).contains("give I64 or I32"));
        let e = check_tokens(&ints(&[1, 2], &[5, -1]), [1, 2], 9).unwrap_err().to_string();
        assert!(e.contains("`labels`[0, 1] is -1"), "{e}");
        assert!(check_tokens(&ints(&[1, 2], &[5, 1]), [1, 3], 9).is_err());
    }
}
