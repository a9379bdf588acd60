//! The decisions, event by event, without clock, sockets or cluster.

use super::*;
use ringspin_control::messages::{Failure, Heartbeat, Progress};
use ringspin_data::index::Survey;
use ringspin_data::storage::{BlockHosts, Storage};
use ringspin_job::Settings;

/// A job of three workers (two at least) on twelve raw records.
struct Bench {
    machine: Machine,
    now: Duration,
    actions: Vec<Action>,
}

fn spec() -> JobSpec {
    let mut settings = Settings::new();
    let text = "[input]\npath = \"d\"\nformat = \"raw\"\nraw.shape = [4]\n[output]\npath = \"out\"\n\
                [model]\nname = \"mlp\"\n[workers]\nmin = 2\nmax = 3\nwait = \"1 min\"\n";
    settings.file("job.toml", text);
    JobSpec::resolve(settings).unwrap()
}

fn plan(spec: &JobSpec) -> InputPlan {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("records.bin"), [1u8; 5 * 12]).unwrap();
    let storage = Storage::local(folder.path()).unwrap();
    let mut input = spec.input.clone();
    input.path = folder.path().display().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let train = runtime.block_on(Survey::take(&storage, &input)).unwrap();
    let blocks = BTreeMap::from([(
        "elsewhere".to_string(),
        vec![BlockHosts { offset: 0, bytes: 60, hosts: vec!["node1".into()], racks: vec!["/r1".into()] }],
    )]);
    InputPlan::new(spec, train, None, (blocks, "out.tmp".into()))
}

fn near(host: &str) -> NearHost {
    NearHost { host: host.into(), rack: "/r1".into() }
}

fn exit(kind: ExitKind) -> Exit {
    Exit { kind, diagnostics: String::new() }
}

impl Bench {
    fn new() -> Self {
        let spec = spec();
        let context = JobContext {
            job: "{}".into(),
            application: "application_1_1".into(),
            hadoop: None,
            user: "alice".into(),
        };
        let job = Job { context, spec };
        let mut machine = Machine::new(job, Duration::ZERO);
        let actions = machine.begin();
        Bench { machine, now: Duration::ZERO, actions }
    }

    fn on(&mut self, event: Event) -> &mut Self {
        let actions = self.machine.handle(self.now, event);
        self.actions.extend(actions);
        self
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.on(Event::Tick)
    }

    /// The actions since the last look, without log lines.
    fn taken(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
            .into_iter()
            .filter(|action| !matches!(action, Action::Log(_)))
            .collect()
    }

    fn allocate(&mut self, number: u64) -> &mut Self {
        self.on(Event::Allocated {
            container: format!("c{number}"),
            host: format!("node{number}"),
            log_url: None,
        })
    }

    fn connect(&mut self, slot: u64) -> &mut Self {
        self.on(Event::Connected { slot, ring_address: format!("10.0.0.{slot}:7") })
    }

    fn say(&mut self, slot: u64, message: ToAm) -> &mut Self {
        self.on(Event::Said { slot, message })
    }

    fn waiting() -> Self {
        let mut bench = Bench::new();
        let plan = plan(&bench.machine.spec);
        bench.on(Event::Registered).on(Event::Planned(Box::new(plan)));
        bench
    }

    fn training() -> Self {
        let mut bench = Bench::waiting();
        for slot in 0..3 {
            bench.allocate(slot).connect(slot);
        }
        for slot in 0..3 {
            bench.say(slot, ToAm::Joined { generation: 1 });
        }
        assert_eq!(bench.machine.phase(), Phase::Training);
        bench.taken();
        bench
    }

    fn outcome(&self) -> Outcome {
        self.machine.outcome.clone().expect("the outcome is decided")
    }

    fn diagnostics(&self) -> String {
        match self.outcome() {
            Outcome::Failed { diagnostics } | Outcome::Killed { diagnostics } => diagnostics,
            Outcome::Succeeded { .. } => panic!("succeeded"),
        }
    }
}

fn lost(rank: usize) -> ToAm {
    ToAm::Failed(Failure { kind: FailureKind::PeerLost { rank }, message: format!("rank {rank} is lost") })
}

