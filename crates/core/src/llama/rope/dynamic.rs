//! `dynamic`: NTK-aware scaling by the length of the sequence.
//!
//! A sequence of `l > L = max_position_embeddings` tokens has the base
//! `theta (factor l / L - (factor - 1))^(D / (D - 2))`; up to `L` nothing changes. Source: emozilla 2023;
//! `_compute_dynamic_ntk_parameters` in transformers 5.8.

/// The base for a sequence of `length` tokens, `D = rotated` elements of a head being turned.
pub fn base(theta: f64, factor: f64, max_position_embeddings: usize, rotated: usize, length: usize) -> f64 {
    let (limit, width) = (max_position_embeddings as f64, rotated as f64);
    let length = length.max(max_position_embeddings) as f64;
    theta * (factor * length / limit - (factor - 1.0)).powf(width / (width - 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_grows_beyond_the_limit_only() {
        assert_eq!(base(1e4, 2.0, 16, 8, 1), 1e4);
        assert_eq!(base(1e4, 2.0, 16, 8, 16), 1e4);
        // 1e4 * (2 * 40 / 16 - 1)^(8 / 6) = 1e4 * 4^(4/3)
        assert!((base(1e4, 2.0, 16, 8, 40) - 1e4 * 6.349_604_207_872_798).abs() < 1e-8);
        assert!(base(1e4, 2.0, 16, 8, 41) > base(1e4, 2.0, 16, 8, 40));
    }
}
