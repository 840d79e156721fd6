//! One suite for every policy: examples of each rule, and random operations against a model that keeps token lists.

use std::collections::{BTreeMap, BTreeSet};

use camelid_core::Cache;
use camelid_core::cache::{CacheError, SequenceId, SlotCopy};
use proptest::prelude::*;

use super::{ContiguousCache, PagedCache};

/// A policy with its parameters. The blocks of `Paged` are fewer than all its sequences could want.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Contiguous { max_sequences: usize, context_size: usize },
    Paged { num_blocks: usize, block_size: usize, max_sequences: usize, context_size: usize },
}

/// Contexts that are, are not, and are less than a multiple of the block size; blocks of one row; ample and scarce.
const KINDS: [Kind; 7] = [
    Kind::Contiguous { max_sequences: 3, context_size: 11 },
    Kind::Contiguous { max_sequences: 1, context_size: 1 },
    Kind::Paged { num_blocks: 7, block_size: 4, max_sequences: 3, context_size: 11 },
    Kind::Paged { num_blocks: 4, block_size: 4, max_sequences: 4, context_size: 16 },
    Kind::Paged { num_blocks: 9, block_size: 1, max_sequences: 3, context_size: 6 },
    Kind::Paged { num_blocks: 3, block_size: 8, max_sequences: 3, context_size: 5 },
    Kind::Paged { num_blocks: 1, block_size: 3, max_sequences: 2, context_size: 9 },
];

impl Kind {
    fn make(self) -> Box<dyn Cache> {
        match self {
            Kind::Contiguous { max_sequences, context_size } => {
                Box::new(ContiguousCache::new(max_sequences, context_size))
            }
            Kind::Paged { num_blocks, block_size, max_sequences, context_size } => {
                Box::new(PagedCache::new(num_blocks, block_size, max_sequences, context_size))
            }
        }
    }

    fn max_sequences(self) -> usize {
        match self {
            Kind::Contiguous { max_sequences, .. } | Kind::Paged { max_sequences, .. } => max_sequences,
        }
    }

    fn context_size(self) -> usize {
        match self {
            Kind::Contiguous { context_size, .. } | Kind::Paged { context_size, .. } => context_size,
        }
    }
}

/// What is in a row that nothing was written to.
const UNWRITTEN: u64 = u64::MAX;

/// A cache with the plane it manages, and beside it the list of tokens that each sequence must have.
struct Machine {
    kind: Kind,
    cache: Box<dyn Cache>,
    plane: Vec<u64>,
    expected: BTreeMap<SequenceId, Vec<u64>>,
    next_token: u64,
    every_id: BTreeSet<SequenceId>,
}

impl Machine {
    fn new(kind: Kind) -> Machine {
        let cache = kind.make();
        let plane = vec![UNWRITTEN; cache.layout().num_slots];
        Machine { kind, cache, plane, expected: BTreeMap::new(), next_token: 0, every_id: BTreeSet::new() }
    }

    fn live(&self, n: usize) -> Option<SequenceId> {
        (!self.expected.is_empty()).then(|| *self.expected.keys().nth(n % self.expected.len()).unwrap())
    }

    fn apply(&mut self, copies: &[SlotCopy]) {
        for copy in copies {
            assert!(copy.rows > 0, "{copy:?} copies nothing");
            self.plane.copy_within(copy.from..copy.from + copy.rows, copy.to);
        }
    }

    fn added(&mut self, id: SequenceId, tokens: Vec<u64>) {
        assert!(self.every_id.insert(id), "{id:?} was handed out before");
        self.expected.insert(id, tokens);
    }

    fn create(&mut self) -> Result<SequenceId, CacheError> {
        let result = self.cache.create();
        self.check_vacancy(&result);
        if let Ok(id) = result {
            self.added(id, Vec::new());
        }
        result
    }

    fn check_vacancy<T>(&self, result: &Result<T, CacheError>) {
        let max_sequences = self.kind.max_sequences();
        let full = self.expected.len() == max_sequences;
        assert_eq!(result.as_ref().err(), full.then_some(&CacheError::TooManySequences { max_sequences }));
    }