#[test]
fn a_job_goes_from_launch_to_success() {
    let mut bench = Bench::new();
    assert_eq!(bench.taken(), [Action::Plan]);
    let plan = plan(&bench.machine.spec);
    bench.on(Event::Planned(Box::new(plan)));
    assert_eq!(bench.taken(), [], "nothing is asked for before the cluster has taken us");
    bench.on(Event::Registered);
    assert_eq!(bench.taken(), [Action::Ask { count: 3, hosts: vec![near("node1")] }]);
    for slot in 0..3 {
        bench.allocate(slot);
    }
    let launches: Vec<Action> =
        (0..3).map(|slot| Action::Launch { slot, container: format!("c{slot}") }).collect();
    assert_eq!(bench.taken(), launches);
    for slot in 0..3 {
        bench.connect(slot);
    }
    let mut lanes_of_all = Vec::new();
    for (rank, action) in bench.taken().into_iter().enumerate() {
        let Action::Send { slot, message } = action else { panic!("{action:?}") };
        let ToWorker::Assign(assignment) = *message else { panic!("{message:?}") };
        assert_eq!((slot, assignment.rank, assignment.generation), (rank as u64, rank, 1));
        assert_eq!(assignment.peers, ["10.0.0.0:7", "10.0.0.1:7", "10.0.0.2:7"]);
        assert_eq!(assignment.train.records(), 12);
        lanes_of_all = assignment.lanes;
    }
    let mut lanes: Vec<usize> = lanes_of_all.concat();
    lanes.sort_unstable();
    assert_eq!(lanes, [0, 1, 2, 3, 4, 5], "every lane has one worker");
    for slot in 0..3 {
        bench.say(slot, ToAm::Joined { generation: 1 });
    }
    assert_eq!(bench.machine.phase(), Phase::Training);
    for slot in 0..3 {
        bench.say(slot, ToAm::Done);
    }
    assert_eq!(bench.taken(), [Action::Commit]);
    bench.on(Event::Committed);
    let exits: Vec<Action> =
        (0..3).map(|slot| Action::Send { slot, message: Box::new(ToWorker::Exit) }).collect();
    let mut expected = vec![Action::Ask { count: 0, hosts: vec![] }];
    expected.extend(exits);
    assert_eq!(bench.taken(), expected);
    for slot in 0..3 {
        bench.on(Event::Exited { container: format!("c{slot}"), exit: exit(ExitKind::Code(0)) });
    }
    assert_eq!(bench.taken(), [Action::Finish(Outcome::Succeeded { output: "out".into() })]);
    assert!(bench.machine.is_finished());
}

#[test]
fn training_starts_with_the_least_number_when_the_rest_does_not_come() {
    let mut bench = Bench::waiting();
    bench.allocate(0).connect(0).allocate(1).connect(1);
    bench.pass(SETTLE - Duration::from_millis(1));
    assert_eq!(bench.machine.phase(), Phase::Waiting);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.machine.phase(), Phase::Joining);
    bench.taken();
    bench.allocate(2);
    assert_eq!(bench.taken(), [Action::Release { container: "c2".into() }], "a late container is given back");
}

#[test]
fn a_container_that_is_being_started_is_waited_for() {
    let mut bench = Bench::waiting();
    bench.allocate(0).connect(0).allocate(1).connect(1).allocate(2);
    bench.pass(SETTLE * 2);
    assert_eq!(bench.machine.phase(), Phase::Waiting);
    bench.connect(2);
    assert_eq!(bench.machine.phase(), Phase::Joining);
}

#[test]
fn a_failed_start_is_made_again_elsewhere_until_too_many_have_failed() {
    let mut bench = Bench::waiting();
    bench.taken();
    for failure in 0..9 {
        bench.allocate(failure);
        let reason = "disk full".to_string();
        bench.on(Event::LaunchFailed { slot: failure, reason, passing: false });
        let actions = bench.taken();
        assert!(actions.contains(&Action::Release { container: format!("c{failure}") }));
        if failure < 8 {
            assert!(actions.contains(&Action::Avoid { host: format!("node{failure}") }));
            assert!(actions.contains(&Action::Ask { count: 3, hosts: vec![near("node1")] }));
        }
    }
    let said = bench.diagnostics();
    assert!(said.contains("9 starts of workers failed") && said.contains("disk full"), "{said}");
}

#[test]
fn a_worker_that_dies_while_others_are_waited_for_is_replaced() {
    let mut bench = Bench::waiting();
    bench.allocate(0).connect(0);
    bench.taken();
    bench.on(Event::Disconnected { slot: 0, reason: "reset".into() });
    bench.on(Event::Exited { container: "c0".into(), exit: exit(ExitKind::Code(1)) });
    let actions = bench.taken();
    assert!(actions.contains(&Action::Ask { count: 3, hosts: vec![near("node1")] }), "{actions:?}");
    bench.pass(CAUSE_GRACE * 2);
    assert!(bench.machine.outcome.is_none(), "the loss was answered, nothing is left to suspect");
}

