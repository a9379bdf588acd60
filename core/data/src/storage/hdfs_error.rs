//! What HDFS and its client say, turned into kinds of [`StorageError`].

use super::error::io_kind;
use super::{Location, StorageError, StorageErrorKind as Kind};
use hdfs_native::HdfsError;
use std::time::Duration;

/// Exceptions of the NameNode by the end of their class name.
const EXCEPTIONS: [(&str, Kind); 17] = [
    ("java.io.FileNotFoundException", Kind::NotFound),
    (".AccessControlException", Kind::PermissionDenied),
    (".AuthorizationException", Kind::PermissionDenied),
    ("SecretManager$InvalidToken", Kind::PermissionDenied),
    ("SaslException", Kind::PermissionDenied),
    (".FileAlreadyExistsException", Kind::AlreadyExists),
    (".AlreadyBeingCreatedException", Kind::AlreadyExists),
    ("QuotaExceededException", Kind::NoSpace),
    ("QuotaByStorageTypeExceededException", Kind::NoSpace),
    (".SafeModeException", Kind::Unreachable),
    (".StandbyException", Kind::Unreachable),
    (".RetriableException", Kind::Unreachable),
    (".NoNamenodesAvailableException", Kind::Unreachable),
    (".NotReplicatedYetException", Kind::Unreachable),
    // The lease of a file that we write is gone when the NameNode lost our create: the file is written anew.
    (".LeaseExpiredException", Kind::Unreachable),
    ("java.net.ConnectException", Kind::Unreachable),
    (".ReplicaNotFoundException", Kind::Unreachable),
];

/// Turns an error of the client crate into ours.
pub(super) fn convert(action: &'static str, at: &Location, error: HdfsError) -> StorageError {
    let new = |kind, detail: String| StorageError::new(kind, action, at, detail);
    match error {
        HdfsError::RPCError(class, message) | HdfsError::FatalRPCError(class, message) => {
            remote(action, at, &class, &message)
        }
        HdfsError::FileNotFound(_) => new(Kind::NotFound, "no such file or folder".into()),
        HdfsError::AlreadyExists(message) => new(Kind::AlreadyExists, first_line(&message)),
        HdfsError::IOError(error) => {
            let kind = match io_kind(&error) {
                // The crate opens no local files: whatever it says, a connection broke or a name is unknown.
                Kind::Other | Kind::NotFound | Kind::Corrupt => Kind::Unreachable,
                kind => kind,
            };
            new(kind, format!("HDFS: {error}"))
        }
        HdfsError::ChecksumError => new(Kind::Corrupt, "checksums do not match".into()),
        HdfsError::BlocksNotFound(_) => new(Kind::Corrupt, "its blocks are missing".into()),
        HdfsError::DataTransferError(text) if text.contains("All DataNodes failed: []") => {
            // Also for a while after a NameNode was away from its DataNodes: they have to report again.
            new(Kind::Unreachable, "no live DataNode has a block of it".into())
                .advise("start the missing DataNodes; `hdfs fsck` names the blocks")
        }
        HdfsError::DataTransferError(text) if text.contains("All DataNodes failed") => {
            new(Kind::Unreachable, "every DataNode that has a block of it failed".into())
                .advise("check the DataNodes and `hdfs fsck` for corrupt blocks")
        }
        HdfsError::DataTransferError(text) | HdfsError::OperationFailed(text) => {
            new(Kind::Unreachable, shorten(&text))
        }
        HdfsError::SASLError(text) => new(Kind::PermissionDenied, shorten(&text)).advise(CREDENTIALS),
        error @ (HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism) => {
            new(Kind::PermissionDenied, error.to_string()).advise(CREDENTIALS)
        }
        error => new(Kind::Other, shorten(&error.to_string())),
    }
}

/// How long a cluster may refuse blocks before we believe that its disks are full: restarted DataNodes need some
/// seconds to report, overloaded ones to recover.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);

const CREDENTIALS: &str = "check the Kerberos ticket (`klist`) or the delegation token";

