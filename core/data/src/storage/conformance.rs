//! One suite for every file system behind [`Storage`]: what callers rely on, whatever holds the files.
//!
//! Test support. `check(&storage, &folder)` works in `folder`, which must not exist yet and has to be writable,
//! and removes it at the end. It panics at the first broken promise, as a test does.

use super::{BlockHosts, Location, Scheme, Storage, StorageErrorKind as Kind, WriteOptions};
use bytes::Bytes;

/// Runs all of it.
///
/// # Panics
/// When a promise is broken.
pub async fn check(storage: &Storage, folder: &Location) {
    storage.mkdirs(folder, 0o755).await.expect("the folder of the suite can be made");
    whole_files(storage, &folder.join("whole")).await;
    ranges(storage, &folder.join("ranges")).await;
    listing(storage, &folder.join("listing")).await;
    globs(storage, &folder.join("globs")).await;
    renames(storage, &folder.join("renames")).await;
    deletes(storage, &folder.join("deletes")).await;
    folders_and_permissions(storage, &folder.join("folders")).await;
    blocks(storage, &folder.join("blocks")).await;
    assert!(storage.delete(folder, true).await.expect("clean up"));
    assert!(!storage.exists(folder).await.expect("stat after clean up"));
}

/// Bytes that differ at every offset of interest.
fn content(len: usize) -> Bytes {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect::<Vec<_>>().into()
}

async fn put(storage: &Storage, at: &Location, len: usize) {
    storage.write(at, content(len), WriteOptions::default()).await.expect("a plain write");
}

fn kind<T: std::fmt::Debug>(result: Result<T, super::StorageError>) -> Kind {
    let error = result.expect_err("this call has to fail");
    assert!(error.to_string().contains("://"), "an error names the full URI: {error}");
    error.kind
}

fn names(found: &[super::FileStatus]) -> Vec<&str> {
    found.iter().map(|status| status.location.name()).collect()
}

async fn whole_files(storage: &Storage, folder: &Location) {
    let file = folder.join("deep/er/file 50%.bin");
    for len in [0, 1, 3 << 20] {
        let options = WriteOptions { overwrite: true, ..Default::default() };
        storage.write(&file, content(len), options).await.expect("write with missing folders");
        let status = storage.stat(&file).await.expect("stat of what was written");
        assert_eq!((status.length, status.is_dir), (len as u64, false));
        assert_eq!(status.location, file);
        assert!(status.modified_ms > 1_500_000_000_000, "modification time {}", status.modified_ms);
        assert_eq!(storage.read(&file, 4 << 20).await.expect("read"), content(len));
    }
    assert_eq!(kind(storage.write(&file, content(1), WriteOptions::default()).await), Kind::AlreadyExists);
    assert_eq!(storage.stat(&file).await.expect("stat").length, 3 << 20, "a refused write changes nothing");
    assert_eq!(kind(storage.read(&file, 1_000).await), Kind::Other);
    let siblings = storage.list(&folder.join("deep/er")).await.expect("list");
    assert_eq!(names(&siblings), ["file 50%.bin"], "no temporary file stays");
    let fenced = WriteOptions { create_parents: false, ..Default::default() };
    assert_eq!(kind(storage.write(&folder.join("gone/x"), content(1), fenced).await), Kind::NotFound);
    assert!(!storage.exists(&folder.join("gone")).await.expect("stat"), "a fenced write makes no folder");
}

async fn ranges(storage: &Storage, folder: &Location) {
    let (file, len) = (folder.join("data"), 9_000_001);
    put(storage, &file, len).await;
    let expected = content(len);
    for (offset, count) in
        [(0, 1), (0, len), (1, 65_536), (65_535, 131_074), (len - 1, 1), (511, 513), (7, 0)]
    {
        let found = storage.read_range(&file, offset as u64, count).await.expect("a range within the file");
        assert_eq!(found, expected.slice(offset..offset + count), "{count} bytes at {offset}");
    }
    for (offset, count) in [(0, len + 1), (len, 1), (usize::MAX / 2, 1), (1, usize::MAX >> 1)] {
        let result = storage.read_range(&file, offset as u64, count).await;
        assert_eq!(kind(result), Kind::Corrupt, "{count} bytes at {offset}");
    }
    assert_eq!(kind(storage.read_range(&folder.join("none"), 0, 1).await), Kind::NotFound);
    let mut stream = storage.read_ahead(&file, 5..len as u64);
    let mut at = 5;
    while let Some(piece) = stream.next().await.expect("reading on") {
        assert_eq!(piece, expected.slice(at..at + piece.len()));
        at += piece.len();
    }
    assert_eq!(at, len);
    // A file that was replaced is read as it is now, by whoever had it open before too.
    let options = WriteOptions { overwrite: true, ..Default::default() };
    storage.write(&file, Bytes::from_static(b"new"), options).await.expect("replace");
    assert_eq!(&storage.read_range(&file, 0, 3).await.expect("read")[..], b"new");
}

async fn listing(storage: &Storage, folder: &Location) {
    for name in ["b", "a", "c/d"] {
        put(storage, &folder.join(name), 3).await;
    }
    let found = storage.list(folder).await.expect("list");
    assert_eq!(names(&found), ["a", "b", "c"]);
    let kinds: Vec<_> = found.iter().map(|status| (status.is_dir, status.length)).collect();
    assert_eq!(kinds, [(false, 3), (false, 3), (true, 0)]);
    assert_eq!(kind(storage.list(&folder.join("none")).await), Kind::NotFound);
    assert_eq!(kind(storage.list(&folder.join("a")).await), Kind::Other);
    storage.mkdirs(&folder.join("empty"), 0o755).await.expect("mkdirs");
    assert!(storage.list(&folder.join("empty")).await.expect("list").is_empty());
}

