//! Inception-v3 (Szegedy et al. 2015, "Rethinking the Inception architecture"), for 299 × 299 × 3, with its auxiliary
//! head, whose loss counts 0.4 in training. Parameters are called as torchvision's.

use super::net::{Filters, Name, Net, filters};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader, Value};

/// One line for the documentation.
pub(crate) const DOC: &str =
    "Inception-v3 (torchvision inception_v3) with its auxiliary head, for 299 × 299 × 3";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("classes", "1000", "outputs"),
    ParamDoc::new("aux_weight", "0.4", "what the loss of the auxiliary head counts; 0: no such head"),
    ParamDoc::new("dropout", "0.5", "share dropped before the last layer in training"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let classes = reader.count("classes", 2, Some(1000));
    let weight = reader.number("aux_weight", 0.0..=f64::MAX, Some(0.4));
    let dropout = reader.number("dropout", 0.0..=1.0, Some(0.5));
    let mut v3 = V3(Net::default());
    let x = v3.conv("Conv2d_1a_3x3", "input", reducing(32));
    let x = v3.conv("Conv2d_2a_3x3", &x, Filters { padding: [0, 0], ..filters(32, 3) });
    let x = v3.conv("Conv2d_2b_3x3", &x, filters(64, 3));
    let x = v3.0.max_pool(&x, 3, 2, &[]);
    let x = v3.conv("Conv2d_3b_1x1", &x, filters(80, 1));
    let x = v3.conv("Conv2d_4a_3x3", &x, Filters { padding: [0, 0], ..filters(192, 3) });
    let mut x = v3.0.max_pool(&x, 3, 2, &[]);
    for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
        x = v3.block_a(name, &x, pooled);
    }
    x = v3.block_b("Mixed_6a", &x);
    for (name, inner) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
        x = v3.block_c(name, &x, inner);
    }
    if weight > 0.0 {
        v3.head(&x, (classes, weight));
    }
    x = v3.block_d("Mixed_7a", &x);
    for name in ["Mixed_7b", "Mixed_7c"] {
        x = v3.block_e(name, &x);
    }
    let x = v3.0.mean(&x);
    let x = v3.0.dropout(&x, dropout);
    v3.0.linear("fc", &x, classes);
    v3.0.layers()
}

/// 3 × 3 with stride 2, without padding.
fn reducing(count: usize) -> Filters {
    Filters { stride: 2, padding: [0, 0], ..filters(count, 3) }
}

/// A row or a column of a kernel, that keeps the size of the image.
fn line(count: usize, kernel: [usize; 2]) -> Filters {
    Filters { kernel, padding: [kernel[0] / 2, kernel[1] / 2], ..filters(count, 1) }
}

struct V3(Net);

impl V3 {
    /// Convolution, batch norm, ReLU.
    fn conv(&mut self, name: &str, x: &str, how: Filters) -> Name {
        let y = self.0.conv(&format!("{name}.conv"), x, how);
        let y = self.0.norm(&format!("{name}.bn"), &y, 1e-3);
        self.0.relu(&y)
    }

    /// Convolutions one after the other: the end of each name, and what it is.
    fn chain(&mut self, block: &str, x: &str, steps: &[(&str, Filters)]) -> Name {
        steps.iter().fold(x.to_string(), |x, (name, how)| self.conv(&format!("{block}.{name}"), &x, *how))
    }

    /// The mean of 3 × 3, then 1 × 1.
    fn pooled(&mut self, block: &str, x: &str, count: usize) -> Name {
        let params = [("kernel_size", 3usize.into()), ("stride", 1usize.into()), ("padding", 1usize.into())];
        let y = self.0.after(x, "avg_pool2d", &params);
        self.conv(&format!("{block}.branch_pool"), &y, filters(count, 1))
    }

    fn join(&mut self, block: &str, branches: &[&str]) -> Name {
        self.0.named(&format!("{block}.concat"), "concat", branches, &[])
    }

