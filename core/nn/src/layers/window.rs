//! Windows that slide over an image: sizes of convolutions and pools, as PyTorch computes them.

use crate::layer::Misfit;
use crate::shape::Image;
use std::ops::Range;

/// Rows or columns of a window, of its padding, and between its numbers: more is a typing mistake.
const MAX_WINDOW: usize = 1 << 14;

/// How a window slides, rows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// A last window that only partly lies on the image counts.
    pub(crate) ceil: bool,
}

impl Window {
    /// Rows and columns of the output.
    pub(crate) fn output(&self, layer: &str, input: Image) -> Result<[usize; 2], Misfit> {
        let mut output = [0; 2];
        for (axis, size) in [input.h, input.w].into_iter().enumerate() {
            output[axis] = self.axis(axis, size).ok_or_else(|| {
                let [kh, kw] = self.kernel.map(|k| k.to_string());
                Misfit(format!(
                    "{layer}: a window of {kh} × {kw} (dilation {:?}, padding {:?}, at most {MAX_WINDOW} each) \
                     does not fit on {} × {}",
                    self.dilation, self.padding, input.h, input.w
                ))
            })?;
        }
        Ok(output)
    }

    fn axis(&self, axis: usize, size: usize) -> Option<usize> {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        if self.kernel[axis].max(padding).max(self.dilation[axis]) > MAX_WINDOW {
            return None;
        }
        let span = self.dilation[axis].checked_mul(self.kernel[axis] - 1)?.checked_add(1)?;
        let padded = padding.checked_mul(2)?.checked_add(size)?;
        let room = padded.checked_sub(span)?;
        let count = if self.ceil { room.div_ceil(stride) } else { room / stride } + 1;
        // A window that would start behind the image and its left padding does not count.
        Some(if self.ceil && (count - 1) * stride >= size + padding { count - 1 } else { count })
    }

    /// Output columns (of `outputs`) whose number in kernel column `column` lies on an image of `width`, and the
    /// image column of the first.
    pub(crate) fn columns(&self, column: usize, width: usize, outputs: usize) -> (Range<usize>, usize) {
        let (stride, padding, shift) = (self.stride[1], self.padding[1], column * self.dilation[1]);
        let start = padding.saturating_sub(shift).div_ceil(stride);
        let end = match (width + padding).checked_sub(shift + 1) {
            Some(last) => (last / stride + 1).min(outputs),
            None => 0,
        };
        if start >= end { (0..0, 0) } else { (start..end, start * stride + shift - padding) }
    }

    /// Taps of the window at `position` along `axis` that lie on an image of `size`: pairs of (tap, place).
    pub(crate) fn taps(
        &self,
        axis: usize,
        position: usize,
        size: usize,
    ) -> impl Iterator<Item = (usize, usize)> {
        let start = position * self.stride[axis];
        let (padding, dilation) = (self.padding[axis], self.dilation[axis]);
        (0..self.kernel[axis]).filter_map(move |tap| {
            let place = (start + tap * dilation).checked_sub(padding)?;
            (place < size).then_some((tap, place))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_pytorchs() {
        let window =
            Window { kernel: [3, 2], stride: [2, 3], padding: [1, 0], dilation: [1, 1], ceil: false };
        let image = Image { h: 6, w: 7, c: 1 };
        assert_eq!(window.output("max_pool2d", image), Ok([3, 2]));
        let ceil = Window { ceil: true, ..window };
        assert_eq!(ceil.output("max_pool2d", image), Ok([4, 3]));
        // The third window would start at 6 = size + padding - 0: behind the image.
        let behind = Window { kernel: [1, 1], stride: [3, 3], padding: [0, 0], dilation: [1, 1], ceil: true };
        assert_eq!(behind.output("max_pool2d", Image { h: 5, w: 6, c: 1 }), Ok([2, 2]));
        let large = Window { kernel: [9, 1], ..window };
        let message = large.output("conv2d", image).unwrap_err().0;
        assert!(message.contains("conv2d: a window of 9 × 1") && message.contains("6 × 7"), "{message}");
    }

    #[test]
    fn taps_outside_the_image_are_left_out() {
        let window =
            Window { kernel: [3, 3], stride: [2, 2], padding: [1, 1], dilation: [2, 1], ceil: false };
        assert_eq!(window.taps(0, 0, 4).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
        assert_eq!(window.taps(1, 1, 3).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
    }
}
