//! What is submitted: an application with its ApplicationMaster. It decides nothing; it refuses what the
//! ResourceManager would refuse late or cut without a word.

use super::launch::{LaunchContext, LaunchError};
use super::proto;
use super::resource::Resource;
use crate::ids::ApplicationId;
use std::time::Duration;
use thiserror::Error;

/// Type of our applications, as `yarn application -list -appTypes RINGSPIN` takes it.
pub const APPLICATION_TYPE: &str = "RINGSPIN";
/// The ResourceManager cuts longer types without a word.
const MAX_TYPE_CHARS: usize = 20;
/// `YarnConfiguration.APPLICATION_MAX_TAGS`.
const MAX_TAGS: usize = 10;
/// `YarnConfiguration.APPLICATION_MAX_TAG_LENGTH`.
const MAX_TAG_CHARS: usize = 100;

/// A submission that the ResourceManager would refuse or change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubmissionError {
    /// More tags than YARN takes.
    #[error("{0} tags, YARN takes at most {MAX_TAGS}")]
    TooManyTags(usize),
    /// A tag that YARN does not take.
    #[error("tag {0:?}: YARN takes 1 to {MAX_TAG_CHARS} ASCII characters")]
    Tag(String),
    /// A type that YARN would cut.
    #[error("application type {0:?}: YARN keeps at most {MAX_TYPE_CHARS} characters")]
    Type(String),
    /// The AM's launch context.
    #[error("the ApplicationMaster's container: {0}")]
    Launch(#[from] LaunchError),
}

/// Which log files of an application are collected when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPatterns {
    /// Regular expression of file names; `None`: all.
    pub include: Option<String>,
    /// Regular expression of file names to leave out.
    pub exclude: Option<String>,
    /// Regular expression of file names that are also collected while the application runs.
    pub rolled_include: Option<String>,
}

/// An application to submit. [`Submission::new`] has what must be given, the fields the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Name.
    pub name: String,
    /// Type, [`APPLICATION_TYPE`] unless somebody has a reason.
    pub kind: String,
    /// Queue: a leaf, by name or full path; `None`: the cluster's default.
    pub queue: Option<String>,
    /// Higher is earlier; `None`: the queue's default.
    pub priority: Option<i32>,
    /// Tags; upper case becomes lower case, because the ResourceManager only finds such.
    pub tags: Vec<String>,
    /// Node label of all containers without one of their own.
    pub node_label: Option<String>,
    /// Size of the AM's container.
    pub am: Resource,
    /// What the AM is started with.
    pub launch: LaunchContext,
    /// Attempts in all; 0: as many as the cluster allows, which is also the most.
    pub max_attempts: u32,
    /// Failed attempts older than this do not count; `None`: all count.
    pub failure_validity: Option<Duration>,
    /// Whether containers survive their AM and pass to the next attempt.
    pub keep_containers: bool,
    /// Whether the ResourceManager cancels the tokens when the application ends; false when others use them.
    pub cancel_tokens: bool,
    /// Killed after this; `None`: never.
    pub lifetime: Option<Duration>,
    /// Log aggregation.
    pub logs: Option<LogPatterns>,
}

impl Submission {
    /// An application of our type whose AM has the size `am`.
    pub fn new(name: impl Into<String>, am: Resource, launch: LaunchContext) -> Self {
        Submission {
            name: name.into(),
            kind: APPLICATION_TYPE.into(),
            queue: None,
            priority: None,
            tags: Vec::new(),
            node_label: None,
            am,
            launch,
            max_attempts: 0,
            failure_validity: None,
            keep_containers: true,
            cancel_tokens: true,
            lifetime: None,
            logs: None,
        }
    }

