//! What can be wrong with the inputs of a forward pass.

use thiserror::Error;

/// Inputs that do not go together or cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ForwardError {
    /// Both of the inputs or neither.
    #[error("exactly one of `input_ids` and `inputs_embeds` must be given, but there {found}; {remedy}")]
    Inputs {
        /// How many there are, in words.
        found: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A tensor of the wrong shape.
    #[error("`{tensor}` has shape {found:?}, but it must {rule}")]
    Shape {
        /// Its name.
        tensor: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The rule.
        rule: String,
    },
    /// A value that is not allowed.
    #[error("`{tensor}`{index:?} is {found}, but it must {rule}")]
    Value {
        /// The tensor.
        tensor: &'static str,
        /// The index of the element.
        index: Vec<usize>,
        /// The value.
        found: String,
        /// The rule.
        rule: String,
    },
    /// A mask that calls for tokens that were masked when they were computed.
    #[error(
        "`attention_mask` lets row {row} look at column {column}, which was masked in an earlier call and is not in the \
         past; mask it, or compute the past anew"
    )]
    NotInPast {
        /// Row of the batch.
        row: usize,
        /// Column, counted from the beginning of the past.
        column: usize,
    },
    /// A past of another batch.
    #[error("the past has {past} rows and the inputs have {inputs}; reorder the past, or give as many rows")]
    PastRows {
        /// Rows of the past.
        past: usize,
        /// Rows of the inputs.
        inputs: usize,
    },
    /// Several rows and no padding token.
    #[error(
        "{rows} rows cannot be classified together: config.json has no pad_token_id, so the last token of a row cannot be \
         told from padding; set pad_token_id, or give one row at a time"
    )]
    NoPadToken {
        /// Rows of the inputs.
        rows: usize,
    },
    /// A masked token whose logits are needed while there is a past.
    #[error(
        "row {row} needs the logits of its masked token {column} ({why}), which cannot be had together with a past; {remedy}"
    )]
    MaskedTokenNeeded {
        /// Row of the batch.
        row: usize,
        /// Index of the token in the inputs.
        column: usize,
        /// What needs them.
        why: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Something the model does not do.
    #[error("`{what}` cannot be used here: {why}")]
    NotForThisModel {
        /// The input or option.
        what: &'static str,
        /// Why, and what to do.
        why: String,
    },
}