#[test]
fn a_container_that_never_connects_is_stopped_and_replaced() {
    let mut bench = Bench::waiting();
    bench.allocate(0);
    bench.taken();
    bench.now = CONNECT_LIMIT;
    // Asked for anew although the wait for the least number is long over: that is decided first.
    bench.machine.waiting_since = bench.now;
    bench.on(Event::Tick);
    let actions = bench.taken();
    assert!(actions.contains(&Action::Stop { container: "c0".into() }), "{actions:?}");
    assert!(actions.contains(&Action::Ask { count: 3, hosts: vec![near("node1")] }), "{actions:?}");
}

#[test]
fn too_few_workers_end_the_job_and_the_cluster_is_quoted() {
    let mut bench = Bench::waiting();
    bench.allocate(0).connect(0);
    bench.on(Event::StillWaiting("queue is full".into()));
    bench.now = Duration::from_secs(59);
    bench.say(0, ToAm::Heartbeat(Heartbeat { step: 0, resident_bytes: 0, state: String::new() }));
    assert!(bench.machine.outcome.is_none());
    bench.pass(Duration::from_secs(1));
    let said = bench.diagnostics();
    assert!(said.contains("only 1 of at least 2 workers"), "{said}");
    assert!(said.contains("1 min") && said.contains("queue is full"), "{said}");
}

#[test]
fn the_container_that_died_is_the_cause_and_not_those_who_noticed() {
    let mut bench = Bench::training();
    bench.say(0, lost(1)).on(Event::Exited { container: "c0".into(), exit: exit(ExitKind::Code(71)) });
    bench.on(Event::Disconnected { slot: 1, reason: "reset".into() });
    assert!(bench.machine.outcome.is_none(), "the cause is waited for");
    bench.on(Event::Exited { container: "c1".into(), exit: exit(ExitKind::OverMemory) });
    let said = bench.diagnostics();
    assert!(said.starts_with("rank 1 on node1 (c1) was killed by the NodeManager"), "{said}");
    let actions = bench.taken();
    assert!(actions.contains(&Action::Discard), "{actions:?}");
    let told = actions.iter().filter(|action| matches!(action, Action::Send { .. })).count();
    assert_eq!(told, 1, "the one that lives is told: {actions:?}");
    bench.pass(EXIT_GRACE);
    let actions = bench.taken();
    assert!(matches!(actions.last(), Some(Action::Finish(Outcome::Failed { .. }))), "{actions:?}");
    assert!(actions.contains(&Action::Stop { container: "c2".into() }), "{actions:?}");
}

#[test]
fn without_a_cause_the_symptom_has_to_do() {
    let mut bench = Bench::training();
    bench.say(0, lost(2));
    bench.pass(CAUSE_GRACE);
    let said = bench.diagnostics();
    assert!(said.starts_with("rank 2 on node2 (c2) was lost") && said.contains("rank 0 on node0"), "{said}");
}

#[test]
fn an_accused_that_accuses_another_is_not_the_cause() {
    let mut bench = Bench::training();
    bench.say(0, lost(1)).say(1, lost(2));
    bench.pass(CAUSE_GRACE);
    assert!(bench.diagnostics().starts_with("rank 2 on node2"), "{}", bench.diagnostics());
}

#[test]
fn a_worker_that_says_why_is_quoted_even_if_its_end_is_known_first() {
    let mut bench = Bench::training();
    bench.on(Event::Exited { container: "c1".into(), exit: exit(ExitKind::Code(70)) });
    assert!(bench.machine.outcome.is_none());
    let failure = Failure { kind: FailureKind::NotFinite, message: "step 7: the loss is NaN".into() };
    bench.say(1, ToAm::Failed(failure));
    assert_eq!(bench.diagnostics(), "rank 1 on node1 (c1): step 7: the loss is NaN");
}

#[test]
fn silence_is_a_loss() {
    let mut bench = Bench::training();
    let timeout = bench.machine.spec.network.heartbeat_timeout;
    let beat = || ToAm::Heartbeat(Heartbeat { step: 1, resident_bytes: 1, state: "training".into() });
    bench.now += timeout - Duration::from_millis(1);
    bench.say(0, beat()).say(2, beat());
    bench.pass(Duration::from_millis(1));
    bench.pass(CAUSE_GRACE);
    let said = bench.diagnostics();
    assert!(said.starts_with("rank 1 on node1") && said.contains("no heartbeat for 10 s"), "{said}");
}

