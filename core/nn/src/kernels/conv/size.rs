//! Sizes of a convolution.

/// Sizes of a convolution over images of one size, channels last.
///
/// `y[oh][ow][k] = bias[k] + Σ_{kh, kw, c} x[oh · stride + kh · dilation - padding][..][c] · w[k][c][kh][kw]`, what lies
/// outside of the image being 0, and c over the channels of k's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSize {
    /// Rows, columns and channels of x.
    pub input: [usize; 3],
    /// Rows, columns and channels of y.
    pub output: [usize; 3],
    /// Rows and columns of a filter.
    pub kernel: [usize; 2],
    /// Pixels of x between neighbours of y.
    pub stride: [usize; 2],
    /// Rows above and columns left of x that count as 0; below and to the right as many as the output needs.
    pub padding: [usize; 2],
    /// Pixels of x between neighbours of a filter.
    pub dilation: [usize; 2],
    /// Groups of channels that have nothing to do with each other.
    pub groups: usize,
}

impl ConvSize {
    /// A convolution with the same padding on all sides.
    pub fn new(input: [usize; 3], outputs: usize, kernel: usize, stride: usize, padding: usize) -> ConvSize {
        let pixels = |size: usize| (size + 2 * padding).saturating_sub(kernel) / stride + 1;
        ConvSize {
            input,
            output: [pixels(input[0]), pixels(input[1]), outputs],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
            dilation: [1; 2],
            groups: 1,
        }
    }

    /// Numbers of x of one image.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// Numbers of y of one image.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    /// Numbers of the weights, `[K, C / groups, kh, kw]`.
    pub fn weights_len(&self) -> usize {
        self.output[2] * self.group_inputs() * self.taps()
    }

    /// Floating-point operations of one pass over one image, products with padding included.
    pub fn flops(&self) -> u64 {
        2 * self.weights_len() as u64 * (self.output[0] * self.output[1]) as u64
    }

    /// Whether every group is one channel of x and one of y.
    pub fn depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.input[2] && self.groups == self.output[2]
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(super) fn group_inputs(&self) -> usize {
        self.input[2] / self.groups
    }

    pub(super) fn group_outputs(&self) -> usize {
        self.output[2] / self.groups
    }

    /// Whether a filter is one pixel, without padding.
    pub(super) fn pointwise(&self) -> bool {
        self.kernel == [1; 2] && self.padding == [0; 2]
    }
}
