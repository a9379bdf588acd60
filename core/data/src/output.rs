//! How a folder of results appears: all of it at once, or not at all.
//!
//! Everything is written into a folder beside the output, `_NAME.JOB-ATTEMPT.tmp`, with `_SUCCESS` as the last
//! file; then that folder is renamed to the output's name. So whatever happens, a reader finds the complete
//! output under its name or nothing, and a folder with `_SUCCESS` is one that Hadoop's tools take for finished.
//!
//! Attempts of one job are fenced by their number: a new attempt first takes the temporary folders of older ones
//! away, and files are only created in folders that exist. An old ApplicationMaster that lives on, cut off from
//! the cluster, then finds nothing to rename. What it published before that, the new attempt finds and takes for
//! its own ([`Begun::Committed`]).

use crate::storage::{Location, Storage, StorageError, StorageErrorKind as Kind, WriteOptions};
use bytes::Bytes;

/// Name of the file that marks a complete output, as Hadoop's `FileOutputCommitter` writes it.
pub const SUCCESS: &str = "_SUCCESS";
/// Longest marker we read back; others wrote it when it is longer.
const MARKER_BYTES: u64 = 4_096;

type Result<T> = std::result::Result<T, StorageError>;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The job, such as its application id: letters, digits, `_` and `-`.
    pub job: String,
    /// Attempt of that job, rising.
    pub attempt: u32,
}

/// An output folder that is being written.
#[derive(Debug)]
pub struct Output {
    storage: Storage,
    target: Location,
    temporary: Location,
    owner: Owner,
    overwrite: bool,
}

/// What beginning an output may find.
#[derive(Debug)]
pub enum Begun {
    /// Nothing: write it.
    Fresh(Output),
    /// An earlier attempt of the same job has published the whole output.
    Committed,
}

impl Output {
    /// Checks that the output may be written and makes the temporary folder.
    ///
    /// # Errors
    /// `AlreadyExists` when something is there and `overwrite` is off; `PermissionDenied` when the user may not
    /// write beside it.
    pub async fn begin(storage: &Storage, target: &Location, overwrite: bool, owner: Owner) -> Result<Begun> {
        let temporary = target.sibling(&format!("{}.tmp", owned_name(target, &owner)));
        let output = Output { storage: storage.clone(), target: target.clone(), temporary, owner, overwrite };
        output.fence().await?;
        if storage.exists(target).await? {
            if output.is_ours().await? {
                output.remove_remains().await;
                return Ok(Begun::Committed);
            }
            if !overwrite {
                let error =
                    StorageError::new(Kind::AlreadyExists, "write the output to", target, "it exists");
                return Err(error.advise("choose another output, or ask for overwriting (--overwrite)"));
            }
        }
        storage.mkdirs(&output.temporary, 0o755).await?;
        Ok(Begun::Fresh(output))
    }

    /// Where the output will be.
    pub fn target(&self) -> &Location {
        &self.target
    }

    /// Folder that files are written to before they are published.
    pub fn folder(&self) -> &Location {
        &self.temporary
    }

    /// Makes a folder within the output.
    ///
    /// # Errors
    /// As [`Storage::mkdirs`]; `NotFound` when a newer attempt has taken the output over.
    pub async fn mkdirs(&self, name: &str) -> Result<()> {
        self.check_fence().await?;
        self.storage.mkdirs(&self.temporary.join(name), 0o755).await
    }

    /// Writes a file of the output; the folder it is in must have been made. Writing it again replaces it.
    ///
    /// # Errors
    /// `NotFound` when a newer attempt has taken the output over.
    pub async fn write(&self, name: &str, data: Bytes) -> Result<()> {
        let options = WriteOptions { overwrite: true, create_parents: false, ..WriteOptions::default() };
        self.storage.write(&self.temporary.join(name), data, options).await
    }

    /// Publishes the output. May be called again after an error: what has been done is recognised.
    ///
    /// # Errors
    /// `AlreadyExists` when somebody else published an output there meanwhile; `NotFound` when a newer attempt
    /// has taken over. The output is as it was before then.
    pub async fn commit(&self) -> Result<()> {
        if !self.storage.exists(&self.temporary).await? && self.is_ours().await? {
            self.remove_remains().await;
            return Ok(());
        }
        if self.storage.list(&self.temporary).await?.is_empty() {
            let detail = "nothing was written";
            return Err(StorageError::new(Kind::Other, "publish", &self.temporary, detail));
        }
        self.write(SUCCESS, self.marker().into()).await?;
        let old = self.old();
        if self.overwrite {
            match self.storage.rename(&self.target, &old, false).await {
                Err(error) if error.kind == Kind::NotFound => {}
                moved => moved?,
            }
        }
        if let Err(error) = self.storage.rename(&self.temporary, &self.target, false).await {
            if self.overwrite {
                // Nobody is to find less than before: the former output goes back, unless something is there.
                let _ = self.storage.rename(&old, &self.target, false).await;
            }
            return Err(error);
        }
        self.remove_remains().await;
        Ok(())
    }

