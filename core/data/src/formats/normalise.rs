//! `x -> (x - mean) / std` for each channel, where a byte has become `x = byte / 255` before: the bits that
//! torchvision's `ToTensor` and `Normalize` give.

use serde::{Deserialize, Serialize};

/// Channels with tables of their own at most (1 KiB each, to stay in the first-level cache).
const TABLE_CHANNELS: usize = 16;

/// Mean and standard deviation as the job gives them: none, one, or one a channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Subtracted.
    pub mean: Vec<f32>,
    /// What is divided by.
    pub std: Vec<f32>,
}

/// The same, ready for use.
#[derive(Debug)]
pub(super) struct Normaliser {
    mean: Vec<f32>,
    std: Vec<f32>,
    /// What each byte becomes: one table for all channels or one a channel; empty with too many channels.
    tables: Vec<[f32; 256]>,
}

impl Normaliser {
    pub(super) fn new(given: &Normalisation, channels: usize) -> Result<Normaliser, String> {
        let mean = per_channel("mean", &given.mean, channels)?;
        let std = per_channel("std", &given.std, channels)?;
        if let Some(bad) = mean.iter().find(|mean| !mean.is_finite()) {
            return Err(format!("input.mean has {bad}, which is not finite"));
        }
        if let Some(bad) = std.iter().find(|std| !std.is_finite() || **std == 0.0) {
            return Err(format!("input.std has {bad}; values are divided by it"));
        }
        let (mean, std) = match (mean.len(), std.len()) {
            (0, 0) => (vec![], vec![]),
            (0, n) => (vec![0.0; n], std),
            (n, 0) => (mean, vec![1.0; n]),
            (1, n) => (vec![mean[0]; n], std),
            (n, 1) => (mean, vec![std[0]; n]),
            _ => (mean, std),
        };
        let count = mean.len().max(1);
        let mut normaliser = Normaliser { mean, std, tables: Vec::new() };
        if count <= TABLE_CHANNELS {
            normaliser.tables = (0..count)
                .map(|channel| std::array::from_fn(|byte| normaliser.value(channel, byte as f32 / 255.0)))
                .collect();
        }
        Ok(normaliser)
    }

    fn value(&self, channel: usize, x: f32) -> f32 {
        if self.mean.is_empty() {
            return x;
        }
        let channel = channel % self.mean.len();
        (x - self.mean[channel]) / self.std[channel]
    }

    /// Normalises values that lie channels last.
    pub(super) fn values(&self, values: &mut [f32]) {
        match self.mean.len() {
            0 => {}
            1 => values.iter_mut().for_each(|x| *x = (*x - self.mean[0]) / self.std[0]),
            channels => {
                for (i, x) in values.iter_mut().enumerate() {
                    *x = self.value(i % channels, *x);
                }
            }
        }
    }

    /// Bytes that lie channels last.
    pub(super) fn bytes(&self, bytes: &[u8], out: &mut [f32]) {
        match self.tables.as_slice() {
            [] => {
                for (i, (byte, x)) in bytes.iter().zip(out).enumerate() {
                    *x = self.value(i, f32::from(*byte) / 255.0);
                }
            }
            [table] => {
                for (byte, x) in bytes.iter().zip(out) {
                    *x = table[usize::from(*byte)];
                }
            }
            tables => {
                for (bytes, out) in bytes.chunks(tables.len()).zip(out.chunks_mut(tables.len())) {
                    for ((byte, x), table) in bytes.iter().zip(out).zip(tables) {
                        *x = table[usize::from(*byte)];
                    }
                }
            }
        }
    }

    /// Bytes that lie channels first, written channels last.
    pub(super) fn planes(&self, bytes: &[u8], channels: usize, out: &mut [f32]) {
        for (channel, plane) in bytes.chunks(bytes.len() / channels).enumerate() {
            let out = out[channel..].iter_mut().step_by(channels);
            match self.tables.get(if self.tables.len() == 1 { 0 } else { channel }) {
                Some(table) => out.zip(plane).for_each(|(x, byte)| *x = table[usize::from(*byte)]),
                None => {
                    out.zip(plane).for_each(|(x, byte)| *x = self.value(channel, f32::from(*byte) / 255.0));
                }
            }
        }
    }
}

fn per_channel(what: &str, given: &[f32], channels: usize) -> Result<Vec<f32>, String> {
    if given.len() <= 1 || given.len() == channels {
        return Ok(given.to_vec());
    }
    Err(format!(
        "input.{what} has {} values; records have {channels} channels: give one, or {channels}",
        given.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normaliser(mean: &[f32], std: &[f32], channels: usize) -> Normaliser {
        Normaliser::new(&Normalisation { mean: mean.to_vec(), std: std.to_vec() }, channels).unwrap()
    }

    #[test]
    fn bytes_become_what_torchvision_makes_of_them() {
        // torchvision: (byte / 255 - 0.1307) / 0.3081 in f32
        let mut out = [0.0; 3];
        normaliser(&[0.1307], &[0.3081], 1).bytes(&[0, 128, 255], &mut out);
        assert_eq!(out, [-0.42421296, 1.2050011, 2.8214867]);
        normaliser(&[], &[], 1).bytes(&[0, 51, 255], &mut out);
        assert_eq!(out, [0.0, 0.2, 1.0]);
    }

    #[test]
    fn channels_have_their_own_numbers_in_every_layout() {
        let (mean, std) = ([0.5, 0.25, 0.0], [0.5, 1.0, 2.0]);
        let n = normaliser(&mean, &std, 3);
        let hwc = [255, 255, 255, 0, 0, 0];
        let mut out = [0.0; 6];
        n.bytes(&hwc, &mut out);
        assert_eq!(out, [1.0, 0.75, 0.5, -1.0, -0.25, 0.0]);
        let mut from_planes = [0.0; 6];
        n.planes(&[255, 0, 255, 0, 255, 0], 3, &mut from_planes);
        assert_eq!(from_planes, out);
        let mut floats = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        n.values(&mut floats);
        assert_eq!(floats, out);
    }

    #[test]
    fn many_channels_work_without_tables() {
        let mean: Vec<f32> = (0..40).map(|c| c as f32 / 40.0).collect();
        let n = normaliser(&mean, &[0.5], 40);
        let bytes: Vec<u8> = (0..80).map(|i| (i * 3) as u8).collect();
        let (mut hwc, mut chw) = (vec![0.0; 80], vec![0.0; 80]);
        n.bytes(&bytes, &mut hwc);
        let planes: Vec<u8> = (0..80).map(|i| bytes[(i % 2) * 40 + i / 2]).collect();
        n.planes(&planes, 40, &mut chw);
        assert_eq!(hwc, chw);
        assert_eq!(hwc[41], (bytes[41] as f32 / 255.0 - mean[1]) / 0.5);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let bad = |mean: &[f32], std: &[f32]| {
            Normaliser::new(&Normalisation { mean: mean.to_vec(), std: std.to_vec() }, 3).unwrap_err()
        };
        assert!(bad(&[0.1, 0.2], &[]).contains("input.mean has 2 values; records have 3 channels"));
        assert!(bad(&[], &[0.0]).contains("input.std has 0"));
        assert!(bad(&[f32::NAN], &[]).contains("not finite"));
    }
}
