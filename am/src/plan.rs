//! What the AM knows of the input: enough to ask for containers, to have records counted, and to deal lanes.

use ringspin_data::blocks::{FileBlocks, by_host, lane_hosts};
use ringspin_data::index::{DatasetIndex, IndexPart, IndexTask, Survey};
use ringspin_data::plan::{Deal, Order, Plan, PlanOptions, assign_lanes};
use ringspin_data::storage::BlockHosts;
use ringspin_job::{JobSpec, NumericsMode};
use std::collections::BTreeMap;

/// A host that holds some of the input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearHost {
    /// Its name.
    pub host: String,
    /// Its rack: an ask for a host without its rack is placed anywhere.
    pub rack: String,
}

/// The input, looked at.
#[derive(Clone, Debug)]
pub struct InputPlan {
    /// Training data.
    pub train: Survey,
    /// Validation data.
    pub validation: Option<Survey>,
    /// Hosts that hold the training data, most bytes first.
    pub hosts: Vec<NearHost>,
    /// Blocks of the training data's files, by location.
    pub blocks: BTreeMap<String, Vec<BlockHosts>>,
    /// Folder that rank 0 writes the model into before it is moved to its place.
    pub output: String,
    /// Number of lanes.
    pub lanes: usize,
    /// Records of a step.
    pub batch_size: usize,
    /// Whether bits must not depend on where blocks lie.
    pub reproducible: bool,
}

impl InputPlan {
    /// What was found, for a job: blocks of the training data's files, and the folder made for the output.
    pub fn new(
        job: &JobSpec,
        train: Survey,
        validation: Option<Survey>,
        (blocks, output): (BTreeMap<String, Vec<BlockHosts>>, String),
    ) -> Self {
        let mut bytes: BTreeMap<NearHost, u64> = BTreeMap::new();
        for block in blocks.values().flatten() {
            for (host, rack) in block.hosts.iter().zip(&block.racks) {
                let host = NearHost { host: host.clone(), rack: rack.clone() };
                *bytes.entry(host).or_default() += block.bytes;
            }
        }
        let mut hosts: Vec<(u64, NearHost)> = bytes.into_iter().map(|(host, bytes)| (bytes, host)).collect();
        hosts.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        InputPlan {
            train,
            validation,
            hosts: hosts.into_iter().map(|(_, host)| host).collect(),
            blocks,
            output,
            lanes: job.lanes,
            batch_size: job.batch_size,
            reproducible: job.numerics.mode == NumericsMode::Reproducible,
        }
    }

    /// What workers must count before lanes can be dealt, numbered: the training data's tasks, then the
    /// validation data's.
    pub fn scan_tasks(&self) -> Vec<(u32, IndexTask)> {
        let validation = self.validation.as_ref().map(Survey::tasks).unwrap_or_default();
        (0..).zip(self.train.tasks().into_iter().chain(validation)).collect()
    }

    /// The indexes, from what was counted.
    ///
    /// # Errors
    /// Parts are missing, or a data set has no record.
    pub fn complete(
        &self,
        mut parts: Vec<(u32, IndexPart)>,
    ) -> Result<(DatasetIndex, Option<DatasetIndex>), String> {
        parts.sort_by_key(|(number, _)| *number);
        let mut parts = parts.into_iter().map(|(_, part)| part);
        let train: Vec<IndexPart> = parts.by_ref().take(self.train.tasks().len()).collect();
        let train = self.train.clone().merge(train).map_err(|error| error.to_string())?;
        let validation = match &self.validation {
            Some(survey) => Some(survey.clone().merge(parts.collect()).map_err(|error| error.to_string())?),
            None => None,
        };
        Ok((train, validation))
    }

    /// Which worker has which lanes, and the order in which chunks are dealt to lanes: by host where bits may
    /// depend on it, so that lanes are local; as the files lie otherwise.
    ///
    /// # Errors
    /// The job's numbers allow no plan.
    pub fn deal_lanes(
        &self,
        train: &DatasetIndex,
        workers: &[String],
    ) -> Result<(Deal, Vec<Vec<usize>>), String> {
        let blocks: FileBlocks = train
            .files()
            .iter()
            .map(|file| self.blocks.get(&file.location.to_string()).cloned().unwrap_or_default())
            .collect();
        let known = blocks.iter().any(|blocks| !blocks.is_empty());
        let deal =
            if known && !self.reproducible { Deal::ByHost(by_host(train, &blocks)) } else { Deal::FileOrder };
        let options = PlanOptions {
            lanes: self.lanes,
            batch_size: self.batch_size,
            order: Order::Sequential,
            deal: deal.clone(),
        };
        let plan = Plan::new(train, &options).map_err(|error| error.to_string())?;
        Ok((deal, assign_lanes(&lane_hosts(&plan, train, &blocks), workers, &[])))
    }
}
