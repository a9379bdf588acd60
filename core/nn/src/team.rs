//! The threads of a worker: the container's cores are divided here, once, and nowhere else.
//!
//! A [`Team`] runs one piece of work on all its threads at a time. Work is cut into tasks; who takes which is free,
//! since no task's result depends on another's of the same piece, and none divides a sum. A thread begins with its own
//! part of them, the same part of every piece: what a layer wrote is then in the caches of the core that reads it in
//! the next. There are no nested pools: nothing called from a task may use the team.

use crate::kernels::Isa;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How often a waiting thread looks again before it sleeps: some 20 µs, longer than the gaps between the parts
/// of a step, shorter than what other processes on the same cores would notice.
const SPINS: usize = 4000;

type Work = dyn Fn(usize, usize) + Sync;

/// Persistent threads that work together; the caller's thread is one of them.
pub struct Team {
    shared: Arc<TeamState>,
    workers: Vec<JoinHandle<()>>,
    isa: Isa,
}

struct TeamState {
    /// Rises by one with each piece of work.
    round: AtomicUsize,
    /// Workers that have not finished the current piece.
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    /// The current piece: valid while `busy` is not 0.
    work: AtomicPtr<&'static Work>,
    /// Workers that have given up spinning, and whether the caller has: only those are woken, by a system call.
    asleep: AtomicUsize,
    caller_asleep: AtomicBool,
    sleep: Mutex<()>,
    begin: Condvar,
    end: Condvar,
    threads: usize,
    /// The next task of each thread's part.
    parts: Box<[Part]>,
}

/// Alone in its lines of the cache.
#[derive(Default)]
#[repr(align(128))]
struct Part(AtomicUsize);

impl Team {
    /// A team of `threads` threads, of which `threads - 1` are started here.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    ///
    /// # Panics
    /// When `threads` is 0.
    pub fn new(threads: usize) -> std::io::Result<Team> {
        assert!(threads > 0, "a team has at least one thread");
        let shared = Arc::new(TeamState {
            round: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            work: AtomicPtr::default(),
            asleep: AtomicUsize::new(0),
            caller_asleep: AtomicBool::new(false),
            sleep: Mutex::new(()),
            begin: Condvar::new(),
            end: Condvar::new(),
            threads,
            parts: (0..threads).map(|_| Part::default()).collect(),
        });
        let mut team = Team { shared: Arc::clone(&shared), workers: Vec::new(), isa: Isa::best() };
        for thread in 1..threads {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("compute-{thread}"));
            team.workers.push(builder.spawn(move || shared.serve(thread))?);
        }
        Ok(team)
    }

    /// Uses other instructions than the best the CPU has.
    #[must_use]
    pub fn with_isa(mut self, isa: Isa) -> Team {
        self.isa = isa;
        self
    }

    /// Instructions for the kernels that the team runs.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Calls `work(thread, threads)` once on every thread and returns when all have finished.
    ///
    /// # Panics
    /// When `work` panics on any thread.
    pub fn run(&mut self, work: &(dyn Fn(usize, usize) + Sync)) {
        let shared = &self.shared;
        if shared.threads == 1 {
            return work(0, 1);
        }
        // SAFETY: only the lifetime changes. Workers use the closure between `begin` and their decrement of `busy`, and
        // this function does not return, not even by unwinding, before `busy` is 0.
        let mut piece = unsafe { std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), &'static Work>(work) };
        shared.begin(&mut piece);
        let own = catch_unwind(AssertUnwindSafe(|| work(0, shared.threads)));
        shared.wait_for_workers();
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a compute thread panicked");
    }

    /// Calls `task(index, thread)` for every index below `tasks`, each once, on whichever thread is free.
    pub fn tasks(&mut self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        if tasks == 1 || self.threads() == 1 {
            return (0..tasks).for_each(|index| task(index, 0));
        }
        let shared = Arc::clone(&self.shared);
        let start = |thread: usize| thread * tasks / shared.threads;
        for (thread, part) in shared.parts.iter().enumerate() {
            part.0.store(start(thread), Ordering::Relaxed);
        }
        self.run(&|thread, threads| {
            // Its own part, then what is left of the others'.
            for part in (thread..threads).chain(0..thread) {
                let (next, end) = (&shared.parts[part].0, start(part + 1));
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= end {
                        break;
                    }
                    task(index, thread);
                }
            }
        });
    }
}

