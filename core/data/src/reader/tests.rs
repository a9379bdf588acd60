//! Reading small data sets through everything below: the batches a training thread would get.

use super::*;
use crate::dataset::DatasetOptions;
use crate::formats::Normalisation;
use crate::index::tests::{idx_file, input, mnist};
use crate::index::{DatasetIndex, index};
use crate::plan::{Deal, Order, PlanOptions};
use crate::storage::Storage;
use ringspin_job::InputFormat;
use std::path::Path;
use tokio::runtime::Runtime;

/// Images of 2 x 3 whose bytes tell their number, in two files of unequal size.
fn images(folder: &Path) -> InputFormat {
    let mut number = 0u32;
    for (name, count) in [("a", 700u32), ("b", 345)] {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..count {
            pixels.extend([(number >> 8) as u8, number as u8, 0, 255, 51, number as u8]);
            labels.push((number % 10) as u8);
            number += 1;
        }
        std::fs::write(folder.join(format!("{name}-images")), idx_file(&[count, 2, 3], &pixels)).unwrap();
        std::fs::write(folder.join(format!("{name}-labels")), idx_file(&[count], &labels)).unwrap();
    }
    InputFormat::Idx { images: "*images".into(), labels: "*labels".into() }
}

fn csv() -> InputFormat {
    InputFormat::Csv {
        files: String::new(),
        header: true,
        delimiter: b',',
        label: vec!["label".into()],
        features: vec![],
        shape: vec![],
        classes: true,
    }
}

struct Fixture {
    runtime: Runtime,
    storage: Storage,
    index: Arc<DatasetIndex>,
}

impl Fixture {
    fn new(folder: &Path, format: InputFormat) -> Fixture {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let storage = Storage::local(folder).unwrap();
        let index = runtime.block_on(index(&storage, &input(folder, format))).unwrap();
        Fixture { runtime, storage, index: Arc::new(index) }
    }

    fn dataset(&self, cache_bytes: u64) -> Arc<Dataset> {
        let options = DatasetOptions { cache_bytes, classes: Some(10), ..DatasetOptions::default() };
        Arc::new(Dataset::new(self.storage.clone(), self.index.clone(), &options).unwrap())
    }

    fn plan(&self, order: Order) -> Arc<Plan> {
        let options = PlanOptions { lanes: 5, batch_size: 64, order, deal: Deal::FileOrder };
        Arc::new(Plan::new(&self.index, &options).unwrap())
    }

    fn reader(&self, dataset: &Arc<Dataset>, order: Order, epochs: u64) -> Reader {
        let plan = self.plan(order);
        let options = ReaderOptions { prefetch: 3, end_step: epochs * plan.steps_per_epoch() };
        Reader::new(self.runtime.handle().clone(), dataset.clone(), plan, options)
    }
}

const SHUFFLED: Order = Order::Shuffled { seed: 3, window_bytes: 500 };

/// All batches of some lanes from a step on, lane by lane within each step.
fn read(reader: &mut Reader, lanes: &[usize], from_step: u64) -> Vec<Batch> {
    lanes.iter().for_each(|lane| reader.hold(*lane, from_step));
    let mut batches = Vec::new();
    'steps: loop {
        for lane in lanes {
            match reader.next(*lane).unwrap() {
                Some(batch) => batches.push(batch),
                None => break 'steps,
            }
        }
    }
    batches
}

#[test]
fn every_record_comes_once_an_epoch_with_its_own_content() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(folder.path(), images(folder.path()));
    let mut reader = fixture.reader(&fixture.dataset(0), SHUFFLED, 2);
    let batches = read(&mut reader, &[0, 1, 2, 3, 4], 0);
    assert_eq!(batches.len(), 2 * 17 * 5);
    for epoch in 0..2 {
        let mut seen: Vec<u64> = Vec::new();
        for batch in batches.iter().filter(|batch| batch.epoch == epoch) {
            assert_eq!(batch.inputs.len(), batch.count() * 6);
            let Targets::Classes(classes) = &batch.targets else { panic!("classes") };
            for (i, record) in batch.records.iter().enumerate() {
                let pixels = &batch.inputs[i * 6..][..6];
                let number = (pixels[0] * 255.0).round() as u64 * 256 + (pixels[1] * 255.0).round() as u64;
                assert_eq!((number, u64::from(classes[i])), (*record, record % 10));
                assert_eq!(&pixels[2..5], [0.0, 1.0, 0.2]);
            }
            seen.extend(&batch.records);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1045).collect::<Vec<_>>());
    }
    let last: usize = batches.iter().filter(|batch| batch.step == 16).map(Batch::count).sum();
    assert_eq!(last, 1045 - 16 * 64, "the last step of the epoch has its true size");
}

