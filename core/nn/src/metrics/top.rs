//! Top-k accuracy: share of the targets whose class is among the `k` largest outputs. Of equal outputs the first
//! counts as larger.

use super::{Gathered, Metric, Records, Scored, share};
use crate::batch::{TargetKind, Targets, ignored_class};
use crate::layer::Misfit;
use crate::losses::classes::rank;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "share of targets whose class is among the k largest outputs: top1, top5";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("k", "1", "outputs that count")];

pub(crate) fn build(reader: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    let k = reader.count("k", 1, Some(1));
    match scored.targets {
        TargetKind::Classes { count, ignored, .. } => {
            Ok(Box::new(Top { k, classes: count, ignored: ignored.map(ignored_class) }))
        }
        targets => Err(Misfit(format!("top needs classes as targets; the loss has {targets}"))),
    }
}

struct Top {
    k: usize,
    classes: usize,
    ignored: Option<u32>,
}

impl Metric for Top {
    fn sums(&self) -> usize {
        2
    }

    fn add(&self, gathered: &mut Gathered, records: &Records<'_>) {
        let Targets::Classes(targets) = records.targets else { panic!("top is given classes") };
        for (y, class) in records.y.chunks_exact(self.classes).zip(targets) {
            if Some(*class) != self.ignored {
                gathered.sums[0] += i64::from(rank(y, *class as usize) < self.k);
                gathered.sums[1] += 1;
            }
        }
    }

    fn value(&self, gathered: Gathered) -> Result<f64, String> {
        share(gathered.sums[0], gathered.sums[1])
    }
}
