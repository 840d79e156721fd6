//! The books of a cache against a plain list of tokens, over memory that the case keeps itself.

use std::collections::BTreeMap;

use camelid_core::Cache;
use camelid_core::cache::{CacheError, SequenceId, SlotCopy};
use camelid_engine::cache::{ContiguousCache, PagedCache};

use crate::case::{Case, Context, Evidence, Problem, Profile};
use crate::check;
use crate::graph_case::contents::SplitMix64;

const SEEDS: u64 = 5;
const REQUESTS: usize = 400;

/// A division of the memory: its name, and the cache.
type Division = (&'static str, fn() -> Box<dyn Cache>);

const DIVISIONS: &[Division] = &[
    ("contiguous", || Box::new(ContiguousCache::new(5, 29))),
    ("blocks_of_1", || Box::new(PagedCache::new(60, 1, 6, 29))),
    ("blocks_of_3", || Box::new(PagedCache::new(24, 3, 6, 29))),
    ("blocks_of_4", || Box::new(PagedCache::new(17, 4, 6, 29))),
    ("blocks_of_7", || Box::new(PagedCache::new(9, 7, 5, 29))),
    ("blocks_of_16", || Box::new(PagedCache::new(7, 16, 5, 29))),
    ("one_block_a_sequence", || Box::new(PagedCache::new(4, 64, 4, 64))),
];

/// Its cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, make) in DIVISIONS {
        for seed in 0..SEEDS {
            let id = format!("cache/books/{name}/{seed}");
            let about = "random requests: every row holds its token, whatever was forked, cut or given back";
            cases.push(Case::new(id, Profile::Core, about, move |cx: &Context<'_>| {
                Simulation::new(cx.subject.cache(make()), seed).run()
            }));
        }
        let id = format!("cache/books/{name}/refusals");
        let about = "what does not fit or does not exist is refused, and nothing changes";
        cases.push(Case::new(id, Profile::Core, about, move |cx: &Context<'_>| refusals(cx.subject.cache(make()))));
    }
    cases
}

/// A cache, the memory it keeps the books of, and what the sequences really are.
struct Simulation {
    cache: Box<dyn Cache>,
    random: SplitMix64,
    /// The token in each row.
    memory: Vec<Option<u64>>,
    sequences: BTreeMap<SequenceId, Vec<u64>>,
    next_token: u64,
}

impl Simulation {
    fn new(cache: Box<dyn Cache>, seed: u64) -> Simulation {
        let memory = vec![None; cache.layout().num_slots];
        Simulation { cache, random: SplitMix64(seed), memory, sequences: BTreeMap::new(), next_token: 0 }
    }

    fn below(&mut self, n: usize) -> usize {
        (self.random.next_u64() % n.max(1) as u64) as usize
    }

    fn any(&mut self) -> Option<SequenceId> {
        let nth = self.below(self.sequences.len());
        self.sequences.keys().nth(nth).copied()
    }

    fn run(mut self) -> Result<Evidence, Problem> {
        let layout = self.cache.layout();
        for request in 0..REQUESTS {
            let what = match (self.any(), self.below(20)) {
                (Some(sequence), 0..=10) => self.append(sequence)?,
                (Some(sequence), 11..=12) => self.fork(sequence)?,
                (Some(sequence), 13..=15) => self.truncate(sequence)?,
                (Some(sequence), 16) => {
                    self.cache.release(sequence).map_err(refused("release"))?;
                    self.sequences.remove(&sequence);
                    format!("release({})", sequence.0)
                }
                (_, 17) if request % 7 == 0 => {
                    self.cache.reset();
                    self.sequences.clear();
                    "reset".to_owned()
                }
                _ => self.create()?,
            };
            check!(self.cache.layout() == layout, "request {request}, {what}: the layout has changed");
            self.check(&format!("after request {request}, {what}"))?;
        }
        Ok(Evidence::default())
    }

    fn create(&mut self) -> Result<String, Problem> {
        let most = self.cache.layout().max_sequences;
        match self.cache.create() {
            Ok(id) => {
                check!(self.sequences.len() < most, "a sequence too many was made: there may be {most}");
                check!(self.sequences.insert(id, Vec::new()).is_none(), "sequence {} was made twice", id.0);
            }
            Err(CacheError::TooManySequences { .. }) if self.sequences.len() == most => {}
            Err(e) => {
                return Err(Problem::fail(format!("create with {} of {most} sequences: {e}", self.sequences.len())));
            }
        }
        Ok("create".into())
    }

