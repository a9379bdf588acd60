//! Questions to NameNodes that a test plays.

use super::messages::*;
use super::*;
use crate::conf::Environment;
use crate::credentials::{Token, kind};
use crate::ipc::tests::fake::{Call, FakeServer, Peer, token};
use prost::Message;

fn conf(lines: &[(&str, &str)]) -> Configuration {
    let mut conf = Configuration::defaults(Environment::default());
    lines.iter().for_each(|(key, value)| conf.set(key, value, "a test"));
    conf
}

fn caller(credentials: Credentials) -> Caller {
    Caller {
        user: "alice".into(),
        real_user: None,
        credentials,
        options: IpcOptions::default(),
        policy: RetryPolicy { base_delay: Duration::from_millis(10), ..RetryPolicy::default() },
    }
}

fn located(blocks: u64) -> LocatedBlocks {
    let node = |i: u64, rack: Option<&str>| DatanodeInfo {
        id: DatanodeId { ip: format!("10.0.0.{i}"), host: format!("node{i}"), transfer_port: 9866 },
        rack: rack.map(str::to_owned),
    };
    let block = |i: u64| LocatedBlock {
        block: ExtendedBlock { block_id: 100 + i, bytes: Some(if i + 1 == blocks { 7 } else { 10 }) },
        offset: 10 * i,
        locations: vec![node(i, Some("/r1")), node(i + 1, None)],
        corrupt: false,
    };
    LocatedBlocks {
        file_length: blocks.saturating_sub(1) * 10 + 7,
        blocks: (0..blocks).rev().map(block).collect(),
        under_construction: false,
        erasure_coding: None,
    }
}

fn status(name: &str, file_type: i32) -> HdfsFileStatus {
    HdfsFileStatus {
        file_type,
        name: name.into(),
        length: 17,
        permission: FsPermission { bits: 0o640 },
        owner: "alice".into(),
        group: "users".into(),
        modification_time: 1_700_000_000_000,
        replication: Some(2),
        block_size: Some(10),
        locations: (file_type == TYPE_FILE).then(|| located(2)),
        erasure_coding: None,
    }
}

/// Plays a NameNode with one directory of three entries, given out two at a time, and one file.
async fn answer(peer: &mut Peer, call: Call) {
    match call.method.method.as_str() {
        "getBlockLocations" => {
            let request = GetBlockLocationsRequest::decode_length_delimited(call.body).unwrap();
            let locations = (request.src == "/data/a").then(|| located(3));
            peer.reply(call.id, &GetBlockLocationsResponse { locations }).await;
        }
        "getListing" => {
            let request = GetListingRequest::decode_length_delimited(call.body).unwrap();
            assert!(request.need_location);
            let listing = match (request.src.as_str(), request.start_after.as_slice()) {
                ("/data", b"") => Some((vec![status("a", TYPE_FILE), status("b", TYPE_DIRECTORY)], 1)),
                ("/data", b"b") => Some((vec![status("c", TYPE_FILE)], 0)),
                ("/data/a", b"") => Some((vec![status("", TYPE_FILE)], 0)),
                ("/endless", _) => Some((vec![], 5)),
                _ => None,
            };
            let listing = listing.map(|(entries, remaining)| DirectoryListing { entries, remaining });
            peer.reply(call.id, &GetListingResponse { listing }).await;
        }
        other => panic!("{other}"),
    }
}

async fn serve(mut peer: Peer) {
    peer.accept().await;
    while let Some(call) = peer.call().await {
        assert_eq!(call.method.protocol, "org.apache.hadoop.hdfs.protocol.ClientProtocol");
        answer(&mut peer, call).await;
    }
}

#[tokio::test]
async fn blocks_and_their_hosts_in_order() {
    let server = FakeServer::start(|peer, _| serve(peer)).await;
    let conf = conf(&[("fs.defaultFS", &format!("hdfs://{}", server.address))]);
    let namenodes = NameNodes::new(conf, caller(Credentials::default()));
    let blocks = namenodes.blocks("/data/a", 0, u64::MAX).await.unwrap();
    assert_eq!((blocks.length, blocks.blocks.len()), (27, 3));
    let last = &blocks.blocks[2];
    assert_eq!((last.id, last.offset, last.length), (102, 20, 7));
    let hosts: Vec<_> = last.replicas.iter().map(|r| (r.host.as_str(), r.rack.as_str())).collect();
    assert_eq!(hosts, [("node2", "/r1"), ("node3", "/default-rack")]);
    let error = namenodes.blocks("/data/none", 0, 1).await.unwrap_err();
    assert!(matches!(&error, NameNodeError::NotFound { uri } if uri.ends_with("/data/none")), "{error}");
}

