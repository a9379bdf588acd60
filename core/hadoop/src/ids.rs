//! Names of applications, attempts and containers, written and read exactly as Hadoop does.
//!
//! Sources: `org.apache.hadoop.yarn.api.records.{ApplicationId, ApplicationAttemptId, ContainerId}`. The order
//! of the fields is the order Hadoop sorts by.

use std::fmt;
use std::str::FromStr;

/// Bits of a container's number below its epoch.
const EPOCH_SHIFT: u32 = 40;
/// The part of a container's number that counts containers within one life of the ResourceManager.
const SEQUENCE_MASK: i64 = (1 << EPOCH_SHIFT) - 1;
/// Largest epoch that fits above the sequence in a positive 64-bit number.
const MAX_EPOCH: i64 = i64::MAX >> EPOCH_SHIFT;

/// A text that is no id of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not {expected}")]
pub struct IdError {
    /// What was given.
    pub text: String,
    /// What an id of this kind looks like.
    pub expected: &'static str,
}

/// `application_<cluster timestamp>_<number>`: one run of a job on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationId {
    /// When the ResourceManager that gave the id was started, in milliseconds since 1970.
    pub cluster_timestamp: i64,
    /// Number of the application since then.
    pub id: i32,
}

/// `appattempt_<cluster timestamp>_<application>_<number>`: one life of an ApplicationMaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationAttemptId {
    /// The application.
    pub application: ApplicationId,
    /// Number of the attempt, from 1.
    pub attempt: i32,
}

/// `container_[e<epoch>_]<cluster timestamp>_<application>_<attempt>_<number>`.
///
/// The epoch counts restarts of the ResourceManager that kept their work; it is written only when it is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    /// The attempt that the container was given to.
    pub attempt: ApplicationAttemptId,
    /// `epoch << 40 | sequence`, as it stands in messages.
    pub id: i64,
}

impl ContainerId {
    /// How often the ResourceManager had been restarted when it gave this id.
    pub fn epoch(&self) -> i64 {
        self.id >> EPOCH_SHIFT
    }

    /// Number of the container within its epoch.
    pub fn sequence(&self) -> i64 {
        self.id & SEQUENCE_MASK
    }
}

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "application_{}_{:04}", self.cluster_timestamp, self.id)
    }
}

impl fmt::Display for ApplicationAttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ApplicationId { cluster_timestamp, id } = self.application;
        write!(f, "appattempt_{cluster_timestamp}_{id:04}_{:06}", self.attempt)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("container_")?;
        if self.epoch() > 0 {
            write!(f, "e{:02}_", self.epoch())?;
        }
        let ApplicationId { cluster_timestamp, id } = self.attempt.application;
        write!(f, "{cluster_timestamp}_{id:04}_{:02}_{:06}", self.attempt.attempt, self.sequence())
    }
}

/// A number of digits only: Java's parser takes a sign, but no id has one.
fn number<T: FromStr>(part: Option<&str>) -> Option<T> {
    part.filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// The two parts that every id has after its prefix.
fn application<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Option<ApplicationId> {
    Some(ApplicationId { cluster_timestamp: number(parts.next())?, id: number(parts.next())? })
}

impl FromStr for ApplicationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || {
            let mut parts = text.strip_prefix("application_")?.split('_');
            let id = application(&mut parts)?;
            parts.next().is_none().then_some(id)
        };
        let expected = "an application id such as application_1700000000000_0007";
        parse().ok_or_else(|| IdError { text: text.to_owned(), expected })
    }
}

impl FromStr for ApplicationAttemptId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || {
            let mut parts = text.strip_prefix("appattempt_")?.split('_');
            let id = ApplicationAttemptId {
                application: application(&mut parts)?,
                attempt: number(parts.next())?,
            };
            parts.next().is_none().then_some(id)
        };
        let expected = "an attempt id such as appattempt_1700000000000_0007_000001";
        parse().ok_or_else(|| IdError { text: text.to_owned(), expected })
    }
}

impl FromStr for ContainerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || {
            let mut parts = text.strip_prefix("container_")?.split('_').peekable();
            let epoch: i64 = match parts.peek()?.strip_prefix('e') {
                Some(epoch) => {
                    parts.next();
                    number(Some(epoch))?
                }
                None => 0,
            };
            let application = application(&mut parts)?;
            let attempt = ApplicationAttemptId { application, attempt: number(parts.next())? };
            let sequence: i64 = number(parts.next())?;
            let fits = epoch <= MAX_EPOCH && sequence <= SEQUENCE_MASK && parts.next().is_none();
            fits.then_some(ContainerId { attempt, id: epoch << EPOCH_SHIFT | sequence })
        };
        let expected = "a container id such as container_e01_1700000000000_0007_01_000002";
        parse().ok_or_else(|| IdError { text: text.to_owned(), expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: ApplicationId = ApplicationId { cluster_timestamp: 1_700_000_000_000, id: 7 };
    const ATTEMPT: ApplicationAttemptId = ApplicationAttemptId { application: APP, attempt: 1 };

    #[test]
    fn ids_are_written_and_read_as_hadoop_does() {
        let container = |id| ContainerId { attempt: ATTEMPT, id };
        for (id, text) in [
            (container(2), "container_1700000000000_0007_01_000002"),
            (container(1 << 40 | 2), "container_e01_1700000000000_0007_01_000002"),
            (container(123 << 40 | 1_234_567), "container_e123_1700000000000_0007_01_1234567"),
        ] {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
        }
        let app = ApplicationId { id: 12_345, ..APP };
        assert_eq!(APP.to_string(), "application_1700000000000_0007");
        assert_eq!("application_1700000000000_12345".parse(), Ok(app));
        assert_eq!(ATTEMPT.to_string(), "appattempt_1700000000000_0007_000001");
        assert_eq!(ATTEMPT.to_string().parse(), Ok(ATTEMPT));
    }

    #[test]
    fn limits_of_epoch_and_sequence_round_trip() {
        let last = ContainerId { attempt: ATTEMPT, id: i64::MAX };
        assert_eq!((last.epoch(), last.sequence()), (MAX_EPOCH, SEQUENCE_MASK));
        assert_eq!(last.to_string().parse(), Ok(last));
        let text = last.to_string().replace("e8388607", "e8388608");
        assert!(text.parse::<ContainerId>().is_err());
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "application_",
            "application_1_",
            "application_x_1",
            "application_1_2_3",
            "application_1_+2",
            "application_1_99999999999",
            "Application_1_1",
            "appattempt_1_1_1",
        ] {
            let error = text.parse::<ApplicationId>().unwrap_err();
            assert!(error.to_string().contains("application_1700000000000_0007"), "{error}");
        }
        for text in ["container_1_2_3", "container_e_1_2_3_4", "container_exx_1_2_3_4", "container_1_2_3_4_5"]
        {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
        assert!("container_1_2_3_1099511627776".parse::<ContainerId>().is_err());
        assert!("appattempt_1_1".parse::<ApplicationAttemptId>().is_err());
    }
}
