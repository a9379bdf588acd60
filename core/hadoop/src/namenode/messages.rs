//! Messages of `ClientNamenodeProtocol.proto` and `hdfs.proto`: the fields that are used, of the two calls.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetBlockLocationsRequest {
    #[prost(string, required, tag = "1")]
    pub(super) src: String,
    #[prost(uint64, required, tag = "2")]
    pub(super) offset: u64,
    #[prost(uint64, required, tag = "3")]
    pub(super) length: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetBlockLocationsResponse {
    /// Absent when there is no such file.
    #[prost(message, optional, tag = "1")]
    pub(super) locations: Option<LocatedBlocks>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetListingRequest {
    #[prost(string, required, tag = "1")]
    pub(super) src: String,
    #[prost(bytes = "vec", required, tag = "2")]
    pub(super) start_after: Vec<u8>,
    #[prost(bool, required, tag = "3")]
    pub(super) need_location: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetListingResponse {
    /// Absent when there is no such file or directory.
    #[prost(message, optional, tag = "1")]
    pub(super) listing: Option<DirectoryListing>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DirectoryListing {
    #[prost(message, repeated, tag = "1")]
    pub(super) entries: Vec<HdfsFileStatus>,
    #[prost(uint32, required, tag = "2")]
    pub(super) remaining: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LocatedBlocks {
    #[prost(uint64, required, tag = "1")]
    pub(super) file_length: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) blocks: Vec<LocatedBlock>,
    #[prost(bool, required, tag = "3")]
    pub(super) under_construction: bool,
    #[prost(message, optional, tag = "7")]
    pub(super) erasure_coding: Option<ErasureCodingPolicy>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LocatedBlock {
    #[prost(message, required, tag = "1")]
    pub(super) block: ExtendedBlock,
    #[prost(uint64, required, tag = "2")]
    pub(super) offset: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) locations: Vec<DatanodeInfo>,
    #[prost(bool, required, tag = "4")]
    pub(super) corrupt: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExtendedBlock {
    #[prost(uint64, required, tag = "2")]
    pub(super) block_id: u64,
    #[prost(uint64, optional, tag = "4")]
    pub(super) bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DatanodeInfo {
    #[prost(message, required, tag = "1")]
    pub(super) id: DatanodeId,
    #[prost(string, optional, tag = "8")]
    pub(super) rack: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DatanodeId {
    #[prost(string, required, tag = "1")]
    pub(super) ip: String,
    #[prost(string, required, tag = "2")]
    pub(super) host: String,
    #[prost(uint32, required, tag = "4")]
    pub(super) transfer_port: u32,
}

/// Only policies that are not built in carry a name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ErasureCodingPolicy {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(uint32, required, tag = "4")]
    pub(super) id: u32,
}

/// `HdfsFileStatusProto.FileType.IS_DIR`.
pub(super) const TYPE_DIRECTORY: i32 = 1;
/// `IS_FILE`.
pub(super) const TYPE_FILE: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub(super) struct HdfsFileStatus {
    #[prost(int32, required, tag = "1")]
    pub(super) file_type: i32,
    /// Name within the directory; empty when the file itself was listed.
    #[prost(bytes = "vec", required, tag = "2")]
    pub(super) name: Vec<u8>,
    #[prost(uint64, required, tag = "3")]
    pub(super) length: u64,
    #[prost(message, required, tag = "4")]
    pub(super) permission: FsPermission,
    #[prost(string, required, tag = "5")]
    pub(super) owner: String,
    #[prost(string, required, tag = "6")]
    pub(super) group: String,
    #[prost(uint64, required, tag = "7")]
    pub(super) modification_time: u64,
    #[prost(uint32, optional, tag = "10")]
    pub(super) replication: Option<u32>,
    #[prost(uint64, optional, tag = "11")]
    pub(super) block_size: Option<u64>,
    #[prost(message, optional, tag = "12")]
    pub(super) locations: Option<LocatedBlocks>,
    #[prost(message, optional, tag = "17")]
    pub(super) erasure_coding: Option<ErasureCodingPolicy>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FsPermission {
    #[prost(uint32, required, tag = "1")]
    pub(super) bits: u32,
}