#[tokio::test]
async fn a_directory_comes_page_by_page_with_locations() {
    let server = FakeServer::start(|peer, _| serve(peer)).await;
    let conf = conf(&[
        ("fs.defaultFS", "viewfs://all"),
        ("fs.viewfs.mounttable.all.link./in", &format!("hdfs://{}/data", server.address)),
    ]);
    let namenodes = NameNodes::new(conf, caller(Credentials::default()));
    let entries = namenodes.list("/in/").await.unwrap();
    let seen: Vec<_> =
        entries.iter().map(|e| (e.path.as_str(), e.kind, e.blocks.blocks.len(), e.permission)).collect();
    let mode = 0o640;
    assert_eq!(
        seen,
        [
            ("/data/a", EntryKind::File, 2, mode),
            ("/data/b", EntryKind::Directory, 0, mode),
            ("/data/c", EntryKind::File, 2, mode)
        ]
    );
    assert_eq!(namenodes.list("/in/a").await.unwrap()[0].path, "/data/a");
    let endless = format!("hdfs://{}/endless", server.address);
    let error = namenodes.list(&endless).await.unwrap_err();
    assert!(error.to_string().contains("5 more entries are announced"), "{error}");
    assert!(matches!(namenodes.list("/in/x").await, Err(NameNodeError::NotFound { .. })));
    assert!(matches!(namenodes.list("/else").await, Err(NameNodeError::Location(_))));
}

#[tokio::test]
async fn the_active_one_of_a_pair_is_found_and_exceptions_are_told_apart() {
    let standby = FakeServer::start(|mut peer, _| async move {
        peer.accept().await;
        while let Some(call) = peer.call().await {
            let text = "Operation category READ is not supported in state standby.";
            peer.fail(call.id, "org.apache.hadoop.ipc.StandbyException", text).await;
        }
    })
    .await;
    let active = FakeServer::start(|mut peer, _| async move {
        peer.accept().await;
        while let Some(call) = peer.call().await {
            let request = GetListingRequest::decode_length_delimited(call.body.clone());
            match request.unwrap().src.as_str() {
                "/secret" => {
                    let text =
                        "Permission denied: user=alice, access=READ_EXECUTE, inode=\"/secret\"\n\tat x";
                    peer.fail(call.id, "org.apache.hadoop.security.AccessControlException", text).await;
                }
                "/odd" => peer.fail(call.id, "java.io.IOException", "odd").await,
                _ => answer(&mut peer, call).await,
            }
        }
    })
    .await;
    let conf = conf(&[
        ("fs.defaultFS", "hdfs://prod"),
        ("dfs.nameservices", "prod"),
        ("dfs.ha.namenodes.prod", "nn1,nn2"),
        ("dfs.namenode.rpc-address.prod.nn1", &standby.address),
        ("dfs.namenode.rpc-address.prod.nn2", &active.address),
    ]);
    let namenodes = NameNodes::new(conf, caller(Credentials::default()));
    assert_eq!(namenodes.list("/data").await.unwrap().len(), 3);
    let error = namenodes.list("/secret").await.unwrap_err();
    assert!(matches!(&error, NameNodeError::Denied { message, .. } if !message.contains("\tat")), "{error}");
    let error = namenodes.list("/odd").await.unwrap_err();
    assert!(
        error.to_string().contains("hdfs://prod/odd") && error.to_string().contains("IOException"),
        "{error}"
    );
}

#[tokio::test]
async fn a_secure_cluster_gets_the_token_of_the_file_system() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept_token("auth-int").await;
        while let Some(call) = peer.call().await {
            answer(&mut peer, call).await;
        }
    })
    .await;
    // An identifier that reads as an HDFS token's: version, three empty texts, times and numbers.
    let identifier = vec![0, 0, 0, 0, 1, 2, 3, 4];
    let conf = conf(&[
        ("fs.defaultFS", &format!("hdfs://{}", server.address.replace("127.0.0.1", "localhost"))),
        ("hadoop.security.authentication", "kerberos"),
    ]);
    let mut credentials = Credentials::default();
    let none = NameNodes::new(conf.clone(), caller(credentials.clone()));
    assert!(matches!(none.list("/data").await, Err(NameNodeError::NoToken { .. })));
    // Hadoop stores the token under the address, the URI has the name.
    let hdfs = Token { kind: kind::HDFS.into(), service: server.address.clone(), identifier, ..token() };
    credentials.tokens.insert("nn".into(), hdfs);
    let namenodes = NameNodes::new(conf, caller(credentials));
    let error = namenodes.list("/data").await.unwrap_err();
    // The server of these tests knows another identifier; that it was asked with ours is what counts here.
    assert!(error.to_string().contains("SaslException"), "{error}");
}

#[test]
fn erasure_coding_policies_have_names() {
    let entry = |id, name: Option<&str>| {
        let policy = ErasureCodingPolicy { id, name: name.map(str::to_owned) };
        Entry::new("/d", HdfsFileStatus { erasure_coding: Some(policy), ..status("f", TYPE_FILE) }).unwrap()
    };
    assert_eq!(entry(4, None).erasure_coding.as_deref(), Some("XOR-2-1-1024k"));
    assert_eq!(entry(64, Some("RS-2-2-64k")).erasure_coding.as_deref(), Some("RS-2-2-64k"));
    assert_eq!(entry(99, None).erasure_coding.as_deref(), Some("policy 99"));
    assert_eq!(entry(0, None).erasure_coding, None);
    assert!(Entry::new("/d", HdfsFileStatus { name: vec![0xff], ..status("", TYPE_FILE) }).is_none());
}
