//! What a NameNode knows of files: plain values out of its messages.

use super::messages::{
    DatanodeInfo, ErasureCodingPolicy, HdfsFileStatus, LocatedBlock, LocatedBlocks, TYPE_DIRECTORY, TYPE_FILE,
};

/// Rack of hosts whose cluster has no topology (`NetworkTopology.DEFAULT_RACK`).
const DEFAULT_RACK: &str = "/default-rack";

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, or something newer than this.
    Other,
}

/// An entry of a directory, or a file that was asked for by its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path on its NameNode.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes; 0 for directories.
    pub length: u64,
    /// When it was last changed, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Permission bits, such as `0o644`.
    pub permission: u32,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
    /// Copies of each block; 0 for directories.
    pub replication: u32,
    /// Bytes of a full block; 0 for directories.
    pub block_size: u64,
    /// Name of the erasure coding policy, if it has one.
    pub erasure_coding: Option<String>,
    /// Where its blocks are; of directories, none.
    pub blocks: FileBlocks,
}

/// Blocks of a file, or of the part that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileBlocks {
    /// Bytes of the whole file.
    pub length: u64,
    /// Whether somebody is writing it, or stopped without closing it: readers do not see its end then.
    pub under_construction: bool,
    /// Blocks by offset.
    pub blocks: Vec<Block>,
}

/// A block, or a group of blocks under erasure coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// HDFS's number of it.
    pub id: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Whether no good replica is known.
    pub corrupt: bool,
    /// Where it is, nearest to the caller first.
    pub replicas: Vec<Replica>,
}

/// A DataNode that has a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Host name as the DataNode gave it: what YARN's locality needs when NodeManagers call themselves the same.
    pub host: String,
    /// Rack, such as `/default-rack`.
    pub rack: String,
    /// IP address.
    pub ip: String,
    /// Port of data transfer.
    pub port: u32,
}

impl From<DatanodeInfo> for Replica {
    fn from(node: DatanodeInfo) -> Self {
        let rack = node.rack.filter(|rack| !rack.is_empty()).unwrap_or_else(|| DEFAULT_RACK.to_owned());
        Replica { host: node.id.host, rack, ip: node.id.ip, port: node.id.transfer_port }
    }
}

impl From<LocatedBlock> for Block {
    fn from(located: LocatedBlock) -> Self {
        Block {
            id: located.block.block_id,
            offset: located.offset,
            length: located.block.bytes.unwrap_or(0),
            corrupt: located.corrupt,
            replicas: located.locations.into_iter().map(Replica::from).collect(),
        }
    }
}

impl From<LocatedBlocks> for FileBlocks {
    fn from(located: LocatedBlocks) -> Self {
        let mut blocks: Vec<Block> = located.blocks.into_iter().map(Block::from).collect();
        blocks.sort_by_key(|block| block.offset);
        FileBlocks { length: located.file_length, under_construction: located.under_construction, blocks }
    }
}

/// Names of the built-in policies by number (`SystemErasureCodingPolicies`).
fn policy_name(policy: ErasureCodingPolicy) -> String {
    let built_in = [
        "replication",
        "RS-6-3-1024k",
        "RS-3-2-1024k",
        "RS-LEGACY-6-3-1024k",
        "XOR-2-1-1024k",
        "RS-10-4-1024k",
    ];
    let name = policy.name.filter(|name| !name.is_empty());
    let known = built_in.get(policy.id as usize).map(|name| (*name).to_owned());
    name.or(known).unwrap_or_else(|| format!("policy {}", policy.id))
}

impl Entry {
    /// The entry `name` of `directory`; an empty name is the path itself. `None` when the name is no UTF-8.
    pub(super) fn new(directory: &str, status: HdfsFileStatus) -> Option<Entry> {
        let name = String::from_utf8(status.name).ok()?;
        let path = match name.as_str() {
            "" => directory.to_owned(),
            name => format!("{}/{name}", directory.trim_end_matches('/')),
        };
        // Number 0 is plain replication.
        let policy = status.erasure_coding.filter(|policy| policy.id != 0);
        Some(Entry {
            path,
            kind: match status.file_type {
                TYPE_DIRECTORY => EntryKind::Directory,
                TYPE_FILE => EntryKind::File,
                _ => EntryKind::Other,
            },
            length: status.length,
            modified_ms: status.modification_time,
            permission: status.permission.bits,
            owner: status.owner,
            group: status.group,
            replication: status.replication.unwrap_or(0),
            block_size: status.block_size.unwrap_or(0),
            erasure_coding: policy.map(policy_name),
            blocks: status.locations.map(FileBlocks::from).unwrap_or_default(),
        })
    }
}