    fn append(&mut self, sequence: SequenceId) -> Result<String, Problem> {
        let room = self.cache.room(sequence).map_err(refused("room"))?;
        let count = if self.below(8) == 0 { room + 1 + self.below(3) } else { 1 + self.below(7) };
        let what = format!("append({}, {count}) with room for {room}", sequence.0);
        let len = self.sequences[&sequence].len();
        check!(
            len + room <= self.cache.layout().max_sequence_len(),
            "{what}: {len} tokens and the room are more than a sequence can hold"
        );
        match self.cache.append(sequence, count) {
            Ok(copies) => {
                check!(count <= room, "{what} succeeded");
                self.copy(&copies, &what)?;
                for index in len..len + count {
                    let slot = self.slot(sequence, index, &what)?;
                    self.memory[slot] = Some(self.next_token);
                    self.sequences.get_mut(&sequence).expect("it lives").push(self.next_token);
                    self.next_token += 1;
                }
            }
            Err(CacheError::Full { len: told, room: told_room, wanted }) => {
                check!(count > room, "{what} is refused");
                let right = (told, told_room, wanted) == (len, room, count);
                check!(right, "{what}: the error says {told} tokens, room for {told_room}, {wanted} wanted");
            }
            Err(e) => return Err(Problem::fail(format!("{what}: {e}"))),
        }
        Ok(what)
    }

    fn fork(&mut self, sequence: SequenceId) -> Result<String, Problem> {
        let what = format!("fork({})", sequence.0);
        match self.cache.fork(sequence) {
            Ok((fork, copies)) => {
                self.copy(&copies, &what)?;
                let tokens = self.sequences[&sequence].clone();
                check!(self.sequences.insert(fork, tokens).is_none(), "{what} gave sequence {}, which lives", fork.0);
            }
            // Copying at once may need memory that is not there.
            Err(CacheError::TooManySequences { .. } | CacheError::Full { .. }) => {}
            Err(e) => return Err(Problem::fail(format!("{what}: {e}"))),
        }
        Ok(what)
    }

    fn truncate(&mut self, sequence: SequenceId) -> Result<String, Problem> {
        let len = self.sequences[&sequence].len();
        let to = self.below(len + 2);
        let what = format!("truncate({}, {to}) of {len}", sequence.0);
        match self.cache.truncate(sequence, to) {
            Ok(()) => {
                check!(to <= len, "{what} succeeded");
                self.sequences.get_mut(&sequence).expect("it lives").truncate(to);
            }
            Err(CacheError::NotThatLong { .. }) if to > len => {}
            Err(e) => return Err(Problem::fail(format!("{what}: {e}"))),
        }
        Ok(what)
    }

    fn copy(&mut self, copies: &[SlotCopy], what: &str) -> Result<(), Problem> {
        for SlotCopy { from, to, rows } in copies {
            let end = self.memory.len();
            check!(from.max(to) + rows <= end, "{what}: copies {rows} rows from {from} to {to}, of {end} rows");
            let apart = from + rows <= *to || to + rows <= *from;
            check!(apart, "{what}: copies {rows} rows from {from} to {to}, which overlap");
            for row in 0..*rows {
                self.memory[to + row] = self.memory[from + row];
            }
        }
        Ok(())
    }

    fn slot(&self, sequence: SequenceId, index: usize, what: &str) -> Result<usize, Problem> {
        let slot = self.cache.slot(sequence, index).map_err(refused("slot"))?;
        let rows = self.memory.len();
        check!(slot < rows, "{what}: token {index} of sequence {} is in row {slot} of {rows}", sequence.0);
        Ok(slot)
    }

