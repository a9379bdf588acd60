//! The states that YARN names by numbers. A number that this version does not know is kept, never refused: a newer
//! Hadoop may send it.

use std::fmt;

/// An enum of Hadoop's: the variants with number and name, and whatever else a newer Hadoop may send. A macro,
/// because the three tables (variant, number, name) would have to be kept equal by hand six times.
macro_rules! hadoop_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A number that this version does not know.
            Other(i32),
        }

        impl $name {
            /// All known values.
            pub const KNOWN: &[$name] = &[$($name::$variant,)*];

            /// The value of a message's field.
            pub fn from_number(number: i32) -> Self {
                match number {
                    $($number => $name::$variant,)*
                    other => $name::Other(other),
                }
            }

            /// The value as messages carry it.
            pub fn number(self) -> i32 {
                match self {
                    $($name::$variant => $number,)*
                    $name::Other(number) => number,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($name::$variant => f.write_str($text),)*
                    $name::Other(number) => write!(f, "UNKNOWN({number})"),
                }
            }
        }
    };
}

hadoop_enum! {
    /// Where an application is in its life (`YarnApplicationState`).
    ApplicationState {
        /// Just created.
        New = 1 "NEW",
        /// Being written to the state store.
        NewSaving = 2 "NEW_SAVING",
        /// Handed to the scheduler.
        Submitted = 3 "SUBMITTED",
        /// Accepted by the scheduler; the AM has no container yet or is starting.
        Accepted = 4 "ACCEPTED",
        /// The AM has registered.
        Running = 5 "RUNNING",
        /// The AM has unregistered: [`FinalStatus`] tells how it went.
        Finished = 6 "FINISHED",
        /// All attempts failed, or the application was refused.
        Failed = 7 "FAILED",
        /// Killed by a user or an administrator.
        Killed = 8 "KILLED",
    }
}

hadoop_enum! {
    /// How an application ended, by its AM's word (`FinalApplicationStatus`).
    FinalStatus {
        /// Not ended yet.
        Undefined = 0 "UNDEFINED",
        /// All work done.
        Succeeded = 1 "SUCCEEDED",
        /// Failed.
        Failed = 2 "FAILED",
        /// Killed.
        Killed = 3 "KILLED",
        /// Ended, subtasks with different fates.
        Ended = 4 "ENDED",
    }
}

hadoop_enum! {
    /// Where an attempt is in its life (`YarnApplicationAttemptState`).
    AttemptState {
        /// Just created.
        New = 1 "NEW",
        /// Handed to the scheduler.
        Submitted = 2 "SUBMITTED",
        /// Waits for a container.
        Scheduled = 3 "SCHEDULED",
        /// Container allocated, being written to the state store.
        AllocatedSaving = 4 "ALLOCATED_SAVING",
        /// Container allocated.
        Allocated = 5 "ALLOCATED",
        /// Container started, AM not registered yet.
        Launched = 6 "LAUNCHED",
        /// Failed.
        Failed = 7 "FAILED",
        /// AM registered.
        Running = 8 "RUNNING",
        /// AM has unregistered, its container still runs.
        Finishing = 9 "FINISHING",
        /// Finished.
        Finished = 10 "FINISHED",
        /// Killed.
        Killed = 11 "KILLED",
    }
}

hadoop_enum! {
    /// Where a container is in its life (`ContainerState`).
    ContainerState {
        /// Not started yet.
        New = 1 "NEW",
        /// Being localised, or running.
        Running = 2 "RUNNING",
        /// Ended.
        Complete = 3 "COMPLETE",
    }
}

hadoop_enum! {
    /// What a node is good for (`NodeState`).
    NodeState {
        /// Not seen yet.
        New = 1 "NEW",
        /// In use.
        Running = 2 "RUNNING",
        /// Its health check fails (full disks, most often).
        Unhealthy = 3 "UNHEALTHY",
        /// Taken out.
        Decommissioned = 4 "DECOMMISSIONED",
        /// Silent for too long; processes on it may still run.
        Lost = 5 "LOST",
        /// Restarted.
        Rebooted = 6 "REBOOTED",
        /// Being taken out: containers run on, none start.
        Decommissioning = 7 "DECOMMISSIONING",
        /// Shut down in order.
        Shutdown = 8 "SHUTDOWN",
    }
}

hadoop_enum! {
    /// How far log aggregation is (`LogAggregationStatus`).
    LogAggregation {
        /// Off on this cluster.
        Disabled = 1 "DISABLED",
        /// Not started.
        NotStart = 2 "NOT_START",
        /// Running.
        Running = 3 "RUNNING",
        /// All logs are in the file system.
        Succeeded = 4 "SUCCEEDED",
        /// Failed.
        Failed = 5 "FAILED",
        /// A NodeManager did not report in time.
        TimeOut = 6 "TIME_OUT",
        /// Running, some failures so far.
        RunningWithFailure = 7 "RUNNING_WITH_FAILURE",
    }
}

hadoop_enum! {
    /// Whether a queue takes applications (`QueueState`).
    QueueState {
        /// Takes none.
        Stopped = 1 "STOPPED",
        /// In use.
        Running = 2 "RUNNING",
        /// Takes none, those inside run on.
        Draining = 3 "DRAINING",
    }
}

impl ApplicationState {
    /// Whether the application will not change any more.
    pub fn is_final(self) -> bool {
        matches!(self, ApplicationState::Finished | ApplicationState::Failed | ApplicationState::Killed)
    }

    /// Whether the ResourceManager has stored the application, so that it survives its restart.
    pub fn is_stored(self) -> bool {
        use ApplicationState::{New, NewSaving, Submitted};
        !matches!(self, New | NewSaving | Submitted)
    }
}

impl NodeState {
    /// Whether new containers may start there.
    pub fn is_usable(self) -> bool {
        matches!(self, NodeState::New | NodeState::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_hadoops() {
        for (state, number, name) in [
            (ApplicationState::NewSaving, 2, "NEW_SAVING"),
            (ApplicationState::Accepted, 4, "ACCEPTED"),
            (ApplicationState::Killed, 8, "KILLED"),
        ] {
            assert_eq!((state.number(), state.to_string().as_str()), (number, name));
            assert_eq!(ApplicationState::from_number(number), state);
        }
        assert_eq!(FinalStatus::from_number(2), FinalStatus::Failed);
        assert_eq!(NodeState::from_number(5), NodeState::Lost);
        assert_eq!(AttemptState::from_number(8), AttemptState::Running);
        assert_eq!(LogAggregation::from_number(4), LogAggregation::Succeeded);
    }

    #[test]
    fn final_and_stored_states() {
        let count =
            |f: fn(ApplicationState) -> bool| ApplicationState::KNOWN.iter().filter(|s| f(**s)).count();
        assert_eq!(count(ApplicationState::is_final), 3);
        assert_eq!(count(ApplicationState::is_stored), 5);
    }
}
