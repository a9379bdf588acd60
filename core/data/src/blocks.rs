//! Which hosts have which bytes: from the blocks of files to the hosts of chunks and lanes.
//!
//! Pure, but for the one function that asks. Files without blocks (local ones) have no hosts.

use crate::error::DataError;
use crate::index::{Chunk, DatasetIndex};
use crate::plan::Plan;
use crate::storage::{BlockHosts, Storage};
use std::collections::{BTreeMap, HashMap};

/// Blocks of the files of an index, in the order of [`DatasetIndex::files`] and within a file by offset.
pub type FileBlocks = Vec<Vec<BlockHosts>>;

/// Asks for the blocks of all files of an index.
///
/// # Errors
/// A file is gone, or nobody answers.
pub async fn locate(storage: &Storage, index: &DatasetIndex) -> Result<FileBlocks, DataError> {
    let files: Vec<_> = index.files().iter().map(|file| file.location.clone()).collect();
    Ok(storage.blocks(&files).await?)
}

/// Bytes of a range of a file that each host has.
fn range_hosts<'a>(blocks: &'a [BlockHosts], offset: u64, bytes: u64, add: &mut impl FnMut(&'a str, u64)) {
    let end = offset + bytes;
    let first = blocks.partition_point(|block| block.offset + block.bytes <= offset);
    for block in blocks[first..].iter().take_while(|block| block.offset < end) {
        let overlap = (block.offset + block.bytes).min(end) - block.offset.max(offset);
        block.hosts.iter().for_each(|host| add(host, overlap));
    }
}

fn blocks_of<'a>(index: &DatasetIndex, blocks: &'a FileBlocks, chunk: &Chunk) -> (&'a [BlockHosts], bool) {
    let file = chunk.file as usize;
    (blocks.get(file).map_or(&[][..], Vec::as_slice), index.files()[file].compressed)
}

/// Hosts of every lane with the bytes of it that each has, most bytes first: what
/// [`crate::plan::assign_lanes`] takes.
pub fn lane_hosts(plan: &Plan, index: &DatasetIndex, blocks: &FileBlocks) -> Vec<Vec<(String, u64)>> {
    (0..plan.lanes())
        .map(|lane| {
            let mut hosts: BTreeMap<&str, u64> = BTreeMap::new();
            for piece in plan.pieces(lane) {
                let chunk = &index.chunks()[piece.chunk as usize];
                let (blocks, compressed) = blocks_of(index, blocks, chunk);
                let mut add = |host, bytes| *hosts.entry(host).or_default() += bytes;
                if compressed {
                    // Offsets are those of the content; the file is read as a whole anyway.
                    range_hosts(blocks, 0, u64::MAX, &mut add);
                } else {
                    let each = chunk.bytes / u64::from(chunk.records.max(1));
                    range_hosts(blocks, chunk.offset + each * u64::from(piece.start), piece.bytes, &mut add);
                }
            }
            let mut hosts: Vec<_> =
                hosts.into_iter().map(|(host, bytes)| (host.to_string(), bytes)).collect();
            hosts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            hosts
        })
        .collect()
}