#[test]
fn batches_do_not_depend_on_cache_prefetch_or_who_reads() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(folder.path(), images(folder.path()));
    let expected = read(&mut fixture.reader(&fixture.dataset(0), SHUFFLED, 2), &[0, 1, 2, 3, 4], 0);
    let of = |lane: usize, from: u64| -> Vec<Batch> {
        expected.iter().filter(|b| b.lane == lane && b.step >= from).cloned().collect()
    };
    let dataset = fixture.dataset(1 << 20);
    let mut reader = fixture.reader(&dataset, SHUFFLED, 2);
    assert_eq!(read(&mut reader, &[3], 0), of(3, 0));
    assert!(dataset.kept_bytes() > 0);
    // Taken over in the middle, by another reader or by the same, from the cache.
    assert_eq!(read(&mut reader, &[3], 20), of(3, 20));
    let mut other = fixture.reader(&fixture.dataset(100), SHUFFLED, 2);
    assert_eq!(read(&mut other, &[1], 11), of(1, 11));
    other.hold(4, 30);
    let batch = other.next(4).unwrap().unwrap();
    assert_eq!(batch, of(4, 30)[0]);
    other.recycle(batch);
    assert_eq!(other.next(4).unwrap().unwrap(), of(4, 31)[0]);
    assert_eq!(other.lanes().collect::<Vec<_>>(), [1, 4]);
    other.release(4);
    assert_eq!(other.lanes().collect::<Vec<_>>(), [1]);
    reader.release(3);
    assert_eq!(dataset.kept_bytes(), 0, "nothing is kept for lanes that are gone");
}

#[test]
fn later_epochs_need_no_reads_when_the_cache_holds_all() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(folder.path(), images(folder.path()));
    let dataset = fixture.dataset(1 << 20);
    let mut reader = fixture.reader(&dataset, SHUFFLED, 3);
    let lanes: Vec<usize> = (0..5).collect();
    lanes.iter().for_each(|lane| reader.hold(*lane, 0));
    for step in 0..51 {
        if step == 17 {
            // The first epoch is over: the files may go.
            std::fs::remove_file(folder.path().join("a-images")).unwrap();
            std::fs::remove_file(folder.path().join("b-labels")).unwrap();
        }
        for lane in &lanes {
            let batch = reader.next(*lane).unwrap().unwrap();
            reader.recycle(batch);
        }
    }
    assert!(lanes.iter().all(|lane| reader.next(*lane).unwrap().is_none()));
}

#[test]
fn sequential_reading_keeps_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(folder.path(), images(folder.path()));
    let mut reader = fixture.reader(&fixture.dataset(0), Order::Sequential, 1);
    let records: Vec<u64> =
        (0..5).flat_map(|lane| read(&mut reader, &[lane], 0)).flat_map(|b| b.records).collect();
    assert_eq!(records, (0..1045).collect::<Vec<_>>());
}

#[test]
fn text_becomes_batches_and_mistakes_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "x,label,y\n".to_string();
    (0..200).for_each(|i| text += &format!("{i},{},{}.5\n", i % 10, i * 2));
    let write = |text: &str| std::fs::write(folder.path().join("t.csv"), text).unwrap();
    write(&text);
    let fixture = Fixture::new(folder.path(), csv());
    for batch in read(&mut fixture.reader(&fixture.dataset(0), SHUFFLED, 1), &[0, 1, 2, 3, 4], 0) {
        for (i, record) in batch.records.iter().enumerate() {
            assert_eq!(batch.inputs[2 * i..][..2], [*record as f32, *record as f32 * 2.0 + 0.5]);
        }
    }
    let failure = |text: &str| {
        write(text);
        let mut reader = fixture.reader(&fixture.dataset(0), SHUFFLED, 1);
        (0..5).for_each(|lane| reader.hold(lane, 0));
        let failed = (0..4).flat_map(|_| 0..5).find_map(|lane| reader.next(lane).err());
        failed.map(|error| error.to_string()).unwrap_or_default()
    };
    let uri = format!("file://{}/t.csv", folder.path().display());
    assert_eq!(
        failure(&text.replace("\n77,7,154.5\n", "\n77,7,1x4.5\n")),
        format!("{uri}: line 79 (record 77, byte 792), column 2 \"y\": \"1x4.5\" is not a number")
    );
    assert!(failure(&text.replace("\n77,7,154.5\n", "\n77,70,15.5\n")).contains(
        "line 79 (record 77, byte 792), column 1 \"label\": the label 70 is out of range: the model has 10 classes"
    ));
    assert!(
        failure(&text.replace("\n77,7,154.5\n", "\n77,7;154.50\n"))
            .contains("line 79 (record 77, byte 792): 2 columns")
    );
    let joined = text.replace("\n77,7,154.5\n", " 77,7,154.5\n");
    assert!(failure(&joined).contains("199 records where the index counted 200: the file changed"));
    assert!(failure(&text[..text.len() - 9]).contains("the file ends at byte"));
}

