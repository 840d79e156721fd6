//! The memory between two operations: a few slots that values use one after the other.

/// Slots under assignment: sizes grow to what their largest value needs.
#[derive(Debug, Default)]
pub struct Slots {
    sizes: Vec<usize>,
    free: Vec<usize>,
}

impl Slots {
    /// A slot of `size` bytes for a value that begins to live: of the free ones the smallest that is large enough,
    /// else the largest, which grows, else a new one.
    pub fn take(&mut self, size: usize) -> usize {
        let fits = |slot: &&usize| self.sizes[**slot] >= size;
        let smallest = self.free.iter().filter(fits).min_by_key(|slot| self.sizes[**slot]);
        let best = smallest.or_else(|| self.free.iter().max_by_key(|slot| self.sizes[**slot])).copied();
        let Some(slot) = best else {
            self.sizes.push(size);
            return self.sizes.len() - 1;
        };
        self.free.retain(|free| *free != slot);
        self.sizes[slot] = self.sizes[slot].max(size);
        slot
    }

    /// Gives a slot back, whose value nobody needs any more.
    pub fn release(&mut self, slot: usize) {
        debug_assert!(!self.free.contains(&slot), "slot {slot} is given back twice");
        self.free.push(slot);
    }

    /// The slots' sizes in bytes.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn a_chain_of_values_takes_two_slots_and_the_best_one_is_used_again() {
        let mut slots = Slots::default();
        let mut last = slots.take(100);
        for _ in 0..10 {
            let next = slots.take(100);
            slots.release(last);
            last = next;
        }
        assert_eq!(slots.sizes(), [100, 100]);
        let large = slots.take(70);
        assert_eq!(slots.take(5000), 2);
        slots.release(large);
        slots.release(2);
        assert_eq!(slots.take(80), large, "5000 would do too, but is too good");
        assert_eq!(slots.take(6000), 2, "the largest grows");
        assert_eq!(slots.sizes(), [100, 100, 6000]);
    }
}