impl TeamState {
    fn begin(&self, piece: &mut &'static Work) {
        self.work.store(piece, Ordering::Relaxed);
        self.busy.store(self.threads - 1, Ordering::Relaxed);
        // Either this thread sees one that is going to sleep, or that one sees the new round: both orders are total.
        self.round.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            drop(self.lock());
            self.begin.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_workers(&self) {
        for _ in 0..SPINS {
            if self.busy.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        let mut sleep = self.lock();
        self.caller_asleep.store(true, Ordering::SeqCst);
        while self.busy.load(Ordering::SeqCst) != 0 {
            sleep = self.end.wait(sleep).unwrap_or_else(PoisonError::into_inner);
        }
        self.caller_asleep.store(false, Ordering::Relaxed);
    }

    /// Waits until the round is no longer `seen`; returns the piece of the new one, or `None` at the end.
    fn next_piece(&self, seen: usize) -> Option<&'static Work> {
        let goes_on = || self.round.load(Ordering::SeqCst) != seen || self.stop.load(Ordering::Relaxed);
        for _ in 0..SPINS {
            if goes_on() {
                break;
            }
            std::hint::spin_loop();
        }
        if !goes_on() {
            let mut sleep = self.lock();
            self.asleep.fetch_add(1, Ordering::SeqCst);
            while !goes_on() {
                sleep = self.begin.wait(sleep).unwrap_or_else(PoisonError::into_inner);
            }
            self.asleep.fetch_sub(1, Ordering::Relaxed);
        }
        if self.round.load(Ordering::Acquire) == seen {
            return None;
        }
        // SAFETY: `Team::run` keeps the closure, and the place of its address, until this thread has finished.
        Some(unsafe { *self.work.load(Ordering::Relaxed) })
    }

    /// The life of a worker thread.
    fn serve(&self, thread: usize) {
        let mut round = 0;
        while let Some(piece) = self.next_piece(round) {
            round += 1;
            let outcome = catch_unwind(AssertUnwindSafe(|| piece(thread, self.threads)));
            if outcome.is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            // The last one wakes a caller that sleeps; as in `begin`, one of the two sees the other.
            if self.busy.fetch_sub(1, Ordering::SeqCst) == 1 && self.caller_asleep.load(Ordering::SeqCst) {
                drop(self.lock());
                self.end.notify_one();
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(self.shared.lock());
        self.shared.begin.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its work, so that it ends well.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in 1..=4 {
            let mut team = Team::new(threads).unwrap();
            for tasks in [0, 1, 2, 7, 64] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                team.tasks(tasks, &|index, thread| {
                    assert!(thread < threads);
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn threads_see_what_was_written_before_and_after() {
        let mut team = Team::new(3).unwrap();
        let cells: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        for round in 0..2000 {
            team.run(&|thread, threads| {
                // The neighbour has finished the last round and may have finished this one.
                let neighbour = cells[(thread + 1) % threads].load(Ordering::Relaxed);
                assert!((round..=round + 1).contains(&neighbour));
                cells[thread].store(round + 1, Ordering::Relaxed);
            });
            assert!(cells.iter().all(|cell| cell.load(Ordering::Relaxed) == round + 1));
            if round % 500 == 0 {
                // Long enough for the workers to fall asleep.
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives_on() {
        let mut team = Team::new(2).unwrap();
        for culprit in 0..2 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                team.run(&|thread, _| assert_ne!(thread, culprit, "planned"));
            }));
            assert!(outcome.is_err());
        }
        let count = AtomicUsize::new(0);
        team.run(&|_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
