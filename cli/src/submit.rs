//! A job on its way into YARN: checks that the cluster can run it, files, submission.

use crate::exit::{CommandError, Exit};
use crate::staging;
use crate::surroundings::Hadoop;
use ringspin_am::bundle::{BUNDLE, Bundle, EXECUTABLE, SECRET_ALIAS, ShippedFile, may_travel};
use ringspin_am::run::now_ms;
use ringspin_data::storage::{Location, Storage};
use ringspin_hadoop::credentials::{Credentials, FileVersion, Secret, kind};
use ringspin_hadoop::ids::ApplicationId;
use ringspin_hadoop::yarn::client::{NewApplication, Wait, YarnClient, YarnError};
use ringspin_hadoop::yarn::command::Command;
use ringspin_hadoop::yarn::launch::LaunchContext;
use ringspin_hadoop::yarn::resource::Resource;
use ringspin_hadoop::yarn::submission::Submission;
use ringspin_job::{ContainerSpec, JobSecret, JobSpec};
use std::collections::BTreeMap;
use std::time::Duration;

/// Folder for staging when the job names none, below the user's home.
pub const STAGING: &str = ".ringspin";
/// How long an application whose submission was not confirmed is tried to be killed.
const UNCLEAR_KILL: Duration = Duration::from_secs(10);
/// Tokens that must never be handed on: they belong to whoever started us.
const OWN_TOKENS: [&str; 4] = [kind::AMRM, kind::NM, kind::CONTAINER, "mapreduce.job"];

/// A submitted job.
pub struct Submitted {
    /// Its id.
    pub application: ApplicationId,
    /// The ResourceManager.
    pub yarn: YarnClient,
    /// What lets this process watch the job.
    pub secret: JobSecret,
    /// The job's folder, to be removed should the AM never run.
    pub folder: Location,
    /// Where that is.
    pub storage: Storage,
    /// Bytes of executable that were uploaded; 0 when it was cached.
    pub uploaded_bytes: u64,
}

/// Submits `job`, whose paths are absolute.
///
/// # Errors
/// The cluster can not run it, files can not be uploaded, or the ResourceManager refuses.
pub async fn submit(hadoop: &Hadoop, storage: &Storage, job: JobSpec) -> Result<Submitted, CommandError> {
    let mut marks = vec![("started".to_string(), now_ms())];
    let yarn = hadoop.yarn()?;
    let staging = match job.yarn.staging.as_str() {
        "" => hadoop.home()?.join(STAGING),
        folder => {
            storage.locate(folder).map_err(|error| CommandError::usage(format!("yarn.staging: {error}")))?
        }
    };
    let executable = std::env::current_exe()
        .map_err(|error| CommandError::internal(format!("this executable can not be found: {error}")))?;
    let (new, staged) = tokio::join!(
        async { yarn.new_application().await.map_err(yarn_error) },
        staging::executable(storage, &staging, &executable),
    );
    let (new, staged) = (new?, staged?);
    check_size(&new, &job)?;
    check_queue(&yarn, &job).await?;
    marks.push(("executable in place".into(), now_ms()));
    let folder = staging::job_folder(storage, &staging, &new.id.to_string()).await?;
    let submitted = Submitted {
        application: new.id,
        yarn,
        secret: JobSecret::new(ringspin_am::random_bytes()),
        folder,
        storage: storage.clone(),
        uploaded_bytes: staged.uploaded_bytes,
    };
    match prepare(hadoop, &submitted, staged.file, job, &mut marks).await {
        Ok(submission) => {
            let sent = submitted.yarn.submit(new.id, &submission, Wait::default()).await;
            match sent {
                Ok(_) => Ok(submitted),
                Err(error @ (YarnError::Timeout { .. } | YarnError::Ipc(_))) => {
                    Err(submitted.unclear(error).await)
                }
                Err(error) => Err(submitted.take_back(yarn_error(error)).await),
            }
        }
        Err(error) => Err(submitted.take_back(error).await),
    }
}

impl Submitted {
    /// Removes the job's folder after a submission that came to nothing.
    async fn take_back(&self, error: CommandError) -> CommandError {
        self.remove_remains().await;
        error
    }

    /// The ResourceManager may have taken the application and start it yet: it is killed, or left alone.
    async fn unclear(&self, error: YarnError) -> CommandError {
        let wait = Wait { deadline: UNCLEAR_KILL, ..Wait::default() };
        match self.yarn.kill(self.application, "its submission was not confirmed", wait).await {
            Ok(_) | Err(YarnError::NotFound(_)) => self.take_back(yarn_error(error)).await,
            Err(_) => {
                let message =
                    format!("no word about {} since its submission: {error}; it may run", self.application);
                CommandError::new(Exit::LostContact, message)
            }
        }
    }

    /// Removes what the job may have left.
    pub async fn remove_remains(&self) {
        staging::remove_remains(&self.storage, &self.folder, &self.application.to_string()).await;
    }
}

