//! The task of one lane: windows in, micro-batches out.

use super::window::OpenWindow;
use super::{Batch, Pool};
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::formats::{self, Targets};
use crate::plan::{LaneOrder, Plan};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// What a lane's task works with.
pub(super) struct Work {
    pub(super) dataset: Arc<Dataset>,
    pub(super) plan: Arc<Plan>,
    pub(super) lane: usize,
    pub(super) pool: Pool,
}

/// Consecutive positions of one window.
type Segment = (Arc<OpenWindow>, Range<u64>);

/// Sends the micro-batches of `steps` in order; ends with an error, the last step, or the receiver.
pub(super) async fn run(work: Work, steps: Range<u64>, sender: Sender<Result<Batch, DataError>>) {
    let mut windows = Windows { work: &work, current: None, next: None, last_epoch: None };
    if steps.end > 0 {
        windows.last_epoch = Some(work.plan.position(steps.end - 1).0);
    }
    for step in steps {
        let batch = windows.batch(step).await;
        let failed = batch.is_err();
        if sender.send(batch).await.is_err() || failed {
            return;
        }
    }
}

/// A window of some epoch.
struct Opened {
    epoch: u64,
    number: usize,
    order: Arc<LaneOrder>,
    open: Arc<OpenWindow>,
}

/// The window in use and the one being read.
struct Windows<'a> {
    work: &'a Work,
    current: Option<Opened>,
    next: Option<Opened>,
    last_epoch: Option<u64>,
}

impl Windows<'_> {
    async fn batch(&mut self, step: u64) -> Result<Batch, DataError> {
        let Work { dataset, plan, lane, pool } = self.work;
        let (epoch, step_in_epoch) = plan.position(step);
        let mut range = plan.micro_batch(step_in_epoch, *lane);
        let mut segments: Vec<Segment> = Vec::new();
        while !range.is_empty() {
            let open = self.window(epoch, range.start);
            let end = range.end.min(open.window.positions.end);
            for position in range.start..end {
                let (piece, _) = open.window.record(position);
                if !open.cells[piece].initialized() {
                    open.wait(dataset, piece).await?;
                }
            }
            segments.push((open, range.start..end));
            range.start = end;
        }
        let kind = dataset.decoder.schema.target;
        let mut batch = pool.take().unwrap_or_else(|| Batch {
            lane: 0,
            step: 0,
            epoch: 0,
            inputs: Vec::new(),
            targets: Targets::new(kind),
            records: Vec::new(),
        });
        (batch.lane, batch.step, batch.epoch) = (*lane, step, epoch);
        let dataset = dataset.clone();
        let decoding = tokio::task::spawn_blocking(move || decode(&dataset, &segments, batch));
        decoding.await.map_err(|error| DataError::Broken(format!("decoding a batch: {error}")))?
    }

    /// The window that has a position of the lane's order in `epoch`; the one after it starts to be read.
    fn window(&mut self, epoch: u64, position: u64) -> Arc<OpenWindow> {
        let has = |opened: &Opened| opened.epoch == epoch && opened.open.window.positions.contains(&position);
        if !self.current.as_ref().is_some_and(has) {
            self.current = match self.next.take() {
                Some(next) if has(&next) => Some(next),
                _ => {
                    let order = Arc::new(self.work.plan.lane_order(epoch, self.work.lane));
                    let number = order.window_of(position);
                    self.open(epoch, number, order, None)
                }
            };
            self.next = self.current.as_ref().and_then(|current| self.following(current));
        }
        match &self.current {
            Some(current) => current.open.clone(),
            None => panic!("position {position} is in no window of lane {}", self.work.lane),
        }
    }

    fn following(&self, current: &Opened) -> Option<Opened> {
        let before = Some(&*current.open);
        if current.number + 1 < current.order.windows() {
            return self.open(current.epoch, current.number + 1, current.order.clone(), before);
        }
        if self.last_epoch.is_none_or(|last| current.epoch >= last) {
            return None;
        }
        let order = Arc::new(self.work.plan.lane_order(current.epoch + 1, self.work.lane));
        self.open(current.epoch + 1, 0, order, before)
    }

    fn open(
        &self,
        epoch: u64,
        number: usize,
        order: Arc<LaneOrder>,
        before: Option<&OpenWindow>,
    ) -> Option<Opened> {
        let window = order.window(number)?;
        let open = Arc::new(OpenWindow::open(&self.work.dataset, window, before));
        Some(Opened { epoch, number, order, open })
    }
}

/// Decodes the records of a micro-batch; all their chunks are in memory.
fn decode(dataset: &Dataset, segments: &[Segment], mut batch: Batch) -> Result<Batch, DataError> {
    let values = dataset.decoder.schema.values();
    let count: u64 = segments.iter().map(|(_, range)| range.end - range.start).sum();
    batch.inputs.resize(count as usize * values, 0.0);
    batch.targets.clear();
    batch.records.clear();
    let mut scratch = formats::csv::Scratch::default();
    let mut outputs = batch.inputs.chunks_exact_mut(values);
    for (open, range) in segments {
        for position in range.clone() {
            let (piece, record) = open.window.record(position);
            let chunk = &dataset.index().chunks()[open.window.pieces[piece].chunk as usize];
            let (Some(data), Some(out)) = (open.cells[piece].get(), outputs.next()) else {
                return Err(DataError::Broken("a chunk left memory while it was in use".into()));
            };
            let decoded = dataset.decoder.decode(data, record, out, &mut batch.targets, &mut scratch);
            decoded.map_err(|bad| {
                let file = &dataset.index().files()[chunk.file as usize];
                let (offset, line) = data.place(&dataset.decoder.codec, record);
                let in_file = chunk.first_record - file.first_record + u64::from(record);
                let place = (in_file, chunk.offset + offset, chunk.first_line + line + 1);
                formats::at_record(bad, &file.location, &dataset.decoder.codec, place)
            })?;
            batch.records.push(chunk.first_record + u64::from(record));
        }
    }
    Ok(batch)
}