    fn block_a(&mut self, block: &str, x: &str, pooled: usize) -> Name {
        let one = self.chain(block, x, &[("branch1x1", filters(64, 1))]);
        let five = self.chain(block, x, &[("branch5x5_1", filters(48, 1)), ("branch5x5_2", filters(64, 5))]);
        let three = [
            ("branch3x3dbl_1", filters(64, 1)),
            ("branch3x3dbl_2", filters(96, 3)),
            ("branch3x3dbl_3", filters(96, 3)),
        ];
        let three = self.chain(block, x, &three);
        let pool = self.pooled(block, x, pooled);
        self.join(block, &[&one, &five, &three, &pool])
    }

    fn block_b(&mut self, block: &str, x: &str) -> Name {
        let three = self.chain(block, x, &[("branch3x3", reducing(384))]);
        let double = [
            ("branch3x3dbl_1", filters(64, 1)),
            ("branch3x3dbl_2", filters(96, 3)),
            ("branch3x3dbl_3", reducing(96)),
        ];
        let double = self.chain(block, x, &double);
        let pool = self.0.max_pool(x, 3, 2, &[]);
        self.join(block, &[&three, &double, &pool])
    }

    fn block_c(&mut self, block: &str, x: &str, inner: usize) -> Name {
        let (row, column) = (|count| line(count, [1, 7]), |count| line(count, [7, 1]));
        let one = self.chain(block, x, &[("branch1x1", filters(192, 1))]);
        let seven =
            [("branch7x7_1", filters(inner, 1)), ("branch7x7_2", row(inner)), ("branch7x7_3", column(192))];
        let seven = self.chain(block, x, &seven);
        let double = [
            ("branch7x7dbl_1", filters(inner, 1)),
            ("branch7x7dbl_2", column(inner)),
            ("branch7x7dbl_3", row(inner)),
            ("branch7x7dbl_4", column(inner)),
            ("branch7x7dbl_5", row(192)),
        ];
        let double = self.chain(block, x, &double);
        let pool = self.pooled(block, x, 192);
        self.join(block, &[&one, &seven, &double, &pool])
    }

    fn block_d(&mut self, block: &str, x: &str) -> Name {
        let three = self.chain(block, x, &[("branch3x3_1", filters(192, 1)), ("branch3x3_2", reducing(320))]);
        let seven = [
            ("branch7x7x3_1", filters(192, 1)),
            ("branch7x7x3_2", line(192, [1, 7])),
            ("branch7x7x3_3", line(192, [7, 1])),
            ("branch7x7x3_4", reducing(192)),
        ];
        let seven = self.chain(block, x, &seven);
        let pool = self.0.max_pool(x, 3, 2, &[]);
        self.join(block, &[&three, &seven, &pool])
    }

    fn block_e(&mut self, block: &str, x: &str) -> Name {
        let (row, column) = (line(384, [1, 3]), line(384, [3, 1]));
        let one = self.chain(block, x, &[("branch1x1", filters(320, 1))]);
        let three = self.chain(block, x, &[("branch3x3_1", filters(384, 1))]);
        let three_a = self.chain(block, &three, &[("branch3x3_2a", row)]);
        let three_b = self.chain(block, &three, &[("branch3x3_2b", column)]);
        let double = [("branch3x3dbl_1", filters(448, 1)), ("branch3x3dbl_2", filters(384, 3))];
        let double = self.chain(block, x, &double);
        let double_a = self.chain(block, &double, &[("branch3x3dbl_3a", row)]);
        let double_b = self.chain(block, &double, &[("branch3x3dbl_3b", column)]);
        let pool = self.pooled(block, x, 192);
        self.join(block, &[&one, &three_a, &three_b, &double_a, &double_b, &pool])
    }

    fn head(&mut self, x: &str, (classes, weight): (usize, f64)) {
        let pool =
            self.0.after(x, "avg_pool2d", &[("kernel_size", 5usize.into()), ("stride", 3usize.into())]);
        let y = self.conv("AuxLogits.conv0", &pool, filters(128, 1));
        let y = self.conv("AuxLogits.conv1", &y, Filters { padding: [0, 0], ..filters(768, 5) });
        let y = self.0.mean(&y);
        let params = [("out_features", classes.into()), ("loss_weight", Value::Float(weight))];
        self.0.named("AuxLogits.fc", "linear", &[&y], &params);
    }
}