/// An order of chunks in which those of a host follow each other, for [`crate::plan::Deal::ByHost`].
///
/// Each chunk goes to the one of its hosts that has got the fewest bytes so far, so that replicas even out; hosts
/// follow each other by name, chunks of a host as they lie in files, and chunks without hosts come last.
pub fn by_host(index: &DatasetIndex, blocks: &FileBlocks) -> Vec<u32> {
    let mut given: HashMap<&str, u64> = HashMap::new();
    let mut groups: BTreeMap<(bool, &str), Vec<u32>> = BTreeMap::new();
    for (number, chunk) in index.chunks().iter().enumerate() {
        let (blocks, compressed) = blocks_of(index, blocks, chunk);
        let (offset, bytes) = if compressed { (0, u64::MAX) } else { (chunk.offset, chunk.bytes) };
        let mut hosts: BTreeMap<&str, u64> = BTreeMap::new();
        range_hosts(blocks, offset, bytes, &mut |host, bytes| *hosts.entry(host).or_default() += bytes);
        let most = hosts.values().copied().max().unwrap_or(0);
        // Among the hosts that have most of it, the one with the least to do.
        let best = hosts.iter().filter(|(_, bytes)| **bytes == most).map(|(host, _)| *host);
        let chosen = best.min_by_key(|host| (given.get(host).copied().unwrap_or(0), *host));
        if let Some(host) = chosen {
            *given.entry(host).or_default() += chunk.bytes;
        }
        groups.entry((chosen.is_none(), chosen.unwrap_or(""))).or_default().push(number as u32);
    }
    groups.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{BinaryCodec, Codec, Element, LabelPlace, RecordSchema, TargetKind};
    use crate::plan::{Deal, Order, PlanOptions, assign_lanes};

    fn block(offset: u64, bytes: u64, hosts: &[&str]) -> BlockHosts {
        let racks = hosts.iter().map(|_| "/default-rack".to_string()).collect();
        BlockHosts { offset, bytes, hosts: hosts.iter().map(ToString::to_string).collect(), racks }
    }

    /// 8 chunks of 10 records of 10 bytes in one file, without a header.
    fn index() -> DatasetIndex {
        let codec = BinaryCodec { element: Element::U8, values: 10, planes: 0, label: LabelPlace::None };
        let schema = RecordSchema { shape: vec![10], target: TargetKind::None, targets: 0 };
        let chunk = |i: u64| Chunk {
            file: 0,
            records: 10,
            first_record: i * 10,
            offset: i * 100,
            bytes: 100,
            first_line: 0,
        };
        DatasetIndex::for_tests(schema, Codec::Binary(codec), (0..8).map(chunk).collect())
    }

    fn plan(index: &DatasetIndex, lanes: usize, deal: Deal) -> Plan {
        Plan::new(index, &PlanOptions { lanes, batch_size: 4, order: Order::Sequential, deal }).unwrap()
    }

    #[test]
    fn lanes_know_the_bytes_of_every_replica() {
        let index = index();
        let blocks = vec![vec![block(0, 350, &["a", "b"]), block(350, 450, &["b", "c"])]];
        let hosts = lane_hosts(&plan(&index, 4, Deal::FileOrder), &index, &blocks);
        let hosts: Vec<Vec<_>> = hosts
            .iter()
            .map(|lane| lane.iter().map(|(host, bytes)| (host.as_str(), *bytes)).collect())
            .collect();
        assert_eq!(hosts[0], [("a", 200), ("b", 200)]);
        assert_eq!(hosts[1], [("b", 200), ("a", 150), ("c", 50)]);
        assert_eq!(hosts[3], [("b", 200), ("c", 200)]);
        assert_eq!(lane_hosts(&plan(&index, 2, Deal::FileOrder), &index, &vec![]), vec![vec![]; 2]);
    }

    #[test]
    fn chunks_grouped_by_host_make_local_lanes() {
        let index = index();
        // Hosts alternate, so that lanes in file order are half local at best.
        let blocks = vec![(0..8).map(|i| block(i * 100, 100, &[["a", "b"][i as usize % 2]])).collect()];
        let order = by_host(&index, &blocks);
        assert_eq!(order, [0, 2, 4, 6, 1, 3, 5, 7]);
        let plan = plan(&index, 4, Deal::ByHost(order));
        let hosts = lane_hosts(&plan, &index, &blocks);
        assert!(hosts.iter().all(|lane| lane.len() == 1 && lane[0].1 == 200), "{hosts:?}");
        assert_eq!(assign_lanes(&hosts, &["b".into(), "a".into()], &[]), [vec![2, 3], vec![0, 1]]);
    }

    #[test]
    fn replicas_share_the_work() {
        let index = index();
        let blocks = vec![(0..8).map(|i| block(i * 100, 100, &["a", "b", "c", "d"])).collect()];
        assert_eq!(by_host(&index, &blocks), [0, 4, 1, 5, 2, 6, 3, 7]);
        assert_eq!(by_host(&index, &vec![]), (0..8).collect::<Vec<_>>());
    }
}
