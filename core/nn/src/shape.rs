//! Shapes of records, and where the numbers of a record lie.

use std::fmt;

/// No record may have more numbers than this: sizes of a batch stay far from overflow, and a shape typed with
/// three zeros too many is refused before memory is asked for.
pub const MAX_RECORD_ELEMENTS: usize = 1 << 31;

/// Shape of one record, channels last: `(H, W, C)` for an image, `(T, F)` for a sequence of T time steps, `(F)` for
/// a flat vector. The batch is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

/// Height, width and channels of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Image {
    /// Pixels of one channel.
    pub fn pixels(&self) -> usize {
        self.h * self.w
    }
}

impl Shape {
    /// A shape from its dimensions.
    ///
    /// # Errors
    /// Says what is wrong when there is no dimension, one is 0, or there are more than
    /// [`MAX_RECORD_ELEMENTS`] numbers.
    pub fn new(dims: &[usize]) -> Result<Shape, String> {
        let shape = Shape(dims.to_vec());
        if dims.is_empty() {
            return Err("a record needs at least one dimension".into());
        }
        if dims.contains(&0) {
            return Err(format!("{shape} has an empty dimension"));
        }
        let elements = dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        match elements {
            Some(elements) if elements <= MAX_RECORD_ELEMENTS => Ok(shape),
            _ => Err(format!("{shape} has more than {MAX_RECORD_ELEMENTS} numbers a record")),
        }
    }

    /// A flat vector of `features` numbers.
    ///
    /// # Errors
    /// As [`Shape::new`].
    pub fn flat(features: usize) -> Result<Shape, String> {
        Shape::new(&[features])
    }

    /// An image of `h` rows, `w` columns and `c` channels.
    ///
    /// # Errors
    /// As [`Shape::new`].
    pub fn image(h: usize, w: usize, c: usize) -> Result<Shape, String> {
        Shape::new(&[h, w, c])
    }

    /// The dimensions, channels last.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Numbers in a record.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// The number of features, when the record is a flat vector.
    pub fn as_flat(&self) -> Option<usize> {
        match self.0[..] {
            [features] => Some(features),
            _ => None,
        }
    }

    /// Time steps and features, when the record is a sequence.
    pub fn as_sequence(&self) -> Option<[usize; 2]> {
        match self.0[..] {
            [steps, features] => Some([steps, features]),
            _ => None,
        }
    }

    /// Rows, columns and channels, when the record is an image.
    pub fn as_image(&self) -> Option<Image> {
        match self.0[..] {
            [h, w, c] => Some(Image { h, w, c }),
            _ => None,
        }
    }
}

impl fmt::Display for Shape {
    /// `28 × 28 × 1`, channels last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, dim) in self.0.iter().enumerate() {
            write!(f, "{}{dim}", if i > 0 { " × " } else { "" })?;
        }
        Ok(())
    }
}

/// How the numbers of an image lie in memory. A flat record has one order only, and both names mean it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[h][w][c]`: what users see, and what kernels for many channels want.
    ChannelsLast,
    /// `[c][h][w]`: what kernels for few channels want, whose vectors run along pixels.
    Planar,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_shapes_are_refused() {
        assert!(Shape::new(&[]).unwrap_err().contains("at least one"));
        assert!(Shape::new(&[28, 0, 1]).unwrap_err().contains("28 × 0 × 1"));
        assert!(Shape::new(&[usize::MAX, 3]).unwrap_err().contains("more than"));
        assert!(Shape::new(&[1 << 16, 1 << 16]).is_err());
        let image = Shape::image(28, 28, 3).unwrap();
        assert_eq!((image.elements(), image.to_string().as_str()), (2352, "28 × 28 × 3"));
        assert_eq!(image.as_image().unwrap().pixels(), 784);
        assert_eq!(image.as_flat(), None);
        assert_eq!(Shape::flat(7).unwrap().as_flat(), Some(7));
        assert_eq!(Shape::new(&[5, 2]).unwrap().as_sequence(), Some([5, 2]));
    }
}