async fn globs(storage: &Storage, folder: &Location) {
    for name in ["y=1/a.csv", "y=1/b.txt", "y=2/a.csv", "z/a.csv"] {
        put(storage, &folder.join(name), 1).await;
    }
    for (pattern, expected) in [
        ("y=*/*.csv", &["y=1/a.csv", "y=2/a.csv"][..]),
        ("{z,y=1}/*", &["y=1/a.csv", "y=1/b.txt", "z/a.csv"]),
        ("z/a.csv", &["z/a.csv"]),
        ("z/none", &[]),
        ("q*/x", &[]),
        ("*", &["y=1", "y=2", "z"]),
    ] {
        let found = storage.glob(folder, pattern).await.expect("a good pattern");
        let start = folder.path().len() + 1;
        let found: Vec<_> = found.iter().map(|status| &status.location.path()[start..]).collect();
        assert_eq!(found, expected, "{pattern}");
    }
    assert_eq!(kind(storage.glob(folder, "[a").await), Kind::Other);
}

async fn renames(storage: &Storage, folder: &Location) {
    let (a, b) = (folder.join("a"), folder.join("b"));
    put(storage, &a, 10).await;
    storage.rename(&a, &b, false).await.expect("rename to a free name");
    assert!(!storage.exists(&a).await.expect("stat"));
    put(storage, &a, 20).await;
    assert_eq!(kind(storage.rename(&a, &b, false).await), Kind::AlreadyExists);
    assert_eq!(storage.stat(&b).await.expect("stat").length, 10, "a refused rename changes nothing");
    storage.rename(&a, &b, true).await.expect("rename over a file");
    assert_eq!(storage.stat(&b).await.expect("stat").length, 20);
    assert_eq!(kind(storage.rename(&a, &b, true).await), Kind::NotFound);
    assert_eq!(kind(storage.rename(&b, &folder.join("none/b"), false).await), Kind::NotFound);
    let (from, to) = (folder.join("dir"), folder.join("taken"));
    put(storage, &from.join("x"), 1).await;
    put(storage, &to.join("y"), 1).await;
    assert_eq!(kind(storage.rename(&from, &to, false).await), Kind::AlreadyExists);
    assert_eq!(kind(storage.rename(&from, &to, true).await), Kind::AlreadyExists);
    storage.mkdirs(&folder.join("empty"), 0o755).await.expect("mkdirs");
    assert_eq!(kind(storage.rename(&from, &folder.join("empty"), false).await), Kind::AlreadyExists);
    storage.rename(&from, &folder.join("moved"), false).await.expect("rename of a folder");
    assert!(storage.exists(&folder.join("moved/x")).await.expect("stat"));
}

async fn deletes(storage: &Storage, folder: &Location) {
    put(storage, &folder.join("full/x"), 1).await;
    assert_eq!(kind(storage.delete(&folder.join("full"), false).await), Kind::Other);
    assert!(storage.delete(&folder.join("full/x"), false).await.expect("delete a file"));
    assert!(!storage.delete(&folder.join("full/x"), false).await.expect("delete what is not there"));
    assert!(storage.delete(&folder.join("full"), false).await.expect("delete an empty folder"));
    assert!(!storage.exists(&folder.join("full")).await.expect("stat"));
}

async fn folders_and_permissions(storage: &Storage, folder: &Location) {
    let deep = folder.join("a/b/c");
    storage.mkdirs(&deep, 0o755).await.expect("mkdirs");
    storage.mkdirs(&deep, 0o755).await.expect("mkdirs of a folder that is there");
    assert!(storage.stat(&deep).await.expect("stat").is_dir);
    assert_eq!(kind(storage.read(&deep, 1_000).await), Kind::Other);
    let file = folder.join("file");
    let private = WriteOptions { permission: 0o600, ..Default::default() };
    storage.write(&file, content(1), private).await.expect("write");
    assert_eq!(storage.stat(&file).await.expect("stat").permission, 0o600);
    storage.set_permission(&file, 0o640).await.expect("set_permission");
    assert_eq!(storage.stat(&file).await.expect("stat").permission, 0o640);
    assert_eq!(kind(storage.set_permission(&folder.join("none"), 0o640).await), Kind::NotFound);
}

/// Few files are asked for one by one, many by listing their folder.
async fn blocks(storage: &Storage, folder: &Location) {
    let lengths: Vec<usize> = (0..20).map(|i| if i == 3 { 2_500_000 } else { i }).collect();
    let mut files = Vec::new();
    for (i, len) in lengths.iter().enumerate() {
        files.push(folder.join(&format!("{i:02}")));
        put(storage, &files[i], *len).await;
    }
    let many = storage.blocks(&files).await.expect("blocks of many files");
    let few = storage.blocks(&files[..4]).await.expect("blocks of few files");
    assert_eq!(many.len(), files.len());
    for (blocks, len) in many.iter().chain(&few).zip(lengths.iter().chain(&lengths[..4])) {
        if folder.scheme() == Scheme::File {
            assert!(blocks.is_empty());
            continue;
        }
        let end = blocks.iter().fold(0, |at, block: &BlockHosts| {
            assert_eq!(block.offset, at, "blocks follow each other");
            assert!(!block.hosts.is_empty(), "a block has a host");
            at + block.bytes
        });
        assert_eq!(end, *len as u64);
    }
    if folder.scheme() != Scheme::File {
        assert_eq!(kind(storage.blocks(&[folder.join("none")]).await), Kind::NotFound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn local_files_keep_every_promise() {
        let scratch = tempfile::tempdir().unwrap();
        let storage = Storage::local(scratch.path()).unwrap();
        let folder = storage.locate("suite").unwrap();
        check(&storage, &folder).await;
    }
}
