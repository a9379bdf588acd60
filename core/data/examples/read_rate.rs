//! How fast a file is read: the bare HDFS client, [`Storage`] on top of it, and the reader that a training thread
//! sees, in turns, so that all meet the same caches.
//!
//! `cargo run --release -p ringspin-data --example read_rate -- URI [ROUNDS]` with `HADOOP_CONF_DIR` set; the file
//! may hold anything, it is read as raw records of 4 KiB.

use futures_util::StreamExt;
use ringspin_data::plan::{Deal, Order, Plan, PlanOptions};
use ringspin_data::reader::{Reader, ReaderOptions};
use ringspin_data::storage::{HdfsOptions, Location, RetryPolicy, Storage, StorageOptions};
use ringspin_data::{Dataset, DatasetOptions, index};
use ringspin_hadoop::conf::{Configuration, Environment};
use ringspin_hadoop::credentials::Credentials;
use ringspin_job::{InputFormat, InputSpec, RawDtype, RawLayout};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of a record.
const RECORD_BYTES: usize = 4_096;
/// Lanes of the worker that is played.
const LANES: usize = 2;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The cluster's configuration and the user, from the environment as Hadoop's own tools take them.
fn hadoop() -> Result<HdfsOptions> {
    let variable = |name: &str| std::env::var(name).ok();
    let user = variable("HADOOP_USER_NAME").or_else(|| variable("USER")).unwrap_or_else(|| "root".into());
    let folder = variable("HADOOP_CONF_DIR").ok_or("HADOOP_CONF_DIR is not set")?;
    let environment = Environment::new(&user, "/", "/tmp", std::env::vars());
    let conf = Configuration::load(&[folder.into()], environment)?;
    Ok(HdfsOptions { conf, user, credentials: Credentials::default() })
}

/// Bytes and time of one way of reading.
type Measured = (u64, Duration);

/// Processor time of this process so far, in ticks of 10 ms (utime and stime of `proc_pid_stat(5)`).
fn ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
}

async fn bare(config: &BTreeMap<String, String>, user: &str, at: &Location) -> Result<Measured> {
    let client = hdfs_native::ClientBuilder::new()
        .with_url(format!("hdfs://{}", at.authority()))
        .with_config(config.clone())
        .with_config_dir("/dev/null")
        .with_user(user)
        .build()?;
    let start = Instant::now();
    let file = client.read(at.path()).await?;
    let mut stream = std::pin::pin!(file.read_range_stream(0, file.file_length()));
    let mut bytes = 0;
    while let Some(packet) = stream.next().await {
        bytes += packet?.len() as u64;
    }
    Ok((bytes, start.elapsed()))
}

async fn ahead(storage: &Storage, at: &Location) -> Result<Measured> {
    let start = Instant::now();
    let length = storage.stat(at).await?.length;
    let (mut pieces, mut bytes) = (storage.read_ahead(at, 0..length), 0);
    while let Some(piece) = pieces.next().await? {
        bytes += piece.len() as u64;
    }
    Ok((bytes, start.elapsed()))
}

fn batches(handle: &tokio::runtime::Handle, dataset: Dataset) -> Result<Measured> {
    let order = Order::Shuffled { seed: 1, window_bytes: 64 << 20 };
    let options = PlanOptions { lanes: LANES, batch_size: 128, order, deal: Deal::FileOrder };
    let plan = Arc::new(Plan::new(dataset.index(), &options)?);
    let start = Instant::now();
    let options = ReaderOptions { prefetch: 4, end_step: plan.steps_per_epoch() };
    let mut reader = Reader::new(handle.clone(), Arc::new(dataset), plan, options);
    (0..LANES).for_each(|lane| reader.hold(lane, 0));
    let mut bytes = 0;
    for _ in 0..options.end_step {
        for lane in 0..LANES {
            if let Some(batch) = reader.next(lane)? {
                bytes += (batch.count() * RECORD_BYTES) as u64;
                reader.recycle(batch);
            }
        }
    }
    Ok((bytes, start.elapsed()))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().ok_or("usage: read_rate URI [ROUNDS]")?;
    let rounds: usize = arguments.next().map_or(Ok(5), |rounds| rounds.parse())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let base = Location::local("/".as_ref())?;
    let hdfs = if uri.starts_with("hdfs:") { Some(hadoop()?) } else { None };
    let policy = RetryPolicy::interactive();
    let storage = Storage::new(StorageOptions { base, hdfs: hdfs.clone(), policy, writer: "bench".into() });
    let at = storage.locate(&uri)?;
    let whole = runtime.block_on(storage.stat(&at))?.length;
    let spec = InputSpec {
        path: uri,
        format: InputFormat::Raw {
            files: String::new(),
            header_bytes: whole % RECORD_BYTES as u64,
            label_bytes: 0,
            dtype: RawDtype::U8,
            shape: vec![RECORD_BYTES],
            layout: RawLayout::Hwc,
        },
        mean: vec![],
        std: vec![],
        prefetch: 4,
        cache_bytes: 0,
        shuffle_bytes: 64 << 20,
        reconstruct: false,
    };
    let index = Arc::new(runtime.block_on(index::index(&storage, &spec))?);
    let mut rows: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for _ in 0..rounds {
        let mut before = ticks();
        let mut note = |name, (bytes, time): Measured| {
            let used = (ticks() - before) / 100.0;
            rows.entry(name).or_default().push((bytes as f64 / time.as_secs_f64() / 1e6, used));
            before = ticks();
        };
        if let Some(hdfs) = &hdfs {
            note("1 hdfs-native", runtime.block_on(bare(&hdfs.conf.resolved(), &hdfs.user, &at))?);
        }
        note("2 storage", runtime.block_on(ahead(&storage, &at))?);
        let dataset = Dataset::new(storage.clone(), index.clone(), &DatasetOptions::default())?;
        note("3 reader", batches(runtime.handle(), dataset)?);
    }
    for (name, rates) in &mut rows {
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (median, best) = (rates[rates.len() / 2].0, rates[rates.len() - 1].0);
        let used = rates.iter().map(|rate| rate.1).sum::<f64>() / rates.len() as f64;
        println!("{name:14} median {median:7.0} MB/s  best {best:7.0} MB/s  processor {used:5.2} s");
    }
    Ok(())
}