#[test]
fn a_worker_that_left_before_its_work_was_done_fails_the_job_whatever_its_status() {
    let mut bench = Bench::training();
    bench.say(0, ToAm::Done).say(1, ToAm::Done);
    bench.on(Event::Exited { container: "c2".into(), exit: exit(ExitKind::Code(0)) });
    assert!(
        bench.diagnostics().contains("rank 2 on node2 (c2) ended with exit status 0"),
        "{}",
        bench.diagnostics()
    );
}

#[test]
fn workers_that_all_leave_blaming_each_other_are_no_success() {
    for done in [0, 1] {
        let mut bench = Bench::training();
        // One may have done its part by then.
        for slot in 0..done {
            bench.say(slot, ToAm::Done);
        }
        for slot in done..3 {
            bench.say(slot, lost((slot as usize + 1) % 3));
            bench.on(Event::Exited { container: format!("c{slot}"), exit: exit(ExitKind::Code(71)) });
        }
        (0..done).for_each(|slot| {
            bench.on(Event::Exited { container: format!("c{slot}"), exit: exit(ExitKind::Code(0)) });
        });
        bench.pass(CAUSE_GRACE);
        assert!(matches!(bench.outcome(), Outcome::Failed { .. }));
        assert!(!bench.taken().contains(&Action::Commit));
    }
    // Also before the ring stands.
    let mut bench = Bench::waiting();
    for slot in 0..3 {
        bench.allocate(slot).connect(slot);
    }
    for slot in 0..3 {
        bench.on(Event::Exited { container: format!("c{slot}"), exit: exit(ExitKind::Code(70)) });
    }
    bench.pass(CAUSE_GRACE);
    assert!(matches!(bench.outcome(), Outcome::Failed { .. }));
    assert!(!bench.taken().contains(&Action::Commit));
}

#[test]
fn workers_lost_while_others_are_waited_for_do_not_count_and_are_all_replaced() {
    let mut bench = Bench::waiting();
    bench.allocate(0).connect(0).allocate(1).connect(1);
    for slot in 0..2 {
        bench.on(Event::Disconnected { slot, reason: "reset".into() });
    }
    bench.allocate(2).connect(2);
    bench.taken();
    bench.pass(SETTLE);
    assert_eq!(bench.machine.phase(), Phase::Waiting, "one of at least two is there");
    bench.pass(CAUSE_GRACE);
    let actions = bench.taken();
    for container in ["c0", "c1"] {
        assert!(actions.contains(&Action::Stop { container: container.into() }), "{actions:?}");
    }
    assert_eq!(actions.last(), Some(&Action::Ask { count: 2, hosts: vec![near("node1")] }));
}

#[test]
fn enough_workers_at_the_end_of_the_wait_go_on_without_the_rest() {
    let mut bench = Bench::waiting();
    bench.now = Duration::from_secs(59);
    bench.allocate(0).connect(0).allocate(1).connect(1).allocate(2);
    bench.taken();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.machine.phase(), Phase::Joining);
    assert!(bench.taken().contains(&Action::Stop { container: "c2".into() }));
}

#[test]
fn what_would_fail_again_ends_the_job_and_what_the_cluster_did_counts_for_nothing() {
    let mut bench = Bench::waiting();
    for slot in 0..20 {
        bench.allocate(slot);
        let kind = [ExitKind::Preempted, ExitKind::NodeLost, ExitKind::Expired][slot as usize % 3];
        bench.on(Event::Exited { container: format!("c{slot}"), exit: exit(kind) });
    }
    assert!(bench.machine.outcome.is_none());
    assert!(!bench.taken().iter().any(|action| matches!(action, Action::Avoid { .. })));
    bench.allocate(20).on(Event::Exited { container: "c20".into(), exit: exit(ExitKind::Localization) });
    assert!(bench.diagnostics().contains("could not be given its files"), "{}", bench.diagnostics());
}

#[test]
fn a_kill_ends_everything_and_the_first_outcome_stands() {
    let mut bench = Bench::training();
    bench.on(Event::KillRequested("Ctrl-C".into()));
    bench.on(Event::Exited { container: "c0".into(), exit: exit(ExitKind::Code(72)) });
    bench.on(Event::Refused("too late".into()));
    assert_eq!(bench.outcome(), Outcome::Killed { diagnostics: "Ctrl-C".into() });
    assert!(bench.taken().contains(&Action::Discard));
    bench.pass(EXIT_GRACE);
    assert!(matches!(bench.taken().last(), Some(Action::Finish(Outcome::Killed { .. }))));
}