async fn prepare(
    hadoop: &Hadoop,
    submitted: &Submitted,
    executable: ShippedFile,
    job: JobSpec,
    marks: &mut Vec<(String, u64)>,
) -> Result<Submission, CommandError> {
    let (storage, folder) = (&submitted.storage, &submitted.folder);
    let mut resources = BTreeMap::from([(EXECUTABLE.to_string(), executable.clone())]);
    for (list, archive) in [(&job.yarn.files, false), (&job.yarn.archives, true)] {
        for text in list {
            let (link, file) = staging::user_file(storage, folder, text, archive).await?;
            if resources.insert(link.clone(), file).is_some() {
                return Err(CommandError::usage(format!(
                    "{text}: two files would be called {link} in the container"
                )));
            }
        }
    }
    marks.push(("submitted".into(), now_ms()));
    let bundle = Bundle {
        job: job.clone(),
        user: hadoop.user.clone(),
        hadoop: hadoop.conf.resolved().into_iter().filter(|(key, _)| may_travel(key)).collect(),
        staging: folder.clone(),
        resources,
        marks: marks.clone(),
    };
    let text = serde_json::to_vec(&bundle).map_err(|error| CommandError::internal(error.to_string()))?;
    let bundle = staging::small_file(storage, folder, BUNDLE, text).await?;
    let mut launch =
        LaunchContext::new(Command::new(format!("./{EXECUTABLE}")).args(["am", "--job", BUNDLE]))
            .resource(EXECUTABLE, executable.to_resource().map_err(CommandError::internal)?)
            .resource(BUNDLE, bundle.to_resource().map_err(CommandError::internal)?)
            .tokens(credentials(&hadoop.credentials, &submitted.secret).to_bytes(FileVersion::Writable));
    for (name, value) in environment(&hadoop.user, &job) {
        launch = launch.variable(name, value);
    }
    let yarn = job.yarn;
    Ok(Submission {
        queue: Some(yarn.queue),
        priority: yarn.priority,
        tags: yarn.tags,
        node_label: yarn.node_label,
        max_attempts: yarn.max_attempts,
        failure_validity: Some(yarn.attempt_failures_validity),
        // Containers of an attempt that has ended are not taken over yet: they must not outlive it.
        keep_containers: false,
        // The tokens may be those of a workflow whose other steps still need them.
        cancel_tokens: false,
        ..Submission::new(job.name, resource(&job.am), launch)
    })
}

/// Variables of AM and workers.
pub fn environment(user: &str, job: &JobSpec) -> Vec<(String, String)> {
    // Each glibc arena reserves 64 MiB of address space, which counts where virtual memory is checked.
    let ours = [("HADOOP_USER_NAME", user), ("MALLOC_ARENA_MAX", "2")];
    let theirs = job.yarn.env.iter().filter_map(|entry| entry.split_once('='));
    ours.into_iter().chain(theirs).map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn credentials(given: &Credentials, secret: &JobSecret) -> Credentials {
    let mut credentials = given.clone();
    credentials.tokens.retain(|_, token| !OWN_TOKENS.contains(&token.kind.as_str()));
    credentials.secrets.insert(SECRET_ALIAS.into(), Secret(secret.as_bytes().to_vec()));
    credentials
}

/// A container as YARN counts: whole MiB.
pub fn resource(container: &ContainerSpec) -> Resource {
    Resource::new(
        container.memory_bytes.div_ceil(1 << 20),
        u32::try_from(container.vcores).unwrap_or(u32::MAX),
    )
}

fn check_size(new: &NewApplication, job: &JobSpec) -> Result<(), CommandError> {
    for (what, keys, container) in [
        ("a worker", "workers.memory, workers.vcores", &job.workers.container),
        ("the ApplicationMaster", "am.memory, am.vcores", &job.am),
    ] {
        if let Some(excess) = resource(container).exceeds(&new.maximum) {
            let message =
                format!("the cluster's largest container is too small for {what} ({keys}): {excess}");
            return Err(CommandError::refused(message));
        }
    }
    Ok(())
}

async fn check_queue(yarn: &YarnClient, job: &JobSpec) -> Result<(), CommandError> {
    let name = &job.yarn.queue;
    match yarn.queue(name).await {
        Ok(queue) if queue.children.is_empty() => Ok(()),
        Ok(queue) => {
            let leaves: Vec<&str> = queue.children.iter().map(|child| child.name.as_str()).collect();
            let message = format!(
                "queue {name} (yarn.queue) takes no applications itself; below it are: {}",
                leaves.join(", ")
            );
            Err(CommandError::refused(message))
        }
        Err(error @ YarnError::Ipc(_)) => Err(yarn_error(error)),
        // Below a queue that exists it may be made on demand, or hidden from us: the submission decides.
        Err(error) => match name.rsplit_once('.') {
            Some((parent, _)) if yarn.queue(parent).await.is_ok() => {
                tracing::warn!("queue {name} (yarn.queue): {error}");
                Ok(())
            }
            _ => Err(CommandError::refused(format!("no queue {name} (yarn.queue) on this cluster"))),
        },
    }
}

/// What the ResourceManager's refusals and silences mean to a user.
pub fn yarn_error(error: YarnError) -> CommandError {
    CommandError::refused(format!("ResourceManager: {error}"))
}
