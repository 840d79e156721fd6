//! [`Array`]: numbers with a shape, row-major.

use super::ForwardError;

/// Numbers with a shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    shape: Vec<usize>,
    data: Vec<T>,
}

impl<T> Array<T> {
    /// `data` under `shape`; `name` is for the message.
    ///
    /// # Errors
    /// [`ForwardError::Shape`] if the shape calls for another number of elements.
    pub fn new(name: &'static str, shape: Vec<usize>, data: Vec<T>) -> Result<Array<T>, ForwardError> {
        let size = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if size != Some(data.len()) {
            let rule = format!("have as many elements as there are: {}", data.len());
            return Err(ForwardError::Shape { tensor: name, found: shape, rule });
        }
        Ok(Array { shape, data })
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The numbers.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// The numbers, to change.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The elements that index `i` of the first dimension holds.
    ///
    /// # Panics
    /// If there is no such index.
    pub fn row(&self, i: usize) -> &[T] {
        let width: usize = self.shape[1..].iter().product();
        &self.data[i * width..(i + 1) * width]
    }

    /// The index of element `at`, one number a dimension.
    pub fn index_of(&self, mut at: usize) -> Vec<usize> {
        let mut index = vec![0; self.shape.len()];
        for (i, size) in index.iter_mut().zip(&self.shape).rev() {
            (*i, at) = (at % size, at / size);
        }
        index
    }
}

impl Array<f32> {
    /// All zeros.
    pub(super) fn zeros(shape: Vec<usize>) -> Array<f32> {
        let size = shape.iter().product();
        Array { shape, data: vec![0.0; size] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_must_hold_the_data_and_names_every_element() {
        let array = Array::new("x", vec![2, 1, 3], (0..6).collect()).unwrap();
        assert_eq!(array.row(1), [3, 4, 5]);
        assert_eq!(array.index_of(5), [1, 0, 2]);
        assert_eq!(array.index_of(1), [0, 0, 1]);
        assert!(Array::new("x", vec![2, 2], vec![0; 3]).unwrap_err().to_string().contains("`x` has shape [2, 2]"));
        assert!(Array::new("x", vec![usize::MAX, 2], vec![0; 3]).is_err());
    }
}
