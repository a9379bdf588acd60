//! Indexing small files of every format, and the real MNIST where it is at hand.

use super::*;
use crate::storage::Storage;
use flate2::{Compression, write::GzEncoder};
use ringspin_job::{RawDtype, RawLayout};
use std::io::Write;
use std::path::Path;

pub(crate) fn input(folder: &Path, format: InputFormat) -> InputSpec {
    InputSpec {
        path: folder.to_str().unwrap().into(),
        format,
        mean: vec![],
        std: vec![],
        prefetch: 2,
        cache_bytes: 1 << 20,
        shuffle_bytes: 1 << 20,
        reconstruct: false,
    }
}

fn idx_format() -> InputFormat {
    InputFormat::Idx { images: "*images*".into(), labels: "*labels*".into() }
}

fn csv_format(header: bool) -> InputFormat {
    InputFormat::Csv {
        files: String::new(),
        header,
        delimiter: b',',
        label: vec!["0".into()],
        features: vec![],
        shape: vec![],
        classes: true,
    }
}

pub(crate) fn idx_file(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
    bytes.extend(data);
    bytes
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn folder(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let storage = Storage::local(folder.path()).unwrap();
    (folder, storage)
}

async fn index_of(files: &[(&str, &[u8])], format: InputFormat) -> Result<DatasetIndex, DataError> {
    let (folder, storage) = folder(files);
    index(&storage, &input(folder.path(), format)).await
}

async fn refusal(files: &[(&str, &[u8])], format: InputFormat) -> String {
    index_of(files, format).await.unwrap_err().to_string()
}

#[tokio::test]
async fn idx_pairs_follow_each_other() {
    let images = idx_file(&[3, 2, 2], &[9; 12]);
    let more = idx_file(&[2, 2, 2], &[9; 8]);
    let files: &[(&str, &[u8])] = &[
        ("a-images", &images),
        ("a-labels", &idx_file(&[3], &[0; 3])),
        ("b-images.gz", &gzip(&more)),
        ("b-labels.gz", &gzip(&idx_file(&[2], &[0; 2]))),
        ("c-images", &idx_file(&[0, 2, 2], &[])),
        ("c-labels", &idx_file(&[0], &[])),
        (".hidden-images", b"x"),
    ];
    let index = index_of(files, idx_format()).await.unwrap();
    assert_eq!((index.records(), index.schema.shape.as_slice()), (5, &[2, 2, 1][..]));
    let files: Vec<_> =
        index.files().iter().map(|f| (f.first_record, f.records, f.size, f.compressed)).collect();
    assert_eq!(files, [(0, 3, 28, false), (3, 2, 24, true)]);
    assert_eq!(index.chunks().len(), 2);
    assert_eq!(
        index.chunks()[1],
        Chunk { file: 1, records: 2, first_record: 3, offset: 16, bytes: 8, first_line: 0 }
    );
    assert_eq!((0..5).map(|r| index.chunk_of(r)).collect::<Vec<_>>(), [0, 0, 0, 1, 1]);
}

#[tokio::test]
async fn idx_mistakes_are_named() {
    let images = idx_file(&[3, 2, 2], &[9; 12]);
    let labels = idx_file(&[3], &[0; 3]);
    let two = idx_file(&[2], &[0; 2]);
    let refused = |files: Vec<(&'static str, Vec<u8>)>| async move {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, c)| (*n, c.as_slice())).collect();
        refusal(&files, idx_format()).await
    };
    let error = refused(vec![("images", images.clone()), ("labels", two.clone())]).await;
    assert!(error.contains("3 images, but 2 labels"), "{error}");
    let error = refused(vec![("images", images.clone())]).await;
    assert!(error.contains("no file matches *labels*") && error.contains("there is images"), "{error}");
    let error =
        refused(vec![("images", images.clone()), ("images2", images.clone()), ("labels", labels.clone())])
            .await;
    assert!(error.contains("2 image files, but 1 label files"), "{error}");
    let error = refused(vec![("images", images[..20].to_vec()), ("labels", labels.clone())]).await;
    assert!(error.contains("/images: byte 20: the file is truncated"), "{error}");
    let error = refused(vec![("images.gz", gzip(&images)[..30].to_vec()), ("labels", labels.clone())]).await;
    assert!(error.contains("/images.gz: the gzip stream is truncated or corrupt"), "{error}");
    let error = refused(vec![("images.gz", gzip(&images[..20])), ("labels", labels.clone())]).await;
    assert!(error.contains("images.gz: byte 20: the file is truncated"), "{error}");
    let error =
        refused(vec![("images", images.clone()), ("images.gz", gzip(&images)), ("labels", labels.clone())])
            .await;
    assert!(error.contains("would be read twice"), "{error}");
    let other = idx_file(&[3, 4], &[0; 12]);
    let error = refused(vec![
        ("1images", images),
        ("2images", other),
        ("1labels", labels.clone()),
        ("2labels", labels),
    ])
    .await;
    assert!(error.contains("2images: byte 4: records of U8 4, but the first file has U8 2x2"), "{error}");
    let empty = vec![("images", idx_file(&[0, 2, 2], &[])), ("labels", idx_file(&[0], &[]))];
    assert!(refused(empty).await.contains("has no records"));
}

#[tokio::test]
async fn raw_files_are_counted_by_size() {
    let format = || InputFormat::Raw {
        files: "*.bin".into(),
        header_bytes: 2,
        label_bytes: 1,
        dtype: RawDtype::U8,
        shape: vec![4],
        layout: RawLayout::Hwc,
    };
    let index =
        index_of(&[("a.bin", &[0; 12]), ("b.bin", &[0; 2]), ("c.bin", &[0; 7])], format()).await.unwrap();
    let chunks: Vec<_> = index.chunks().iter().map(|c| (c.file, c.first_record, c.offset, c.bytes)).collect();
    assert_eq!(chunks, [(0, 0, 2, 10), (1, 2, 2, 5)]);
    assert!(
        refusal(&[("a.bin", &[0; 13])], format()).await.contains("a.bin: byte 12: the file is truncated")
    );
    assert!(refusal(&[("a.txt", &[0; 13])], format()).await.contains("there is a.txt"));
    assert!(refusal(&[], format()).await.contains("the folder is empty"));
}

#[tokio::test]
async fn text_is_counted_the_same_however_it_is_cut() {
    let mut text = String::from("\n\"label\",x,y\r\n");
    let mut records = 0;
    while text.len() < 5 << 20 {
        text += &format!("{},{},{}\n", records % 10, records, records as f32 * 0.5);
        text += if records % 97 == 0 { "\r\n" } else { "" };
        records += 1;
    }
    let small = "label,x,y\n1,2,3";
    let zipped = gzip(b"label,x,y\n1,2,3\n\n4,5,6\n");
    let files: &[(&str, &[u8])] =
        &[("a.csv", text.as_bytes()), ("b.csv", small.as_bytes()), ("c.csv.gz", &zipped), ("d.csv", b"\n")];
    let (folder, storage) = folder(files);
    let input = input(folder.path(), csv_format(true));
    let whole = index(&storage, &input).await.unwrap();
    assert_eq!(whole.records(), records + 3);
    assert!(whole.chunks().len() >= 7, "{} chunks", whole.chunks().len());
    let small = whole.chunks()[whole.chunks().len() - 2];
    assert_eq!((small.offset, small.bytes, small.first_line), (10, 5, 1));
    let zipped = *whole.chunks().last().unwrap();
    assert_eq!((zipped.offset, zipped.bytes, zipped.records, zipped.first_line), (10, 13, 2, 1));
    for chunk in whole.chunks().iter().filter(|chunk| chunk.file == 0) {
        let lines = &text.as_bytes()[chunk.offset as usize..(chunk.offset + chunk.bytes) as usize];
        let first = std::str::from_utf8(lines).unwrap().lines().find(|line| !line.is_empty()).unwrap();
        assert_eq!(first.split(',').nth(1).unwrap(), chunk.first_record.to_string());
        let before = text.as_bytes()[..chunk.offset as usize].iter().filter(|b| **b == b'\n').count();
        assert_eq!(before as u64, chunk.first_line);
    }
    // Through the wire, as workers would do it.
    let survey = Survey::take(&storage, &input).await.unwrap();
    let mut parts = Vec::new();
    for task in survey.tasks() {
        let task: IndexTask = postcard::from_bytes(&postcard::to_allocvec(&task).unwrap()).unwrap();
        let part = run_task(&storage, &task).await.unwrap();
        parts.push(postcard::from_bytes(&postcard::to_allocvec(&part).unwrap()).unwrap());
    }
    let survey: Survey = postcard::from_bytes(&postcard::to_allocvec(&survey).unwrap()).unwrap();
    assert_eq!(survey.merge(parts).unwrap(), whole);
}

#[tokio::test]
async fn text_mistakes_are_named() {
    let error = refusal(&[("a.csv", b"1,2\n"), ("b.csv", b"")], csv_format(true)).await;
    assert!(error.contains("has no records"), "{error}");
    let error = refusal(&[("a.csv", b"l,a\n1,2\n"), ("b.csv", b"l,b\n1,2\n")], csv_format(true)).await;
    assert!(error.contains("b.csv: line 1 (record 0, byte 0), column 1 \"b\": the names differ"), "{error}");
    let mut format = csv_format(true);
    if let InputFormat::Csv { label, .. } = &mut format {
        *label = vec!["kind".into()];
    }
    let error = refusal(&[("a.csv", b"\nkinds,a\n1,2\n")], format).await;
    assert!(error.contains("a.csv: line 2") && error.contains("did you mean \"kinds\""), "{error}");
    let error = refusal(&[("sub/a.csv", b"1,2\n")], csv_format(false)).await;
    assert!(error.contains("no file matches *") && error.contains("there is sub/"), "{error}");
}

#[tokio::test]
async fn a_path_may_be_a_file_or_a_pattern() {
    let (folder, storage) =
        folder(&[("y=1/a.csv", b"1,2\n"), ("y=2/a.csv", b"1,2\n3,4\n"), ("y=2/b.txt", b"x")]);
    let records = |path: &str, files: &str| {
        let mut input = input(&folder.path().join(path), csv_format(false));
        if let InputFormat::Csv { files: wanted, .. } = &mut input.format {
            *wanted = files.into();
        }
        let storage = storage.clone();
        async move { index(&storage, &input).await.map(|index| index.records()) }
    };
    assert_eq!(records("y=2/a.csv", "").await.unwrap(), 2);
    assert_eq!(records("y=2/a.csv", "*.csv").await.unwrap(), 2);
    assert_eq!(records("", "*/*.csv").await.unwrap(), 3);
    assert_eq!(records("y=*", "*.csv").await.unwrap(), 3);
    assert_eq!(records("y=*/*.csv", "").await.unwrap(), 3);
    assert!(records("y=2/a.csv", "*.txt").await.unwrap_err().to_string().contains("does not match"));
    assert!(records("z", "").await.unwrap_err().to_string().contains("no such file"));
}

#[test]
fn chunks_grow_with_the_data_and_stay_few() {
    assert_eq!(chunk_bytes(0), 1 << 20);
    assert_eq!(chunk_bytes(60 << 30), 1 << 20);
    assert_eq!(chunk_bytes(1 << 40), 16 << 20);
    assert_eq!(chunk_bytes(u64::MAX / 2), CHUNK_BYTES_LIMIT);
}

/// Folder with the four files of MNIST, where somebody put them.
pub(crate) fn mnist() -> Option<std::path::PathBuf> {
    let given = std::env::var_os("RINGSPIN_MNIST").map(std::path::PathBuf::from);
    let folder = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/mnist"));
    folder.join("train-images-idx3-ubyte").exists().then_some(folder)
}

#[tokio::test]
async fn mnist_has_sixty_thousand_records() {
    let Some(folder) = mnist() else {
        eprintln!("skipped: no MNIST in data/mnist or RINGSPIN_MNIST");
        return;
    };
    let storage = Storage::local(&folder.canonicalize().unwrap()).unwrap();
    let format = InputFormat::Idx { images: "train-images*".into(), labels: "train-labels*".into() };
    let index = index(&storage, &input(&folder.canonicalize().unwrap(), format)).await.unwrap();
    assert_eq!((index.records(), index.schema.shape.as_slice()), (60_000, &[28, 28, 1][..]));
    assert_eq!(index.bytes(), 47_040_000);
    assert_eq!(index.chunks().len(), 45);
}