    /// Gives the output up and removes what was written of it.
    ///
    /// # Errors
    /// The temporary folder could not be removed; it is litter, never an output.
    pub async fn abort(self) -> Result<()> {
        self.storage.delete(&self.temporary, true).await.map(|_| ())
    }

    /// Removes what attempts of a job that has ended left beside its output, and puts back a former output that
    /// one of them had moved aside. Nobody of the job may be writing any more.
    ///
    /// # Errors
    /// What was left could not be listed or removed.
    pub async fn sweep(storage: &Storage, target: &Location, job: &str) -> Result<()> {
        let owner = Owner { job: job.into(), attempt: u32::MAX };
        let (storage, target) = (storage.clone(), target.clone());
        let output = Output { storage, temporary: target.clone(), target, owner, overwrite: false };
        output.fence().await
    }

    /// Where a former output waits while the new one takes its name.
    fn old(&self) -> Location {
        self.target.sibling(&format!("{}.old", owned_name(&self.target, &self.owner)))
    }

    fn marker(&self) -> String {
        format!("job={}\nattempt={}\n", self.owner.job, self.owner.attempt)
    }

    /// Whether the published output is one of this job.
    async fn is_ours(&self) -> Result<bool> {
        let marker = match self.storage.read(&self.target.join(SUCCESS), MARKER_BYTES).await {
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::Other) => return Ok(false),
            marker => marker?,
        };
        let line = format!("job={}", self.owner.job);
        Ok(String::from_utf8_lossy(&marker).lines().next() == Some(line.as_str()))
    }

    /// Takes the temporary folders of earlier attempts away, and puts back a former output that one of them had
    /// moved aside and not replaced.
    async fn fence(&self) -> Result<()> {
        let Some(parent) = self.target.parent() else {
            let detail = "the output can not be the root of a file system";
            return Err(StorageError::new(Kind::Other, "write the output to", &self.target, detail));
        };
        let beside = match self.storage.list(&parent).await {
            Err(error) if error.kind == Kind::NotFound => return Ok(()),
            beside => beside?,
        };
        let remains = |end: &str| {
            beside
                .iter()
                .map(|status| &status.location)
                .filter(|at| {
                    self.attempt_of(at.name(), end).is_some_and(|attempt| attempt <= self.owner.attempt)
                })
                .cloned()
                .collect::<Vec<_>>()
        };
        for at in remains(".tmp") {
            self.storage.delete(&at, true).await?;
        }
        for at in remains(".old") {
            match self.storage.rename(&at, &self.target, false).await {
                Err(error) if error.kind == Kind::AlreadyExists => {
                    self.storage.delete(&at, true).await?;
                }
                moved => moved?,
            }
        }
        Ok(())
    }

    /// Attempt that a temporary name of this job's output belongs to.
    fn attempt_of(&self, name: &str, end: &str) -> Option<u32> {
        let start = format!("_{}.{}-", self.target.name(), self.owner.job);
        name.strip_prefix(&start)?.strip_suffix(end)?.parse().ok()
    }

    async fn check_fence(&self) -> Result<()> {
        self.storage.stat(&self.temporary).await.map(|_| ())
    }

    /// Removes what earlier attempts and the former output left; failures leave litter, not a wrong output.
    async fn remove_remains(&self) {
        for at in [self.temporary.clone(), self.old()] {
            if let Err(error) = self.storage.delete(&at, true).await {
                tracing::warn!("left behind: {error}");
            }
        }
    }
}

fn owned_name(target: &Location, owner: &Owner) -> String {
    format!("_{}.{}-{}", target.name(), owner.job, owner.attempt)
}

/// What every file system has to do for outputs; test support, as [`crate::storage::conformance`].
#[cfg(any(test, feature = "conformance"))]
pub mod conformance {
    use super::*;

    fn owner(attempt: u32) -> Owner {
        Owner { job: "application_1_0001".into(), attempt }
    }

    async fn fresh(storage: &Storage, target: &Location, overwrite: bool, attempt: u32) -> Output {
        match Output::begin(storage, target, overwrite, owner(attempt)).await.expect("begin") {
            Begun::Fresh(output) => output,
            Begun::Committed => panic!("nothing has been published yet"),
        }
    }

    async fn names(storage: &Storage, folder: &Location) -> Vec<String> {
        let found = storage.list(folder).await.expect("list");
        found.iter().map(|status| status.location.name().to_string()).collect()
    }

    async fn text(storage: &Storage, at: &Location) -> String {
        String::from_utf8_lossy(&storage.read(at, 1_000).await.expect("read")).into_owned()
    }

    /// Runs all of it in `folder`, which is made and removed.
    ///
    /// # Panics
    /// When a promise is broken.
    pub async fn check(storage: &Storage, folder: &Location) {
        storage.mkdirs(folder, 0o755).await.expect("mkdirs");
        let target = folder.join("model");
        publishing(storage, folder, &target).await;
        fencing(storage, folder, &target).await;
        replacing(storage, folder, &target).await;
        storage.delete(folder, true).await.expect("clean up");
    }