    /// The message for application `id`.
    pub fn to_proto(
        &self,
        id: ApplicationId,
    ) -> Result<proto::ApplicationSubmissionContext, SubmissionError> {
        if self.kind.chars().count() > MAX_TYPE_CHARS {
            return Err(SubmissionError::Type(self.kind.clone()));
        }
        Ok(proto::ApplicationSubmissionContext {
            application_id: Some(id.into()),
            application_name: Some(self.name.clone()),
            queue: self.queue.clone(),
            priority: self.priority.map(|priority| proto::Priority { priority: Some(priority) }),
            am_container_spec: Some(self.launch.to_proto()?),
            cancel_tokens_when_complete: Some(self.cancel_tokens),
            max_app_attempts: Some(i32::try_from(self.max_attempts).unwrap_or(i32::MAX)),
            resource: Some((&self.am).into()),
            application_type: Some(self.kind.clone()),
            keep_containers_across_application_attempts: Some(self.keep_containers),
            application_tags: checked_tags(&self.tags)?,
            attempt_failures_validity_interval: Some(self.failure_validity.map_or(-1, milliseconds)),
            log_aggregation_context: self.logs.as_ref().map(|logs| proto::LogAggregationContext {
                include_pattern: logs.include.clone(),
                exclude_pattern: logs.exclude.clone(),
                rolled_logs_include_pattern: logs.rolled_include.clone(),
                // Its default excludes everything, also from what the pattern above includes.
                rolled_logs_exclude_pattern: logs.rolled_include.as_ref().map(|_| String::new()),
                ..Default::default()
            }),
            node_label_expression: self.node_label.clone(),
            application_timeouts: self
                .lifetime
                .map(|lifetime| proto::ApplicationTimeoutMap {
                    application_timeout_type: Some(1),
                    timeout: Some(i64::try_from(lifetime.as_secs().max(1)).unwrap_or(i64::MAX)),
                })
                .into_iter()
                .collect(),
            ..Default::default()
        })
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn checked_tags(tags: &[String]) -> Result<Vec<String>, SubmissionError> {
    if tags.len() > MAX_TAGS {
        return Err(SubmissionError::TooManyTags(tags.len()));
    }
    let check = |tag: &String| match tag.is_ascii() && !tag.is_empty() && tag.len() <= MAX_TAG_CHARS {
        true => Ok(tag.to_ascii_lowercase()),
        false => Err(SubmissionError::Tag(tag.clone())),
    };
    tags.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::super::command::Command;
    use super::*;

    const ID: ApplicationId = ApplicationId { cluster_timestamp: 1_700_000_000_000, id: 7 };

    fn submission() -> Submission {
        Submission::new("job", Resource::new(256, 1), LaunchContext::new(Command::new("./rt")))
    }

    #[test]
    fn everything_said_is_in_the_message() {
        let full = Submission {
            queue: Some("root.ml".into()),
            priority: Some(3),
            tags: vec!["Team:A".into(), "b".into()],
            node_label: Some("fast".into()),
            max_attempts: 4,
            failure_validity: Some(Duration::from_secs(600)),
            lifetime: Some(Duration::from_millis(300)),
            logs: Some(LogPatterns { rolled_include: Some("std.*".into()), ..Default::default() }),
            cancel_tokens: false,
            ..submission()
        };
        let message = full.to_proto(ID).unwrap();
        assert_eq!(message.application_id.unwrap().plain(), Some(ID));
        assert_eq!(message.application_tags, ["team:a", "b"]);
        assert_eq!(message.application_type.as_deref(), Some("RINGSPIN"));
        assert_eq!(message.max_app_attempts, Some(4));
        assert_eq!(message.attempt_failures_validity_interval, Some(600_000));
        assert_eq!(message.application_timeouts[0].timeout, Some(1));
        assert_eq!(message.node_label_expression.as_deref(), Some("fast"));
        assert_eq!(message.cancel_tokens_when_complete, Some(false));
        assert_eq!(message.log_aggregation_context.unwrap().rolled_logs_exclude_pattern.as_deref(), Some(""));
    }

    #[test]
    fn what_is_not_said_is_left_to_the_cluster() {
        let message = submission().to_proto(ID).unwrap();
        assert_eq!((message.queue, message.priority, message.node_label_expression), (None, None, None));
        assert_eq!(message.max_app_attempts, Some(0));
        assert_eq!(message.attempt_failures_validity_interval, Some(-1));
        assert_eq!(message.keep_containers_across_application_attempts, Some(true));
        assert!(message.application_timeouts.is_empty());
    }

    #[test]
    fn what_yarn_would_refuse_or_cut_is_refused_here() {
        let with_tags = |tags: Vec<String>| Submission { tags, ..submission() }.to_proto(ID).map(|_| ());
        assert_eq!(with_tags(vec!["x".repeat(100); 10]), Ok(()));
        assert_eq!(with_tags(vec!["x".into(); 11]), Err(SubmissionError::TooManyTags(11)));
        for bad in ["", "größe", &"x".repeat(101)] {
            assert_eq!(with_tags(vec![bad.into()]), Err(SubmissionError::Tag(bad.into())));
        }
        let kind = "x".repeat(21);
        let long = Submission { kind: kind.clone(), ..submission() };
        assert_eq!(long.to_proto(ID), Err(SubmissionError::Type(kind)));
        let empty = Submission { launch: LaunchContext::default(), ..submission() };
        assert_eq!(empty.to_proto(ID), Err(SubmissionError::Launch(LaunchError::NoCommand)));
    }
}
