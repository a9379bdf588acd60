//! Random numbers that depend on what they are for, not on who draws them or when.
//!
//! Dropout asks for "the number of element e of layer l of record r of lane n in step t": a counter-based
//! generator answers from these coordinates alone, so that the same job drops the same elements for any
//! number of workers and threads, and again after a restart.
//!
//! Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

/// What the random numbers of one micro-batch depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RandomKey {
    /// Seed of the job.
    pub seed: u64,
    /// Step, from 0.
    pub step: u64,
    /// Lane the micro-batch belongs to.
    pub lane: u32,
}

/// The random numbers of one layer for one record of a micro-batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordRandom {
    key: [u32; 2],
    counter: [u32; 4],
}

impl RandomKey {
    /// The stream of `layer` for the record `record` of the micro-batch.
    pub fn record(&self, layer: u32, record: usize) -> RecordRandom {
        // The key mixes what is long-lived, the counter what changes within a step: no two coordinates meet.
        let own = one([self.step as u32, (self.step >> 32) as u32, self.lane, layer], split(self.seed));
        RecordRandom { key: [own[0], own[1]], counter: [0, record as u32, own[2], own[3]] }
    }
}

impl RecordRandom {
    /// Four random words: those of elements `4 * quad` to `4 * quad + 3`.
    pub fn quad(&self, quad: usize) -> [u32; 4] {
        one([quad as u32, self.counter[1], self.counter[2], self.counter[3]], self.key)
    }

    /// The words of `N` quads from `first` on, `[word][quad]`, in the lower halves of what is returned; the upper halves
    /// say nothing. For kernels, whose compiler makes vectors of it.
    #[inline(always)]
    pub(crate) fn quads<const N: usize>(&self, first: usize) -> [[u64; N]; 4] {
        let [_, record, a, b] = self.counter.map(u64::from);
        let mut quads = [0; N];
        for (i, quad) in quads.iter_mut().enumerate() {
            *quad = (first + i) as u64;
        }
        philox([quads, [record; N], [a; N], [b; N]], self.key)
    }
}

fn split(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

fn one(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox(counter.map(|word| [u64::from(word)]), key).map(|[word]| word as u32)
}

/// Ten rounds of Philox 4x32, of `N` counters beside each other. Words are the lower halves of 64 bits, as the products
/// of vector registers want them: what is above is never looked at.
#[inline(always)]
fn philox<const N: usize>(mut counter: [[u64; N]; 4], mut key: [u32; 2]) -> [[u64; N]; 4] {
    const LOW: u64 = 0xffff_ffff;
    for _ in 0..10 {
        let [first, second, third, fourth] = &mut counter;
        for i in 0..N {
            let (a, b) = ((first[i] & LOW) * 0xD251_1F53, (third[i] & LOW) * 0xCD9E_8D57);
            first[i] = (b >> 32) ^ second[i] ^ u64::from(key[0]);
            second[i] = b;
            third[i] = (a >> 32) ^ fourth[i] ^ u64::from(key[1]);
            fourth[i] = a;
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_numbers() {
        // Known answers of Random123.
        assert_eq!(one([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(one([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            one([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn every_coordinate_changes_the_numbers() {
        let key = RandomKey { seed: 1, step: 2, lane: 3 };
        let base = key.record(4, 5).quad(6);
        assert_eq!(base, key.record(4, 5).quad(6));
        for other in [
            RandomKey { seed: 2, ..key }.record(4, 5).quad(6),
            RandomKey { step: 3, ..key }.record(4, 5).quad(6),
            RandomKey { lane: 4, ..key }.record(4, 5).quad(6),
            key.record(5, 5).quad(6),
            key.record(4, 6).quad(6),
            key.record(4, 5).quad(7),
        ] {
            assert_ne!(base, other);
        }
    }
}