    async fn publishing(storage: &Storage, folder: &Location, target: &Location) {
        let output = fresh(storage, target, false, 1).await;
        assert!(output.commit().await.is_err(), "an output of nothing is none");
        output.mkdirs("parts").await.expect("mkdirs");
        output.write("weights", Bytes::from_static(b"1")).await.expect("write");
        output.write("weights", Bytes::from_static(b"2")).await.expect("write again");
        output.write("parts/0", Bytes::from_static(b"3")).await.expect("write below");
        assert!(!storage.exists(target).await.expect("stat"), "nothing shows before the commit");
        output.commit().await.expect("commit");
        assert_eq!(names(storage, folder).await, ["model"], "nothing is left beside it");
        assert_eq!(names(storage, target).await, [SUCCESS, "parts", "weights"]);
        assert_eq!(text(storage, &target.join("weights")).await, "2");
        output.commit().await.expect("a repeated commit is the same commit");
        let again = Output::begin(storage, target, false, owner(2)).await.expect("begin");
        assert!(matches!(again, Begun::Committed), "a later attempt finds the output published");
        let other = Owner { job: "application_1_0002".into(), attempt: 1 };
        let refused = Output::begin(storage, target, false, other).await.expect_err("another job");
        assert_eq!(refused.kind, Kind::AlreadyExists);
        assert!(refused.to_string().contains("--overwrite"), "{refused}");
        storage.delete(target, true).await.expect("delete");
    }

    async fn fencing(storage: &Storage, folder: &Location, target: &Location) {
        let old = fresh(storage, target, false, 1).await;
        old.write("weights", Bytes::from_static(b"old")).await.expect("write");
        let new = fresh(storage, target, false, 2).await;
        assert_eq!(old.write("x", Bytes::new()).await.expect_err("fenced").kind, Kind::NotFound);
        assert_eq!(old.mkdirs("y").await.expect_err("fenced").kind, Kind::NotFound);
        assert_eq!(old.commit().await.expect_err("fenced").kind, Kind::NotFound);
        new.write("weights", Bytes::from_static(b"new")).await.expect("write");
        new.commit().await.expect("commit");
        old.commit().await.expect("the job's output is there: nothing to do, nothing to break");
        assert_eq!(text(storage, &target.join("weights")).await, "new");
        storage.delete(target, true).await.expect("delete");
        let given_up = fresh(storage, target, false, 3).await;
        given_up.write("weights", Bytes::from_static(b"3")).await.expect("write");
        // Somebody else was faster.
        storage.mkdirs(target, 0o755).await.expect("mkdirs");
        assert_eq!(given_up.commit().await.expect_err("taken").kind, Kind::AlreadyExists);
        given_up.abort().await.expect("abort");
        assert_eq!(names(storage, folder).await, ["model"]);
        assert!(names(storage, target).await.is_empty());
        storage.delete(target, true).await.expect("delete");
    }

    async fn replacing(storage: &Storage, folder: &Location, target: &Location) {
        storage.write(&target.join("former"), Bytes::new(), WriteOptions::default()).await.expect("write");
        let output = fresh(storage, target, true, 1).await;
        output.write("weights", Bytes::from_static(b"1")).await.expect("write");
        assert_eq!(names(storage, target).await, ["former"], "the former output stays until the commit");
        output.commit().await.expect("commit");
        assert_eq!(names(storage, target).await, [SUCCESS, "weights"]);
        assert_eq!(names(storage, folder).await, ["model"]);
        // An attempt that died between the two renames: the next one puts the former output back.
        let aside = target.sibling("_model.application_1_0003-1.old");
        storage.rename(target, &aside, false).await.expect("rename");
        let next = Owner { job: "application_1_0003".into(), attempt: 2 };
        let begun = Output::begin(storage, target, true, next).await.expect("begin");
        assert!(matches!(begun, Begun::Fresh(_)));
        assert!(storage.exists(&target.join("weights")).await.expect("stat"));
        // A job that ended between them.
        storage.rename(target, &aside, false).await.expect("rename");
        Output::sweep(storage, target, "application_1_0003").await.expect("sweep");
        assert_eq!(names(storage, folder).await, ["model"], "neither temporary nor former output beside it");
        assert!(storage.exists(&target.join("weights")).await.expect("stat"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn local_outputs_are_published_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let storage = Storage::local(scratch.path()).unwrap();
        let folder = storage.locate("outputs").unwrap();
        conformance::check(&storage, &folder).await;
    }

    #[tokio::test]
    async fn an_output_in_a_folder_without_permission_is_refused_at_once() {
        let storage = Storage::local("/proc".as_ref()).unwrap();
        let target = storage.locate("model").unwrap();
        let owner = Owner { job: "local".into(), attempt: 1 };
        let error = Output::begin(&storage, &target, false, owner).await.unwrap_err();
        assert!(error.to_string().contains("file:///proc/_model.local-1.tmp"), "{error}");
    }
}