#[test]
fn labels_beyond_the_model_are_told_with_their_record() {
    let folder = tempfile::tempdir().unwrap();
    let format = images(folder.path());
    let mut labels = idx_file(&[345], &[3; 345]);
    labels[8 + 40] = 10;
    std::fs::write(folder.path().join("b-labels"), labels).unwrap();
    let fixture = Fixture::new(folder.path(), format);
    let mut reader = fixture.reader(&fixture.dataset(0), Order::Sequential, 1);
    (0..5).for_each(|lane| reader.hold(lane, 0));
    let error = (0..17).flat_map(|_| 0..5).find_map(|lane| reader.next(lane).err()).unwrap().to_string();
    assert!(
        error.ends_with(
            "b-images: record 40 (byte 256): the label 10 is out of range: the model has 10 classes, 0 to 9"
        ),
        "{error}"
    );
}

#[test]
fn a_label_that_is_ignored_needs_no_class() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "label,x\n-100,1\n2,3\n-100,4\n").unwrap();
    let fixture = Fixture::new(folder.path(), csv());
    let dataset = |ignored| {
        let options = DatasetOptions { classes: Some(3), ignored, ..DatasetOptions::default() };
        Arc::new(Dataset::new(fixture.storage.clone(), fixture.index.clone(), &options).unwrap())
    };
    let batches = read(&mut fixture.reader(&dataset(Some(-100)), Order::Sequential, 1), &[0, 1, 2, 3, 4], 0);
    let classes = batches.into_iter().flat_map(|batch| match batch.targets {
        Targets::Classes(classes) => classes,
        _ => panic!("classes"),
    });
    let mut classes: Vec<u32> = classes.collect();
    classes.sort_unstable();
    assert_eq!(classes, [2, (-100i32) as u32, (-100i32) as u32]);
    let mut reader = fixture.reader(&dataset(None), Order::Sequential, 1);
    reader.hold(0, 0);
    let error = reader.next(0).unwrap_err().to_string();
    assert!(error.contains("the label -100 is not a class"), "{error}");
}

#[test]
fn compressed_files_are_read_as_one() {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let format = images(folder.path());
    let fixture = Fixture::new(folder.path(), format);
    let expected = read(&mut fixture.reader(&fixture.dataset(0), Order::Sequential, 1), &[0, 2, 4], 0);
    for name in ["a-images", "b-images", "a-labels"] {
        let path = folder.path().join(name);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::write(path.with_extension("gz"), encoder.finish().unwrap()).unwrap();
        std::fs::remove_file(path).unwrap();
    }
    let format = InputFormat::Idx { images: "*images.gz".into(), labels: "*labels*".into() };
    let fixture = Fixture::new(folder.path(), format);
    let found = read(&mut fixture.reader(&fixture.dataset(0), Order::Sequential, 1), &[0, 2, 4], 0);
    assert!(found == expected);
}

#[test]
fn mnist_is_read_as_it_is() {
    let Some(folder) = mnist() else {
        eprintln!("skipped: no MNIST in data/mnist or RINGSPIN_MNIST");
        return;
    };
    let format = InputFormat::Idx { images: "train-images*".into(), labels: "train-labels*".into() };
    let fixture = Fixture::new(&folder.canonicalize().unwrap(), format);
    let normalisation = Normalisation { mean: vec![0.1307], std: vec![0.3081] };
    let options = DatasetOptions { normalisation, classes: Some(10), ..DatasetOptions::default() };
    let dataset = Dataset::new(fixture.storage.clone(), fixture.index.clone(), &options).unwrap();
    let order = Order::Shuffled { seed: 1, window_bytes: 64 << 20 };
    let mut reader = fixture.reader(&Arc::new(dataset), order, 1);
    let mut classes = [0; 10];
    let (mut sum, mut squares) = (0.0, 0.0);
    for batch in read(&mut reader, &[0, 1, 2, 3, 4], 0) {
        let Targets::Classes(found) = &batch.targets else { panic!("classes") };
        found.iter().for_each(|class| classes[*class as usize] += 1);
        sum += batch.inputs.iter().map(|x| f64::from(*x)).sum::<f64>();
        squares += batch.inputs.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
    }
    assert_eq!(classes, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    let values = 60_000.0 * 784.0;
    // The usual mean and standard deviation of the training images make them 0 and 1.
    assert!((sum / values).abs() < 1e-3 && (squares / values - 1.0).abs() < 1e-3, "{sum} {squares}");
}