pub(super) fn remote(action: &'static str, at: &Location, class: &str, message: &str) -> StorageError {
    let detail = first_line(message);
    if message.contains("could only be written to 0 of") {
        // The same words for full disks, overloaded DataNodes, and those that have just started.
        if message.contains("There are 0 datanode(s) running") {
            let error = StorageError::new(Kind::Unreachable, action, at, detail);
            return error.advise("no DataNode is running (`hdfs dfsadmin -report`)");
        }
        return StorageError::new(Kind::NoSpace, action, at, detail)
            .may_pass_within(BUSY_PATIENCE)
            .advise("no DataNode has room (`hdfs dfsadmin -report`): free space or add disks");
    }
    let kind = match EXCEPTIONS.iter().find(|(end, _)| class.ends_with(end)) {
        Some((_, kind)) => *kind,
        None if message.contains("non empty") || message.contains("not empty") => Kind::AlreadyExists,
        None => Kind::Other,
    };
    let short = class.rsplit(['.', '$']).next().unwrap_or(class);
    let detail = if detail.is_empty() { short.to_string() } else { detail };
    let error = StorageError::new(kind, action, at, detail);
    match class {
        class if class.ends_with("InvalidToken") || class.ends_with("SaslException") => {
            error.advise(CREDENTIALS)
        }
        class if class.ends_with("SafeModeException") => error
            .advise("the NameNode is in safe mode; `hdfs dfsadmin -safemode get` tells whether it leaves"),
        class if class.ends_with("StandbyException") => {
            error.advise("this NameNode is not active; check fs.defaultFS and dfs.ha.namenodes")
        }
        _ => error,
    }
}

/// Longest piece of foreign text in a message.
const DETAIL_BYTES: usize = 400;

fn first_line(text: &str) -> String {
    shorten(text.lines().next().unwrap_or_default().trim())
}

fn shorten(text: &str) -> String {
    if text.len() <= DETAIL_BYTES {
        return text.into();
    }
    let end = (0..=DETAIL_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn kind(error: HdfsError) -> (Kind, String) {
        let at = Location::parse("hdfs://nn/x", &Location::local("/".as_ref()).unwrap()).unwrap();
        let error = convert("read", &at, error);
        (error.kind, error.to_string())
    }

    fn rpc(class: &str, message: &str) -> (Kind, String) {
        kind(HdfsError::RPCError(class.into(), message.into()))
    }

    #[test]
    fn exceptions_have_kinds_and_lose_their_stack_traces() {
        let (found, text) = rpc(
            "org.apache.hadoop.security.AccessControlException",
            "Permission denied: user=eve, access=WRITE, inode=\"/\":hdfs:supergroup:drwxr-xr-x\n\tat org.apache…",
        );
        assert_eq!(found, Kind::PermissionDenied);
        assert!(text.starts_with("can not read hdfs://nn/x: Permission denied: user=eve"), "{text}");
        assert!(!text.contains("\tat") && text.contains("ask the owner"), "{text}");
        for (class, expected) in [
            ("java.io.FileNotFoundException", Kind::NotFound),
            ("org.apache.hadoop.hdfs.protocol.NSQuotaExceededException", Kind::NoSpace),
            ("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", Kind::NoSpace),
            ("org.apache.hadoop.hdfs.server.namenode.SafeModeException", Kind::Unreachable),
            ("org.apache.hadoop.ipc.StandbyException", Kind::Unreachable),
            ("org.apache.hadoop.security.token.SecretManager$InvalidToken", Kind::PermissionDenied),
            ("java.lang.NullPointerException", Kind::Other),
        ] {
            assert_eq!(rpc(class, "text").0, expected, "{class}");
        }
    }

    #[test]
    fn full_disks_and_missing_datanodes_are_told_apart() {
        let text = "File /x could only be written to 0 of the 1 minReplication nodes. There are ";
        let full = format!("{text}2 datanode(s) running and 0 node(s) are excluded in this operation.");
        assert_eq!(rpc("java.io.IOException", &full).0, Kind::NoSpace);
        let none = format!("{text}0 datanode(s) running and 0 node(s) are excluded in this operation.");
        assert_eq!(rpc("java.io.IOException", &none).0, Kind::Unreachable);
        // What 3.4.2 says when the only disk is full: it excludes the DataNode itself.
        let excluded = format!("{text}1 datanode(s) running and 1 node(s) are excluded in this operation.");
        assert_eq!(rpc("java.io.IOException", &excluded).0, Kind::NoSpace);
    }

    #[test]
    fn broken_connections_are_unreachable_whatever_the_system_calls_them() {
        for io in [io::ErrorKind::ConnectionRefused, io::ErrorKind::UnexpectedEof, io::ErrorKind::Other] {
            assert_eq!(kind(HdfsError::IOError(io.into())).0, Kind::Unreachable);
        }
        assert_eq!(kind(HdfsError::ChecksumError).0, Kind::Corrupt);
        assert_eq!(
            kind(HdfsError::DataTransferError("All DataNodes failed: []".into())).0,
            Kind::Unreachable
        );
        assert_eq!(
            kind(HdfsError::DataTransferError("All DataNodes failed: [x]".into())).0,
            Kind::Unreachable
        );
    }

    #[test]
    fn foreign_text_is_cut_at_a_character() {
        assert!(shorten(&"ä".repeat(1_000)).len() <= DETAIL_BYTES + 4);
    }
}
