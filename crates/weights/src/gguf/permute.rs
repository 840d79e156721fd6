//! The order of the rows of the q and k projections.
//!
//! A rotary embedding turns pairs of a head's elements. Hugging Face pairs element `i` with element `i + head_dim / 2`
//! ("rotate half"); Meta's original code and GGUF pair neighbours, `2i` with `2i + 1`. The converter that writes a GGUF
//! file (llama.cpp, `LlamaModel.permute`) therefore reorders the rows of `q_proj` and `k_proj`, weights and biases,
//! inside each head:
//! ```text
//! stored row  2 i + j  of a head  =  Hugging Face's row  j * head_dim / 2 + i     i < head_dim / 2, j < 2
//! ```
//! [`HeadPermutation`] undoes that, with the number of key-value heads for `k_proj`. A row is a whole number of blocks
//! in every type, so rows are copied as they are and nothing is decoded.

/// How the rows of a projection lie in a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadPermutation {
    heads: usize,
    /// Rows of one head; even.
    head_rows: usize,
    /// Bytes of one row.
    row_bytes: usize,
}

impl HeadPermutation {
    /// For a tensor of `rows` rows and `byte_len` bytes that `heads` heads share evenly, each with an even number of
    /// rows; `None` if they cannot.
    pub fn new(rows: usize, heads: usize, byte_len: usize) -> Option<HeadPermutation> {
        let fits = heads > 0
            && rows > 0
            && rows.is_multiple_of(heads)
            && (rows / heads).is_multiple_of(2)
            && byte_len.is_multiple_of(rows);
        fits.then(|| HeadPermutation { heads, head_rows: rows / heads, row_bytes: byte_len / rows })
    }

    /// Rows of one head.
    pub fn head_rows(&self) -> usize {
        self.head_rows
    }

    /// A copy of `ordered`, whose rows are in Hugging Face's order, with its rows as a GGUF file has them: undoes
    /// [`restore`](Self::restore).
    pub fn apply(&self, ordered: &[u8]) -> Vec<u8> {
        let half = self.head_rows / 2;
        let mut stored = Vec::with_capacity(ordered.len());
        for head in 0..self.heads {
            for i in 0..half {
                for j in 0..2 {
                    let row = head * self.head_rows + j * half + i;
                    stored.extend_from_slice(&ordered[row * self.row_bytes..][..self.row_bytes]);
                }
            }
        }
        stored
    }

    /// A copy of `stored` with its rows in Hugging Face's order.
    pub fn restore(&self, stored: &[u8]) -> Vec<u8> {
        let half = self.head_rows / 2;
        let mut ordered = Vec::with_capacity(stored.len());
        for head in 0..self.heads {
            for j in 0..2 {
                for i in 0..half {
                    let row = head * self.head_rows + 2 * i + j;
                    ordered.extend_from_slice(&stored[row * self.row_bytes..][..self.row_bytes]);
                }
            }
        }
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_halves() {
        // Two heads of four rows of one byte; row r of Hugging Face's order is named r.
        let order = HeadPermutation::new(8, 2, 8).unwrap();
        assert_eq!(order.restore(&[0, 2, 1, 3, 4, 6, 5, 7]), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn restoring_undoes_the_converters_reshape() {
        // reshape(heads, 2, head_rows / 2).swapaxes(1, 2), as the converter has it.
        let (heads, head_rows, row_bytes) = (3, 10, 2);
        let original: Vec<u8> = (0..heads * head_rows * row_bytes).map(|b| b as u8).collect();
        let mut stored = Vec::new();
        for head in 0..heads {
            for i in 0..head_rows / 2 {
                for j in 0..2 {
                    let row = head * head_rows + j * head_rows / 2 + i;
                    stored.extend_from_slice(&original[row * row_bytes..][..row_bytes]);
                }
            }
        }
        assert_ne!(stored, original);
        let order = HeadPermutation::new(heads * head_rows, heads, stored.len()).unwrap();
        assert_eq!(order.restore(&stored), original);
        assert_eq!(order.apply(&original), stored);
    }

    #[test]
    fn uneven_heads_are_refused() {
        for (rows, heads, bytes) in [(8, 3, 8), (9, 3, 9), (8, 0, 8), (0, 1, 0), (8, 2, 9)] {
            assert_eq!(HeadPermutation::new(rows, heads, bytes), None);
        }
    }
}