    /// Room by counting the blocks that the block tables name.
    fn expected_room(&self, id: SequenceId) -> usize {
        let len = self.expected[&id].len();
        let by_length = self.kind.context_size() - len;
        let Kind::Paged { num_blocks, block_size, .. } = self.kind else { return by_length };
        let tables: BTreeMap<SequenceId, Vec<i32>> =
            self.expected.iter().map(|(id, tokens)| (*id, self.blocks(*id, tokens.len()))).collect();
        let used: BTreeSet<i32> = tables.values().flatten().copied().collect();
        let free = num_blocks - used.len();
        let in_last = tables[&id].len() * block_size - len;
        let shared = in_last > 0 && {
            let last = tables[&id].last().unwrap();
            tables.iter().any(|(other, blocks)| *other != id && blocks.contains(last))
        };
        let by_memory = match (shared, free) {
            (true, 0) => 0,
            (true, _) => in_last + (free - 1) * block_size,
            (false, _) => in_last + free * block_size,
        };
        by_length.min(by_memory)
    }

    fn blocks(&self, id: SequenceId, len: usize) -> Vec<i32> {
        let layout = self.cache.layout();
        let mut row = vec![-7; layout.blocks_per_sequence];
        self.cache.block_table(id, &mut row).unwrap();
        row.truncate(len.div_ceil(layout.block_size));
        row
    }

    fn append(&mut self, id: SequenceId, count: usize) {
        let (len, room) = (self.expected[&id].len(), self.cache.room(id).unwrap());
        match self.cache.append(id, count) {
            Err(error) => {
                assert!(count > room, "{count} tokens were refused where there is room for {room}");
                assert_eq!(error, CacheError::Full { len, room, wanted: count });
            }
            Ok(copies) => {
                assert!(count <= room, "{count} tokens were taken where there is room for {room}");
                self.apply(&copies);
                for index in len..len + count {
                    let slot = self.cache.slot(id, index).unwrap();
                    self.plane[slot] = self.next_token;
                    self.expected.get_mut(&id).unwrap().push(self.next_token);
                    self.next_token += 1;
                }
            }
        }
    }

    fn truncate(&mut self, id: SequenceId, len: usize) {
        let tokens = self.expected.get_mut(&id).unwrap();
        let error = (len > tokens.len()).then_some(CacheError::NotThatLong { len: tokens.len(), wanted: len });
        assert_eq!(self.cache.truncate(id, len).err(), error);
        tokens.truncate(len);
    }

    fn fork(&mut self, id: SequenceId) -> Result<SequenceId, CacheError> {
        let result = self.cache.fork(id);
        self.check_vacancy(&result);
        let (fork, copies) = result?;
        self.apply(&copies);
        self.added(fork, self.expected[&id].clone());
        Ok(fork)
    }

    fn release(&mut self, id: SequenceId) {
        self.cache.release(id).unwrap();
        self.expected.remove(&id);
    }

    fn reset(&mut self) {
        self.cache.reset();
        self.expected.clear();
    }

    /// Every sequence reads back as the model has it, through the block table as a backend would and through `slot`.
    fn check(&self) {
        let layout = self.cache.layout();
        for (id, tokens) in &self.expected {
            assert_eq!(self.cache.len(*id), Ok(tokens.len()));
            assert_eq!(self.cache.room(*id), Ok(self.expected_room(*id)), "room of {id:?}");
            let blocks = self.blocks(*id, tokens.len());
            for (i, token) in tokens.iter().enumerate() {
                let row = blocks[i / layout.block_size] as usize * layout.block_size + i % layout.block_size;
                assert_eq!(self.cache.slot(*id, i), Ok(row));
                assert_eq!(self.plane[row], *token, "token {i} of {id:?}");
            }
            let len = tokens.len();
            assert_eq!(self.cache.slot(*id, len), Err(CacheError::NotThatLong { len, wanted: len }));
        }
        for id in self.every_id.iter().filter(|id| !self.expected.contains_key(id)) {
            assert_eq!(self.cache.len(*id), Err(CacheError::UnknownSequence(*id)), "{id:?} was released");
        }
    }

