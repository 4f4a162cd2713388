//! Random numbers that a seed brings back: splitmix64.

use std::ops::Range;

/// The bits of a seed that count from case to case.
const TURNS: u64 = 15;

/// A sequence of numbers that follows from its seed.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of case `index` of a run: case 0 of a run with that seed is the same case again. Its last four bits
    /// count, so that kinds of cases chosen by [`Seed::turn`] take turns.
    pub fn of_case(run: u64, index: u64) -> u64 {
        let turn = run.wrapping_add(index) & TURNS;
        if index == 0 { run } else { Seed::new(run.wrapping_add(index)).number() >> 16 & !TURNS | turn }
    }

    /// Which of `choices` has its turn in the case with this seed.
    pub fn turn<T>(seed: u64, choices: &[T]) -> usize {
        (seed & TURNS) as usize % choices.len()
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number of `range`.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start).max(1)
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.within(0..choices.len() as u64) as usize]
    }

    /// Whether an event of one in `chances` happens.
    pub fn one_in(&mut self, chances: u64) -> bool {
        self.within(0..chances) == 0
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.number().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}
