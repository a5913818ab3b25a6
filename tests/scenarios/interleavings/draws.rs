//! Chance that can be played again, and played shorter.

/// Numbers drawn from a seed, or read from a tape of such numbers and then all zero. Zero is always the plainest choice.
#[derive(Debug, Clone)]
pub struct Draws {
    tape: Vec<u32>,
    at: usize,
    random: Option<u64>,
}

impl Draws {
    pub fn from_seed(seed: u64) -> Self {
        Self { tape: Vec::new(), at: 0, random: Some(seed) }
    }

    pub fn from_tape(tape: Vec<u32>) -> Self {
        Self { tape, at: 0, random: None }
    }

    /// All that was drawn so far.
    pub fn taken(&self) -> &[u32] {
        &self.tape[..self.at.min(self.tape.len())]
    }

    /// A number below `count`; 0 where there is no other.
    pub fn below(&mut self, count: usize) -> usize {
        if self.at == self.tape.len()
            && let Some(state) = &mut self.random
        {
            let drawn = u32::try_from(next(state) >> 32).unwrap_or_default();
            // What stands on the tape is the choice itself: a shorter tape's choices stay near to it.
            self.tape.push(drawn % u32::try_from(count.max(1)).unwrap_or(u32::MAX));
        }
        let drawn = self.tape.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        usize::try_from(drawn).unwrap_or_default() % count.max(1)
    }

    /// Whether one of `count` chances comes up.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) + 1 == count
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// SplitMix64, by Sebastiano Vigna, in the public domain.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A shorter tape that fails too, by leaving parts out and making draws plain; `tries` bounds the work.
pub fn shorter(mut tape: Vec<u32>, mut tries: usize, fails: impl Fn(&[u32]) -> bool) -> Vec<u32> {
    let mut size = tape.len().div_ceil(2);
    while size > 0 && tries > 0 {
        let mut start = 0;
        while start < tape.len() && tries > 0 {
            let end = (start + size).min(tape.len());
            let mut without = tape.clone();
            without.drain(start..end);
            let mut plain = tape.clone();
            plain[start..end].fill(0);
            let better = [without, plain].into_iter().find(|shorter| {
                let news = *shorter != tape && tries > 0;
                tries -= usize::from(news);
                news && fails(shorter)
            });
            match better {
                Some(better) => {
                    start += if better.len() < tape.len() { 0 } else { size };
                    tape = better;
                }
                None => start += size,
            }
        }
        size /= 2;
    }
    tape
}