#[test]
fn a_kill_before_anything_has_started_ends_at_once() {
    let mut bench = Bench::new();
    bench.taken();
    bench.on(Event::KillRequested("SIGTERM".into()));
    let actions = bench.taken();
    assert!(matches!(actions.last(), Some(Action::Finish(Outcome::Killed { .. }))), "{actions:?}");
}

#[test]
fn when_the_cluster_gives_the_attempt_up_the_job_ends() {
    let mut bench = Bench::training();
    bench.on(Event::ClusterGone("attempt 1 is over".into()));
    assert_eq!(bench.diagnostics(), "attempt 1 is over");
}

#[test]
fn a_restarted_resource_manager_registers_us_again_and_training_goes_on() {
    let mut bench = Bench::training();
    bench.on(Event::Registered);
    assert_eq!(bench.taken(), []);
    assert_eq!(bench.machine.phase(), Phase::Training);
    let mut bench = Bench::waiting();
    bench.allocate(0);
    bench.taken();
    // What was allocated before its restart can not be started any more.
    bench.on(Event::Registered);
    let reason = "allocated by a previous RM".to_string();
    bench.on(Event::LaunchFailed { slot: 0, reason, passing: true });
    let actions = bench.taken();
    assert!(actions.contains(&Action::Ask { count: 3, hosts: vec![near("node1")] }));
    assert!(!actions.iter().any(|action| matches!(action, Action::Avoid { .. })), "the host is not to blame");
    assert_eq!(bench.machine.start_failures, 0);
}

#[test]
fn wrong_input_ends_the_job_with_its_own_words() {
    let mut bench = Bench::new();
    bench.on(Event::Registered).on(Event::Refused("hdfs://nn/d: no such folder".into()));
    assert_eq!(bench.diagnostics(), "hdfs://nn/d: no such folder");
}

#[test]
fn a_model_that_can_not_be_moved_is_no_success() {
    let mut bench = Bench::training();
    for slot in 0..3 {
        bench.say(slot, ToAm::Done);
    }
    bench.on(Event::CommitFailed("no space".into()));
    assert!(bench.diagnostics().contains("no space"));
}

#[test]
fn what_an_earlier_attempt_has_published_is_not_made_again() {
    let mut bench = Bench::new();
    bench.on(Event::Registered).on(Event::Committed);
    assert_eq!(bench.outcome(), Outcome::Succeeded { output: "out".into() });
}

#[test]
fn a_stranger_slot_is_sent_away() {
    let mut bench = Bench::training();
    bench.connect(99);
    let actions = bench.taken();
    assert!(
        matches!(&actions[..], [Action::Send { slot: 99, message }] if matches!(**message, ToWorker::Abort { .. })),
        "{actions:?}"
    );
}

#[test]
fn what_people_want_to_know_is_logged_and_the_last_validation_counts() {
    let mut bench = Bench::training();
    let validated =
        |epoch, loss| ToAm::Validated { epoch, metrics: Metrics { records: 10, loss, ..Metrics::default() } };
    bench.say(0, validated(1, 0.5));
    bench.say(0, validated(2, 0.7));
    bench.say(0, ToAm::Note("the weights after epoch 2 were the best, and are kept".into()));
    let logged = |action: &Action| matches!(action, Action::Log(text) if text.contains("were the best"));
    assert!(bench.actions.iter().any(logged));
    bench.say(0, validated(1, 0.5));
    assert_eq!(bench.machine.status().validation.map(|metrics| metrics.loss), Some(0.5));
}

#[test]
fn the_status_tells_progress_and_time_left() {
    let mut bench = Bench::training();
    let metrics = Metrics { records: 1000, loss: 0.5, top1: Some(0.9), ..Metrics::default() };
    let progress = Progress {
        epoch: 1,
        step: 10,
        steps: 40,
        metrics,
        learning_rate: 0.1,
        elapsed_ms: 500,
        first_step_ms: 77,
    };
    bench.say(0, ToAm::Progress(progress));
    let status = bench.machine.status();
    assert_eq!((status.step, status.steps, status.records_per_second), (10, 40, 2000.0));
    assert_eq!(status.seconds_left, Some(1.5));
    assert_eq!(bench.machine.progress(), 0.25);
    assert_eq!(bench.machine.first_step_ms(), Some(77));
    assert_eq!(
        status.workers.iter().map(|worker| worker.rank).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2)]
    );
}
