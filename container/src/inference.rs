//! Using a trained model: measuring it on data, and predicting.

use crate::Misfortune;
use crate::measure::Measurer;
use crate::model_file::{Manifest, read_manifest, read_weights};
use crate::step::view;
use crate::train::{build_model, dataset_options};
use ringspin_control::messages::FailureKind;
use ringspin_control::status::Metrics;
use ringspin_data::index::index;
use ringspin_data::plan::{Deal, Order, Plan, PlanOptions};
use ringspin_data::reader::{Batch, Reader, ReaderOptions};
use ringspin_data::storage::{Location, Storage};
use ringspin_data::{Dataset, formats};
use ringspin_job::{Component, InputSpec};
use ringspin_nn::{BatchView, Model, Registry, Targets, Workspace};
use std::fmt::Write;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Records that go through the model together.
const BATCH: usize = 256;
/// Bytes of a file of predictions.
const PART_BYTES: usize = 64 << 20;

/// A trained model, read from its files.
pub struct Loaded {
    /// What its files say.
    pub manifest: Manifest,
    model: Arc<Model>,
    params: Arc<[f32]>,
}

impl Loaded {
    /// Reads a model.
    ///
    /// # Errors
    /// It is not there, damaged, or made of layers that this program does not know.
    pub async fn read(
        storage: &Storage,
        folder: &Location,
        registry: &Registry,
    ) -> Result<Loaded, Misfortune> {
        let manifest = read_manifest(storage, folder).await?;
        let model = Arc::new(build_model(registry, &manifest.job, &manifest.input)?);
        let params = read_weights(storage, folder, &manifest, &model).await?.into();
        Ok(Loaded { manifest, model, params })
    }

    /// What measures the model, besides its loss, by `metrics`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn measurer(&self, registry: &Registry, metrics: &[Component]) -> Result<Measurer, Misfortune> {
        Measurer::new(registry, metrics, &self.model)
    }
}

/// A model on its way through a data set.
pub struct Inference {
    loaded: Loaded,
    reader: Reader,
    steps: u64,
    workspace: Workspace,
}

impl Inference {
    /// Opens `input` for a model.
    ///
    /// # Errors
    /// The data can not be read or does not fit the model.
    pub async fn open(
        storage: &Storage,
        loaded: Loaded,
        input: &InputSpec,
        threads: usize,
        runtime: Handle,
    ) -> Result<Inference, Misfortune> {
        let index = index(storage, input).await?;
        if index.schema.shape != loaded.manifest.input {
            let message = format!(
                "{}: records have the shape {:?}, the model was trained on {:?}",
                input.path, index.schema.shape, loaded.manifest.input
            );
            return Err(Misfortune::new(FailureKind::Job, message));
        }
        let options =
            PlanOptions { lanes: 1, batch_size: BATCH, order: Order::Sequential, deal: Deal::FileOrder };
        let plan = Arc::new(Plan::new(&index, &options)?);
        let steps = plan.steps_per_epoch();
        let data_options =
            ringspin_data::DatasetOptions { cache_bytes: 0, ..dataset_options(input, &loaded.model) };
        let dataset = Dataset::new(storage.clone(), Arc::new(index), &data_options)?;
        let options = ReaderOptions { prefetch: input.prefetch, end_step: steps };
        let mut reader = Reader::new(runtime, Arc::new(dataset), plan, options);
        reader.hold(0, 0);
        let team = crate::train::team(&loaded.manifest.job, threads)?;
        let workspace = Workspace::for_inference(Arc::clone(&loaded.model), team, BATCH, &loaded.params);
        Ok(Inference { loaded, reader, steps, workspace })
    }

    fn next(&mut self) -> Result<Option<Batch>, Misfortune> {
        Ok(self.reader.next(0)?)
    }

    /// Measures the model on all records, by its loss and the metrics of `measurer`.
    ///
    /// # Errors
    /// The data can not be read, or has no targets.
    pub fn evaluate(&mut self, mut measurer: Measurer) -> Result<Metrics, Misfortune> {
        let mut measured = measurer.begin();
        for _ in 0..self.steps {
            let Some(batch) = self.next()? else { break };
            if matches!(batch.targets, formats::Targets::None) {
                return Err(Misfortune::new(
                    FailureKind::Job,
                    "the data has no labels to compare predictions with",
                ));
            }
            view(&self.loaded.model, &batch)?
                .check(self.loaded.model.input().elements(), self.loaded.model.targets())
                .map_err(|message| Misfortune::new(FailureKind::Job, message))?;
            measurer.measure(&mut self.workspace, &self.loaded.params, &batch, &mut measured)?;
            self.reader.recycle(batch);
        }
        Ok(measurer.metrics(measured))
    }

    /// Predicts all records in their order; `take` gets CSV files one after the other, each with a header, and
    /// says whether to go on. Gives the number of records.
    ///
    /// # Errors
    /// The data can not be read.
    pub fn predict(&mut self, mut take: impl FnMut(bytes::Bytes) -> bool) -> Result<u64, Misfortune> {
        let outputs = self.loaded.model.output().elements();
        let has_classes = matches!(self.loaded.model.targets(), ringspin_nn::TargetKind::Classes { .. });
        let header = header(outputs, has_classes);
        let mut values = vec![0.0; BATCH * outputs];
        let (mut records, mut part) = (0, header.clone());
        for _ in 0..self.steps {
            let Some(batch) = self.next()? else { break };
            let unlabelled = BatchView { targets: Targets::None, ..view(&self.loaded.model, &batch)? };
            let values = &mut values[..batch.count() * outputs];
            self.workspace.forward(&unlabelled, &self.loaded.params, Some(&mut *values));
            for (record, values) in batch.records.iter().zip(values.chunks_exact(outputs)) {
                row(&mut part, *record, values, has_classes);
                records += 1;
            }
            self.reader.recycle(batch);
            if part.len() >= PART_BYTES && !take(std::mem::replace(&mut part, header.clone()).into()) {
                return Ok(records);
            }
        }
        if part.len() > header.len() || records == 0 {
            take(part.into());
        }
        Ok(records)
    }
}

fn header(outputs: usize, has_classes: bool) -> String {
    let names: Vec<String> = (0..outputs).map(|i| format!("output_{i}")).collect();
    format!("record{},{}\n", if has_classes { ",class" } else { "" }, names.join(","))
}

/// `record,class,output_0,...`: the class is that of the largest output.
fn row(part: &mut String, record: u64, values: &[f32], has_classes: bool) {
    // Writing to a String can not fail.
    let _ = write!(part, "{record}");
    if has_classes {
        let largest = values.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, value)| {
            if *value > best.1 { (i, *value) } else { best }
        });
        let _ = write!(part, ",{}", largest.0);
    }
    for value in values {
        let _ = write!(part, ",{value}");
    }
    part.push('\n');
}
