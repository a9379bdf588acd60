//! What users of storage notice of an outage: looks up, reads and writes for some time, and prints for each how
//! often it worked, the longest gap between two successes, and what failed in the end.
//!
//! `cargo run -p ringspin-data --example outage -- URI SECONDS [RETRY_SECONDS]` with `HADOOP_CONF_DIR` set; works
//! in the folder URI, which must not exist. Meanwhile cut, stop or kill something (`scripts/hadoop cut node1`).

use bytes::Bytes;
use ringspin_data::storage::{
    HdfsOptions, Location, RetryPolicy, Storage, StorageError, StorageOptions, WriteOptions,
};
use ringspin_hadoop::conf::{Configuration, Environment};
use ringspin_hadoop::credentials::Credentials;
use std::error::Error;
use std::time::{Duration, Instant};

/// Bytes of the file that is read, in blocks of the cluster's size.
const FILE_BYTES: usize = 16 << 20;
/// Bytes of a read, and of a written file.
const PIECE_BYTES: usize = 256 << 10;
/// Wait between two operations.
const PAUSE: Duration = Duration::from_millis(20);

/// Repeats `once` for a time; the report of one kind of operation.
async fn repeat<F>(what: &str, time: Duration, mut once: impl FnMut(u64) -> F) -> String
where
    F: Future<Output = Result<(), StorageError>>,
{
    let start = Instant::now();
    let (mut count, mut failures, mut last, mut gap) = (0u64, 0, start, Duration::ZERO);
    let mut error = None;
    while start.elapsed() < time {
        match once(count).await {
            Ok(()) => {
                gap = gap.max(last.elapsed());
                last = Instant::now();
            }
            Err(failed) => (failures, error) = (failures + 1, Some(failed)),
        }
        count += 1;
        tokio::time::sleep(PAUSE).await;
    }
    let error = error.map(|error| format!("; last: {error}")).unwrap_or_default();
    format!("{what:6} {count:5} calls, {failures} failed, longest gap {:.2} s{error}", gap.as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().ok_or("usage: outage URI SECONDS [RETRY_SECONDS]")?;
    let time =
        Duration::from_secs(arguments.next().ok_or("usage: outage URI SECONDS [RETRY_SECONDS]")?.parse()?);
    let retry_for = Duration::from_secs(arguments.next().map_or(Ok(120), |seconds| seconds.parse())?);
    let user = std::env::var("HADOOP_USER_NAME").or_else(|_| std::env::var("USER")).unwrap_or("root".into());
    let folder = std::env::var("HADOOP_CONF_DIR")?;
    let environment = Environment::new(&user, "/", "/tmp", std::env::vars());
    let conf = Configuration::load(&[folder.into()], environment)?;
    let storage = Storage::new(StorageOptions {
        base: Location::local("/".as_ref())?,
        hdfs: Some(HdfsOptions { conf, user, credentials: Credentials::default() }),
        policy: RetryPolicy { retry_for, ..RetryPolicy::default() },
        writer: "outage".into(),
    });
    let folder = storage.locate(&uri)?;
    let content: Bytes = (0..FILE_BYTES).map(|i| (i / 7) as u8).collect::<Vec<_>>().into();
    let file = folder.join("file");
    storage.write(&file, content.clone(), WriteOptions::default()).await?;
    println!("started");
    let look_up = repeat("stat", time, |_| async { storage.stat(&file).await.map(|_| ()) });
    let read = repeat("read", time, |count| {
        let offset = (count as usize * 7_919 * 4_096) % (FILE_BYTES - PIECE_BYTES);
        let expected = content.slice(offset..offset + PIECE_BYTES);
        let (storage, file) = (&storage, &file);
        async move {
            let found = storage.read_range(file, offset as u64, PIECE_BYTES).await?;
            assert!(found == expected, "wrong content at {offset}");
            Ok(())
        }
    });
    let write = repeat("write", time, |count| {
        let (to, data) = (folder.join(&format!("w{}", count % 10)), content.slice(..PIECE_BYTES));
        let (storage, options) = (&storage, WriteOptions { overwrite: true, ..WriteOptions::default() });
        async move { storage.write(&to, data, options).await }
    });
    let (look_up, read, write) = tokio::join!(look_up, read, write);
    println!("{look_up}\n{read}\n{write}");
    for status in storage.list(&folder).await?.iter().filter(|status| !status.is_dir) {
        if status.location.name().ends_with(".tmp") {
            println!("left behind: {}", status.location);
        } else if status.location != file {
            let found = storage.read(&status.location, FILE_BYTES as u64).await?;
            assert!(found == content.slice(..PIECE_BYTES), "wrong content in {}", status.location);
        }
    }
    storage.delete(&folder, true).await?;
    Ok(())
}