    /// With nothing live, all the memory there ever was can be used again.
    fn check_nothing_leaked(mut self) {
        while let Some(id) = self.live(0) {
            self.release(id);
        }
        let mut tokens = 0;
        while let Ok(id) = self.create() {
            let room = self.cache.room(id).unwrap();
            self.append(id, room);
            tokens += room;
        }
        self.check();
        let per_sequence = self.kind.max_sequences() * self.kind.context_size();
        let in_all = match self.kind {
            Kind::Contiguous { .. } => per_sequence,
            Kind::Paged { num_blocks, block_size, max_sequences, context_size } => {
                // Sequences take whole blocks, in turn, as many as they can use.
                let (mut blocks, mut sum) = (num_blocks, 0);
                for _ in 0..max_sequences {
                    let taken = blocks.min(context_size.div_ceil(block_size));
                    sum += (taken * block_size).min(context_size);
                    blocks -= taken;
                }
                sum
            }
        };
        assert_eq!(tokens, in_all);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Create,
    Append(usize, usize),
    Truncate(usize, usize),
    Fork(usize),
    Release(usize),
    Reset,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Create),
        8 => (any::<usize>(), 0..8usize).prop_map(|(s, n)| Op::Append(s, n)),
        4 => (any::<usize>(), 0..13usize).prop_map(|(s, n)| Op::Truncate(s, n)),
        4 => any::<usize>().prop_map(Op::Fork),
        2 => any::<usize>().prop_map(Op::Release),
        1 => Just(Op::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn random_operations_agree_with_lists_of_tokens(
        kind in prop::sample::select(&KINDS[..]),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut m = Machine::new(kind);
        for op in ops {
            match op {
                Op::Create => drop(m.create()),
                Op::Reset => m.reset(),
                Op::Append(s, n) => if let Some(id) = m.live(s) { m.append(id, n) },
                Op::Truncate(s, n) => if let Some(id) = m.live(s) { m.truncate(id, n) },
                Op::Fork(s) => if let Some(id) = m.live(s) { drop(m.fork(id)) },
                Op::Release(s) => if let Some(id) = m.live(s) { m.release(id) },
            }
            m.check();
        }
        m.check_nothing_leaked();
    }
}

#[test]
fn a_forked_sequence_and_its_parent_have_their_own_futures() {
    for kind in [KINDS[0], KINDS[2], KINDS[4]] {
        let mut m = Machine::new(kind);
        let a = m.create().unwrap();
        m.append(a, 3);
        let b = m.fork(a).unwrap();
        m.append(a, 1);
        m.append(b, 2);
        m.truncate(b, 2);
        m.append(b, 1);
        m.check();
        m.release(a);
        m.check();
        m.check_nothing_leaked();
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    for kind in KINDS {
        let mut m = Machine::new(kind);
        let a = m.create().unwrap();
        let room = m.cache.room(a).unwrap();
        m.append(a, room);
        let table = m.blocks(a, room);
        for count in [1, 2, usize::MAX] {
            m.append(a, count);
        }
        m.truncate(a, room + 1);
        while m.create().is_ok() {}
        assert!(m.fork(a).is_err());
        assert_eq!(m.blocks(a, room), table);
        m.check();
        m.check_nothing_leaked();
    }
}

#[test]
fn released_and_invented_sequences_are_unknown_to_every_function() {
    for kind in KINDS {
        let mut cache = kind.make();
        let released = cache.create().unwrap();
        cache.release(released).unwrap();
        let forgotten = cache.create().unwrap();
        cache.reset();
        let live = cache.create().unwrap();
        for id in [released, forgotten, SequenceId(u64::MAX)] {
            assert_ne!(id, live);
            let mut row = vec![0; cache.layout().blocks_per_sequence];
            let unknown = CacheError::UnknownSequence(id);
            assert_eq!(cache.len(id), Err(unknown.clone()));
            assert_eq!(cache.room(id), Err(unknown.clone()));
            assert_eq!(cache.append(id, 0), Err(unknown.clone()));
            assert_eq!(cache.slot(id, 0), Err(unknown.clone()));
            assert_eq!(cache.block_table(id, &mut row), Err(unknown.clone()));
            assert_eq!(cache.truncate(id, 0), Err(unknown.clone()));
            assert_eq!(cache.fork(id), Err(unknown.clone()));
            assert_eq!(cache.release(id), Err(unknown));
        }
    }
}

#[test]
fn a_layout_holds_the_longest_sequence_in_whole_blocks() {
    for kind in KINDS {
        let layout = kind.make().layout();
        assert!(layout.max_sequence_len() >= kind.context_size());
        assert!(layout.max_sequence_len() < kind.context_size() + layout.block_size);
        assert_eq!(layout.max_sequences, kind.max_sequences());
        assert!(layout.num_slots.is_multiple_of(layout.block_size));
    }
}

#[test]
fn a_paged_fork_shares_full_blocks_and_copies_only_the_rows_it_keeps() {
    let mut cache = PagedCache::new(8, 4, 2, 16);
    let a = cache.create().unwrap();
    cache.append(a, 11).unwrap();
    assert_eq!(cache.free_blocks(), 5);
    let (b, copies) = cache.fork(a).unwrap();
    assert_eq!((copies, cache.free_blocks()), (vec![], 5));

    cache.truncate(b, 6).unwrap();
    assert_eq!(cache.free_blocks(), 5, "the third block is still the parent's");
    let shared = cache.slot(b, 4).unwrap();
    let copies = cache.append(b, 1).unwrap();
    let own = cache.slot(b, 4).unwrap();
    assert_eq!(copies, [SlotCopy { from: shared, to: own, rows: 2 }]);
    assert_eq!(cache.slot(a, 3), cache.slot(b, 3), "the full block is shared");
    assert_ne!(own, shared);
    assert_eq!(cache.append(b, 1).unwrap(), [], "its own block needs no second copy");
    assert_eq!(cache.append(a, 1).unwrap(), [], "nor does the parent's, which nobody shares any more");
}

#[test]
fn a_paged_append_needs_a_free_block_for_the_copy() {
    let mut cache = PagedCache::new(2, 4, 3, 8);
    let a = cache.create().unwrap();
    cache.append(a, 6).unwrap();
    let (b, _) = cache.fork(a).unwrap();
    assert_eq!((cache.room(a), cache.room(b)), (Ok(0), Ok(0)));
    assert_eq!(cache.append(b, 1), Err(CacheError::Full { len: 6, room: 0, wanted: 1 }));
    assert_eq!(cache.append(b, 0), Ok(vec![]));
    cache.truncate(b, 4).unwrap();
    assert_eq!((cache.room(a), cache.room(b)), (Ok(2), Ok(0)), "at the edge of a block there is nothing to copy");
}

#[test]
fn a_contiguous_fork_copies_every_row_at_once() {
    let mut cache = ContiguousCache::new(3, 8);
    let a = cache.create().unwrap();
    assert_eq!(cache.fork(a).unwrap().1, [], "nothing is in it yet");
    cache.append(a, 5).unwrap();
    let (b, copies) = cache.fork(a).unwrap();
    let (from, to) = (cache.slot(a, 0).unwrap(), cache.slot(b, 0).unwrap());
    assert_eq!(copies, [SlotCopy { from, to, rows: 5 }]);
}

#[test]
fn sizes_out_of_range_are_brought_into_it_and_cost_nothing() {
    let layout = ContiguousCache::new(0, 0).layout();
    assert_eq!((layout.num_slots, layout.block_size, layout.max_sequences), (1, 1, 1));
    let layout = PagedCache::new(0, 0, 0, 0).layout();
    assert_eq!((layout.num_slots, layout.block_size, layout.blocks_per_sequence), (1, 1, 1));

    let most = i32::MAX as usize;
    assert!(ContiguousCache::new(usize::MAX, 4096).layout().num_slots <= most);
    let mut cache = PagedCache::new(usize::MAX, 16, usize::MAX, usize::MAX);
    assert!(cache.layout().num_slots <= most);
    let id = cache.create().unwrap();
    assert_eq!(cache.append(id, most - 7).unwrap_err().to_string().split(';').count(), 2, "the remedy is told");
}
