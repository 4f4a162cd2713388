//! How long to wait before trying again: doubling, bounded, spread by ±20 % so that clients do not return in step.

/// The pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first_ms: u64,
    ms_max: u64,
}

impl Backoff {
    pub(crate) const fn new(first_ms: u64, ms_max: u64) -> Self {
        Self { first_ms, ms_max }
    }

    /// The pause after `failures` failed attempts (at least one). `dice` is any number; the same one gives the same pause.
    pub(crate) fn pause_ms(self, failures: u32, dice: u64) -> u64 {
        let doublings = failures.saturating_sub(1).min(32);
        let plain = self.first_ms.saturating_mul(1 << doublings).min(self.ms_max);
        let fifth = plain / 5;
        plain - fifth + scramble(dice) % (2 * fifth + 1)
    }
}

/// Turns a counter into bits that look random (`SplitMix64`). Good enough to spread load, useless as a secret.
pub(crate) fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_stay_near_it() {
        let backoff = Backoff::new(50, 1000);
        for dice in 0..200 {
            assert!((40..=60).contains(&backoff.pause_ms(1, dice)));
            assert!((160..=240).contains(&backoff.pause_ms(3, dice)));
            assert!((800..=1200).contains(&backoff.pause_ms(90, dice)));
        }
        assert_eq!(Backoff::new(0, 0).pause_ms(5, 1), 0);
    }
}
