//! What a container's exit status means to a job.
//!
//! Numbers from `org.apache.hadoop.yarn.api.records.ContainerExitStatus` and from runs on real clusters; where a
//! number has several meanings the diagnostics decide.

use std::fmt;

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContainerExit {
    /// The process exited with 0.
    Succeeded,
    /// The process exited with this code; 128 + n for signal n.
    Failed {
        /// The code.
        code: i32,
    },
    /// The NodeManager killed it for using more memory than asked for.
    KilledForMemory {
        /// Address space was the limit, not resident memory.
        virtual_memory: bool,
    },
    /// The NodeManager killed it for filling its logs.
    KilledForLogs,
    /// A file could not be fetched, has changed since submission, or may not be read: it will fail again.
    LocalizationFailed,
    /// Taken back for another application.
    Preempted,
    /// Its node is gone, or has been silent for too long; the process may still run.
    NodeLost,
    /// All disks of the node are full or broken.
    DisksFailed,
    /// Given back by us.
    Released,
    /// Never started within the time that the ResourceManager allows (10 minutes).
    Expired,
    /// Aborted for another reason.
    Aborted,
    /// Stopped by us through the NodeManager.
    ByApplicationMaster,
    /// Killed by the ResourceManager.
    ByResourceManager,
    /// Killed because the application had ended.
    AfterApplication,
    /// Killed by the NodeManager's own scheduler in favour of a guaranteed container.
    ByNodeScheduler,
    /// The NodeManager was restarted and could not learn how it ended.
    Unknown,
}

impl ContainerExit {
    /// The meaning of a completed container's exit status.
    pub fn classify(status: i32, diagnostics: &str) -> Self {
        use ContainerExit::*;
        match status {
            0 => Succeeded,
            -100 if diagnostics.contains("*lost* node") => NodeLost,
            -100 if diagnostics.contains("released by application") => Released,
            -100 if diagnostics.contains("expired since it was unused") => Expired,
            -100 if diagnostics.contains("completed application") => AfterApplication,
            -100 => Aborted,
            -101 => DisksFailed,
            -102 => Preempted,
            -103 => KilledForMemory { virtual_memory: true },
            -104 => KilledForMemory { virtual_memory: false },
            -105 => ByApplicationMaster,
            -106 => ByResourceManager,
            -107 => AfterApplication,
            -108 => ByNodeScheduler,
            -109 => KilledForLogs,
            -1000 => LocalizationFailed,
            154 => Unknown,
            code => Failed { code },
        }
    }

    /// Whether it counts against the job: the job's own code, files or sizes are to blame, not the cluster.
    pub fn counts_against_job(self) -> bool {
        use ContainerExit::*;
        matches!(self, Failed { .. } | KilledForMemory { .. } | KilledForLogs | LocalizationFailed)
    }

    /// Whether starting the same again must end the same.
    pub fn is_permanent(self) -> bool {
        self == ContainerExit::LocalizationFailed
    }

    /// The signal that ended the process, as the shell around it reports.
    pub fn signal(self) -> Option<i32> {
        match self {
            ContainerExit::Failed { code } if (129..=192).contains(&code) => Some(code - 128),
            _ => None,
        }
    }
}

impl fmt::Display for ContainerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ContainerExit::*;
        let text = match self {
            Succeeded => "succeeded",
            Failed { code } => {
                return match self.signal() {
                    Some(signal) => write!(f, "killed by signal {signal} (exit status {code})"),
                    None => write!(f, "failed with exit status {code}"),
                };
            }
            KilledForMemory { virtual_memory: false } => "killed for using more memory than asked for",
            KilledForMemory { virtual_memory: true } => "killed for using more virtual memory than allowed",
            KilledForLogs => "killed for writing too much log",
            LocalizationFailed => "never ran: a file of it could not be localised",
            Preempted => "preempted for another application",
            NodeLost => "lost with its node",
            DisksFailed => "ended because the disks of its node failed",
            Released => "released",
            Expired => "expired before it was started",
            Aborted => "aborted",
            ByApplicationMaster => "stopped by the ApplicationMaster",
            ByResourceManager => "killed by the ResourceManager",
            AfterApplication => "killed at the end of the application",
            ByNodeScheduler => "killed by the NodeManager's scheduler",
            Unknown => "ended unseen while its NodeManager was away",
        };
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerExit::{self, *};

    #[test]
    fn statuses_mean_what_real_clusters_showed() {
        for (status, diagnostics, exit, counts) in [
            (0, "", Succeeded, false),
            (1, "", Failed { code: 1 }, true),
            (-100, "Container released on a *lost* node", NodeLost, false),
            (-100, "Container released by application", Released, false),
            (-100, "Container expired since it was unused", Expired, false),
            (-100, "Container of a completed application", AfterApplication, false),
            (-100, "", Aborted, false),
            (-101, "", DisksFailed, false),
            (-102, "Container preempted by scheduler", Preempted, false),
            (-103, "", KilledForMemory { virtual_memory: true }, true),
            (-104, "", KilledForMemory { virtual_memory: false }, true),
            (-105, "", ByApplicationMaster, false),
            (-106, "", ByResourceManager, false),
            (-107, "", AfterApplication, false),
            (-108, "", ByNodeScheduler, false),
            (-109, "", KilledForLogs, true),
            (-1000, "x changed on src filesystem", LocalizationFailed, true),
            (154, "", Unknown, false),
            (137, "", Failed { code: 137 }, true),
            (-7, "", Failed { code: -7 }, true),
        ] {
            assert_eq!(ContainerExit::classify(status, diagnostics), exit, "{status} {diagnostics}");
            assert_eq!(exit.counts_against_job(), counts, "{exit}");
        }
        assert!(LocalizationFailed.is_permanent() && !Failed { code: 1 }.is_permanent());
    }

    #[test]
    fn signals_are_named() {
        assert_eq!(Failed { code: 137 }.signal(), Some(9));
        assert_eq!(Failed { code: 137 }.to_string(), "killed by signal 9 (exit status 137)");
        assert_eq!(Failed { code: 3 }.to_string(), "failed with exit status 3");
    }
}
