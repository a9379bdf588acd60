//! Which worker holds which lanes: as even as can be, local where possible, the same every time.

use std::collections::HashMap;

/// Deals lanes to workers so that their numbers differ by one at most.
///
/// `lane_hosts[lane]` lists hosts and the bytes of the lane that each has; `worker_hosts[worker]` is the host of
/// a worker. `held[worker]` lists lanes that a worker has already and keeps, as far as evenness allows: empty at
/// the start of a job; after a worker is gone, the lanes of the others, so that only what has to move moves.
///
/// Lanes that nobody holds go, most local bytes first, to workers on hosts that have them, then to whoever has
/// room, neighbours together. The answer has each worker's lanes in rising order, each lane exactly once.
///
/// # Panics
/// There are no workers, or `held` is longer than `worker_hosts`.
pub fn assign_lanes(
    lane_hosts: &[Vec<(String, u64)>],
    worker_hosts: &[String],
    held: &[Vec<usize>],
) -> Vec<Vec<usize>> {
    assert!(!worker_hosts.is_empty() && held.len() <= worker_hosts.len(), "no workers to hold lanes");
    let (lanes, workers) = (lane_hosts.len(), worker_hosts.len());
    let mut dealing = Dealing {
        assigned: vec![Vec::new(); workers],
        taken: vec![false; lanes],
        least: lanes / workers,
        // So many workers may have one lane more than `least`.
        longer: lanes % workers,
    };
    for (worker, lanes) in held.iter().enumerate() {
        for lane in lanes.iter().filter(|lane| **lane < lane_hosts.len()) {
            dealing.give(*lane, worker);
        }
    }
    let mut by_host: HashMap<&str, Vec<usize>> = HashMap::new();
    for (worker, host) in worker_hosts.iter().enumerate() {
        by_host.entry(host).or_default().push(worker);
    }
    let mut local = Vec::new();
    for (lane, hosts) in lane_hosts.iter().enumerate() {
        for (host, bytes) in hosts.iter().filter(|(_, bytes)| *bytes > 0) {
            if let Some(workers) = by_host.get(host.as_str()) {
                local.push((*bytes, lane, workers));
            }
        }
    }
    local.sort_by(|(a_bytes, a_lane, a), (b_bytes, b_lane, b)| {
        b_bytes.cmp(a_bytes).then(a_lane.cmp(b_lane)).then(a.cmp(b))
    });
    for (_, lane, workers) in local {
        let emptiest = workers.iter().min_by_key(|worker| (dealing.assigned[**worker].len(), **worker));
        if let Some(worker) = emptiest {
            dealing.give(lane, *worker);
        }
    }
    let mut rest = (0..lanes).filter(|lane| !dealing.taken[*lane]).collect::<Vec<_>>().into_iter().peekable();
    for worker in 0..workers {
        while let Some(lane) = rest.peek().copied() {
            if !dealing.give(lane, worker) {
                break;
            }
            rest.next();
        }
    }
    dealing.assigned.iter_mut().for_each(|lanes| lanes.sort_unstable());
    dealing.assigned
}

struct Dealing {
    assigned: Vec<Vec<usize>>,
    taken: Vec<bool>,
    least: usize,
    longer: usize,
}

impl Dealing {
    /// Gives a lane to a worker that has room for it.
    fn give(&mut self, lane: usize, worker: usize) -> bool {
        let has = self.assigned[worker].len();
        if self.taken[lane] || has > self.least || (has == self.least && self.longer == 0) {
            return false;
        }
        if has == self.least {
            self.longer -= 1;
        }
        self.taken[lane] = true;
        self.assigned[worker].push(lane);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn lane(hosts: &[(&str, u64)]) -> Vec<(String, u64)> {
        hosts.iter().map(|(host, bytes)| (host.to_string(), *bytes)).collect()
    }

    #[test]
    fn without_hosts_neighbours_stay_together() {
        let lanes = vec![Vec::new(); 8];
        let assigned = assign_lanes(&lanes, &hosts(&["a", "b", "c"]), &[]);
        assert_eq!(assigned, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
        assert_eq!(assign_lanes(&lanes[..2], &hosts(&["a", "b", "c"]), &[]), [vec![0], vec![1], vec![]]);
    }

    #[test]
    fn lanes_go_where_their_bytes_are() {
        let lanes =
            [lane(&[("a", 9), ("b", 1)]), lane(&[("b", 8), ("c", 8)]), lane(&[("a", 7)]), lane(&[("a", 9)])];
        let assigned = assign_lanes(&lanes, &hosts(&["c", "b", "a"]), &[]);
        // a has room for two of its three; lane 1 is as local to c as to b, and c comes first.
        assert_eq!(assigned, [vec![1], vec![2], vec![0, 3]]);
        let same_host = assign_lanes(&lanes, &hosts(&["a", "a"]), &[]);
        assert_eq!(same_host.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn survivors_keep_their_lanes() {
        let lanes = vec![lane(&[("a", 1)]); 6];
        let held = vec![vec![0, 1], vec![4, 5]];
        let assigned = assign_lanes(&lanes, &hosts(&["b", "c"]), &held);
        assert_eq!(assigned, [vec![0, 1, 2], vec![3, 4, 5]]);
        let grown = assign_lanes(&lanes, &hosts(&["b", "c", "d"]), &assigned);
        assert_eq!(grown, [vec![0, 1], vec![3, 4], vec![2, 5]]);
    }

    proptest! {
        #[test]
        fn every_lane_once_and_evenly(
            lanes in proptest::collection::vec(proptest::collection::vec((0usize..6, 0u64..9), 0..4), 0..60),
            workers in proptest::collection::vec(0usize..6, 1..20),
            gone in 0usize..20,
        ) {
            let name = |host: usize| format!("host{host}");
            let lanes: Vec<Vec<(String, u64)>> = lanes
                .into_iter()
                .map(|hosts| hosts.into_iter().map(|(host, bytes)| (name(host), bytes)).collect())
                .collect();
            let workers: Vec<String> = workers.into_iter().map(name).collect();
            let assigned = assign_lanes(&lanes, &workers, &[]);
            let check = |assigned: &[Vec<usize>]| {
                let mut all: Vec<usize> = assigned.concat();
                all.sort_unstable();
                prop_assert_eq!(all, (0..lanes.len()).collect::<Vec<_>>());
                let sizes = assigned.iter().map(Vec::len);
                prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
                Ok(())
            };
            check(&assigned)?;
            prop_assert_eq!(&assigned, &assign_lanes(&lanes, &workers, &[]));
            if workers.len() > 1 {
                let gone = gone % workers.len();
                let (mut held, mut left) = (assigned.clone(), workers.clone());
                held.remove(gone);
                left.remove(gone);
                let after = assign_lanes(&lanes, &left, &held);
                check(&after)?;
                for (before, after) in held.iter().zip(&after) {
                    prop_assert!(before.iter().all(|lane| after.contains(lane)), "a survivor lost a lane");
                }
            }
        }
    }
}