    /// Every row of every sequence holds its token, and the block table says the same as the rows.
    fn check(&self, what: &str) -> Result<(), Problem> {
        let layout = self.cache.layout();
        for (sequence, tokens) in &self.sequences {
            let (id, len) = (sequence.0, self.cache.len(*sequence).map_err(refused("len"))?);
            check!(len == tokens.len(), "{what}: sequence {id} holds {} tokens, the cache says {len}", tokens.len());
            let mut table = vec![-7; layout.blocks_per_sequence];
            self.cache.block_table(*sequence, &mut table).map_err(refused("block_table"))?;
            for (index, token) in tokens.iter().enumerate() {
                let slot = self.slot(*sequence, index, what)?;
                let found = self.memory[slot];
                check!(
                    found == Some(*token),
                    "{what}: row {slot}, token {index} of sequence {id}, holds {found:?} and not {token}"
                );
                let block = table[index / layout.block_size];
                let told = i64::from(block) * layout.block_size as i64 + (index % layout.block_size) as i64;
                check!(
                    told == slot as i64,
                    "{what}: token {index} of sequence {id} is in row {slot}, but in row {told} by the block table"
                );
            }
            check!(
                self.cache.slot(*sequence, tokens.len()).is_err(),
                "{what}: sequence {id} has a row for token {}, which it does not hold",
                tokens.len()
            );
        }
        Ok(())
    }
}

fn refused(what: &'static str) -> impl Fn(CacheError) -> Problem {
    move |e| Problem::fail(format!("{what}: {e}"))
}

/// Sequences that do not exist, lengths that are too long, room that is not there.
fn refusals(mut cache: Box<dyn Cache>) -> Result<Evidence, Problem> {
    let layout = cache.layout();
    let gone = cache.create().map_err(refused("create"))?;
    cache.append(gone, 3).map_err(refused("append"))?;
    cache.release(gone).map_err(refused("release"))?;
    let unknown = |what: &str, result: Result<(), CacheError>| {
        let right = result == Err(CacheError::UnknownSequence(gone));
        check!(right, "{what} of a sequence that was released: {result:?}");
        Ok(())
    };
    unknown("len", cache.len(gone).map(drop))?;
    unknown("room", cache.room(gone).map(drop))?;
    unknown("slot", cache.slot(gone, 0).map(drop))?;
    unknown("block_table", cache.block_table(gone, &mut vec![0; layout.blocks_per_sequence]))?;
    unknown("append", cache.append(gone, 1).map(drop))?;
    unknown("truncate", cache.truncate(gone, 0))?;
    unknown("fork", cache.fork(gone).map(drop))?;
    unknown("release", cache.release(gone))?;

    // All sequences there can be; each empty, each with all the room that one alone has.
    let made = (0..layout.max_sequences).map(|_| cache.create()).collect::<Result<Vec<_>, _>>();
    let made = made.map_err(refused("create up to max_sequences"))?;
    let (first, most) = (made[0], layout.max_sequences);
    check!(
        cache.create() == Err(CacheError::TooManySequences { max_sequences: most }),
        "sequence {} of {most} was made",
        most + 1
    );
    let room = cache.room(first).map_err(refused("room"))?;
    check!(room > 0 && room <= layout.max_sequence_len(), "an empty sequence has room for {room} tokens");
    check!(cache.append(first, room + 1).is_err(), "{} tokens were taken, with room for {room}", room + 1);
    check!(cache.len(first) == Ok(0), "a refused append left {:?} tokens", cache.len(first));
    check!(cache.room(first) == Ok(room), "a refused append left room for {:?}, before {room}", cache.room(first));
    cache.append(first, room).map_err(refused("append of all the room"))?;
    check!(cache.room(first) == Ok(0), "a full sequence has room for {:?}", cache.room(first));
    check!(cache.append(first, 1).is_err(), "a full sequence took a token");
    check!(cache.slot(first, room).is_err(), "a full sequence has a row behind its end");
    check!(cache.truncate(first, room + 1).is_err(), "a sequence was cut to more than it holds");
    cache.truncate(first, room - 1).map_err(refused("truncate"))?;
    check!(cache.room(first).is_ok_and(|r| r >= 1), "a cut sequence has no room");
    cache.append(first, 1).map_err(refused("append after truncate"))?;
    for sequence in &made {
        cache.release(*sequence).map_err(refused("release"))?;
    }
    // All memory has come back.
    let again = cache.create().map_err(refused("create after release"))?;
    check!(!made.contains(&again) && again != gone, "the id of a released sequence was given again");
    check!(cache.room(again) == Ok(room), "after release there is room for {:?}, before {room}", cache.room(again));
    cache.reset();
    check!(cache.len(again).is_err(), "a sequence lives on after reset");
    let last = cache.create().map_err(refused("create after reset"))?;
    cache.append(last, room).map_err(refused("append after reset"))?;
    Ok(Evidence::default())
}
