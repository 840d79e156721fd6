//! `logits_to_keep`: which positions give logits.

use super::ForwardError;

/// Which positions give logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogitsToKeep {
    /// The last so many; all if 0 or more than there are.
    Last(usize),
    /// These, as indices into the positions: in any order, several times, and below zero counted from the end.
    Indices(Vec<i64>),
}

impl Default for LogitsToKeep {
    fn default() -> LogitsToKeep {
        LogitsToKeep::Last(0)
    }
}

impl LogitsToKeep {
    /// The positions, of `length`.
    ///
    /// # Errors
    /// [`ForwardError::Value`] for an index that is not among them.
    pub(super) fn positions(&self, length: usize) -> Result<Vec<usize>, ForwardError> {
        match self {
            LogitsToKeep::Last(0) => Ok((0..length).collect()),
            LogitsToKeep::Last(n) => Ok((length - (*n).min(length)..length).collect()),
            LogitsToKeep::Indices(list) => {
                let position = |(at, index): (usize, &i64)| {
                    let from_start = if *index < 0 { index.checked_add(length as i64) } else { Some(*index) };
                    let position = from_start.and_then(|i| usize::try_from(i).ok()).filter(|i| *i < length);
                    position.ok_or_else(|| ForwardError::Value {
                        tensor: "logits_to_keep",
                        index: vec![at],
                        found: index.to_string(),
                        rule: format!("be an index from -{length} to {}", length - 1),
                    })
                };
                list.iter().enumerate().map(position).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_from_the_end_and_lists_are_torch_indices() {
        let positions = |keep: LogitsToKeep| keep.positions(4);
        assert_eq!(positions(LogitsToKeep::Last(0)).unwrap(), [0, 1, 2, 3]);
        assert_eq!(positions(LogitsToKeep::Last(1)).unwrap(), [3]);
        assert_eq!(positions(LogitsToKeep::Last(9)).unwrap(), [0, 1, 2, 3]);
        assert_eq!(positions(LogitsToKeep::Indices(vec![2, -1, 0, 2, -4])).unwrap(), [2, 3, 0, 2, 0]);
        assert_eq!(positions(LogitsToKeep::Indices(vec![])).unwrap(), [0usize; 0]);
        for wrong in [4, -5, i64::MIN, i64::MAX] {
            let message = positions(LogitsToKeep::Indices(vec![0, wrong])).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`logits_to_keep`[1] is {wrong}, but it must be")), "{message}");
        }
    }
}
