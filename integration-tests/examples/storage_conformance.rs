//! Runs the conformance suites of storage and outputs against a real file system.
//!
//! `storage_conformance URI` with `HADOOP_CONF_DIR` set; the folder at URI must not exist, and is removed at the end.

use ringspin_data::output;
use ringspin_data::storage::{HdfsOptions, Location, RetryPolicy, Storage, StorageOptions, conformance};
use ringspin_hadoop::conf::{Configuration, Environment};
use ringspin_hadoop::credentials::Credentials;
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let uri = std::env::args().nth(1).ok_or("usage: conformance URI")?;
    let variable = |name: &str| std::env::var(name).ok();
    let user = variable("HADOOP_USER_NAME").or_else(|| variable("USER")).unwrap_or_else(|| "root".into());
    let hdfs = match variable("HADOOP_CONF_DIR") {
        Some(folder) => {
            let environment = Environment::new(&user, "/", "/tmp", std::env::vars());
            Some(HdfsOptions {
                conf: Configuration::load(&[folder.into()], environment)?,
                user,
                credentials: Credentials::default(),
            })
        }
        None => None,
    };
    let storage = Storage::new(StorageOptions {
        base: Location::local("/".as_ref())?,
        hdfs,
        policy: RetryPolicy::interactive(),
        writer: "conformance".into(),
    });
    let folder = storage.locate(&uri)?;
    conformance::check(&storage, &folder).await;
    println!("storage: every promise kept at {folder}");
    output::conformance::check(&storage, &folder).await;
    println!("output: every promise kept at {folder}");
    Ok(())
}
