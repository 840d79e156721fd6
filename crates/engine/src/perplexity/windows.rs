//! Which tokens a window holds and which of them it predicts.

use std::ops::Range;

use super::PerplexityError;

/// How a text is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of a window: `max_length` of Hugging Face's page.
    pub context: usize,
    /// Tokens from the beginning of one window to that of the next, at most `context`.
    pub stride: usize,
}

/// One window, in indices of the text's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first token.
    pub begin: usize,
    /// The first token that no earlier window held.
    pub new: usize,
    /// Behind its last token.
    pub end: usize,
}

/// A part of a window that is computed in one step.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its tokens, in the text.
    pub tokens: Range<usize>,
    /// Those of its tokens whose logits are wanted, counted from its first.
    pub rows: Vec<usize>,
    /// What these rows predict, in the text.
    pub targets: Range<usize>,
}

impl Windows {
    /// The windows over a text of `tokens` tokens: the last is the first that reaches its end.
    pub fn over(&self, tokens: usize) -> Result<Vec<Window>, PerplexityError> {
        let Windows { context, stride } = *self;
        if context < 2 {
            return Err(PerplexityError::Context {
                context,
                rule: "be at least 2: a token is predicted from those before it in its window".into(),
            });
        }
        if stride == 0 || stride > context {
            return Err(PerplexityError::Stride { stride, context });
        }
        if tokens < 2 {
            return Err(PerplexityError::TooShort { tokens });
        }
        let mut windows: Vec<Window> = Vec::new();
        for begin in (0..tokens).step_by(stride) {
            let end = begin.saturating_add(context).min(tokens);
            windows.push(Window { begin, new: windows.last().map_or(0, |w| w.end), end });
            if end == tokens {
                break;
            }
        }
        Ok(windows)
    }

    /// Whether a session that holds `room` tokens has room for the longest window.
    pub(super) fn check_room(&self, tokens: usize, room: usize) -> Result<(), PerplexityError> {
        if self.context.min(tokens) > room {
            let rule = format!("be at most the session's, which is {room} tokens");
            return Err(PerplexityError::Context { context: self.context, rule });
        }
        Ok(())
    }
}

impl Window {
    /// The window in steps of at most `rows` rows of logits. The first token of a window is predicted by nothing, and the
    /// last predicts nothing in it.
    pub(super) fn chunks(&self, rows: usize) -> Vec<Chunk> {
        let first_target = self.new.max(self.begin + 1);
        let mut chunks = Vec::new();
        let (mut begin, mut target) = (self.begin, first_target);
        while target < self.end {
            let targets = target..(target + rows).min(self.end);
            // Up to the token before the last target; the very last token too, as in a forward pass of the window.
            let end = if targets.end == self.end { self.end } else { targets.end - 1 };
            let wanted = targets.clone().map(|t| t - 1 - begin).collect();
            chunks.push(Chunk { tokens: begin..end, rows: wanted, targets: targets.clone() });
            (begin, target) = (end, targets.end);
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn over(tokens: usize, context: usize, stride: usize) -> Vec<(usize, usize, usize)> {
        let windows = Windows { context, stride }.over(tokens).unwrap();
        windows.iter().map(|w| (w.begin, w.new, w.end)).collect()
    }

    #[test]
    fn windows_are_those_of_the_page() {
        assert_eq!(over(10, 4, 4), [(0, 0, 4), (4, 4, 8), (8, 8, 10)]);
        assert_eq!(over(10, 4, 3), [(0, 0, 4), (3, 4, 7), (6, 7, 10)]);
        assert_eq!(over(9, 4, 4), [(0, 0, 4), (4, 4, 8), (8, 8, 9)]);
        assert_eq!(over(3, 4, 2), [(0, 0, 3)]);
        assert_eq!(over(4, usize::MAX, usize::MAX), [(0, 0, 4)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let error = |tokens, context, stride| Windows { context, stride }.over(tokens).unwrap_err().to_string();
        assert!(error(9, 4, 5).contains("from 1 to the context, 4"));
        assert!(error(9, 4, 0).contains("stride is 0"));
        assert!(error(9, 1, 1).contains("at least 2"));
        assert!(error(1, 4, 2).contains("has 1 tokens"));
        assert!(error(0, 4, 2).contains("has 0 tokens"));
    }

    proptest! {
        /// Every token but the unpredictable ones is predicted once, from the right row, whatever the chunks.
        #[test]
        fn every_token_is_predicted_once(tokens in 2usize..60, context in 2usize..20, stride in 1usize..20, rows in 1usize..9) {
            prop_assume!(stride <= context);
            let windows = Windows { context, stride }.over(tokens).unwrap();
            let mut predicted = Vec::new();
            for window in &windows {
                let mut next = window.begin;
                for chunk in window.chunks(rows) {
                    prop_assert_eq!(chunk.tokens.start, next);
                    prop_assert!(chunk.rows.len() <= rows && !chunk.tokens.is_empty());
                    next = chunk.tokens.end;
                    for (row, target) in chunk.rows.iter().zip(chunk.targets.clone()) {
                        prop_assert_eq!(chunk.tokens.start + row + 1, target);
                        prop_assert!(chunk.tokens.contains(&(target - 1)));
                        predicted.push(target);
                    }
                    prop_assert_eq!(chunk.rows.len(), chunk.targets.len());
                }
                prop_assert!(next == window.end || window.end - window.begin == 1);
            }
            let unpredictable = |t: &usize| windows.iter().any(|w| w.begin == *t && w.new == *t);
            let expected: Vec<usize> = (0..tokens).filter(|t| !unpredictable(t)).collect();
            prop_assert_eq!(predicted, expected);
        }
    }
}
