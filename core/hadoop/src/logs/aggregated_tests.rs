//! Against files that Hadoop itself has written (tests/fixtures/make-aggregated-logs), whole, cut off, damaged.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NONE: &[u8] = include_bytes!("../../tests/fixtures/aggregated-none.tfile");
const GZ: &[u8] = include_bytes!("../../tests/fixtures/aggregated-gz.tfile");
const CONTAINERS: [&str; 2] =
    ["container_1700000000000_0007_01_000001", "container_e01_1700000000000_0007_02_000012"];

type Logs = BTreeMap<(String, String), Vec<u8>>;

fn source(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> io::Result<()> + '_ {
    |offset, buffer| {
        let from = usize::try_from(offset).unwrap();
        let end = from.checked_add(buffer.len()).filter(|end| *end <= bytes.len());
        buffer.copy_from_slice(&bytes[from..end.ok_or(io::ErrorKind::UnexpectedEof)?]);
        Ok(())
    }
}

fn read_all(bytes: &[u8], tail: Option<u64>) -> (Logs, Result<Option<String>, LogError>) {
    let mut logs = Logs::new();
    let mut read_at = source(bytes);
    let outcome = visit_logs(&mut read_at, bytes.len() as u64, &mut |file, reader| {
        let kept = logs.entry((file.container.clone(), file.name.clone())).or_default();
        copy_log(file, reader, tail, kept)
    });
    (logs, outcome)
}

/// What AggregatedLogs.java writes.
fn expected(lines: usize) -> Logs {
    let stdout: String = (0..lines).map(|i| format!("line {}\n", i % 100)).collect();
    let files = [("stdout", stdout.into_bytes()), ("stderr", vec![]), ("syslog", (0..=255).collect())];
    let of = |c: &str| {
        let c = c.to_owned();
        files.clone().into_iter().map(move |(name, bytes)| ((c.clone(), name.to_owned()), bytes))
    };
    CONTAINERS.iter().flat_map(|c| of(c)).collect()
}

#[test]
fn files_written_by_hadoop_are_read_completely() {
    for (bytes, lines) in [(NONE, 2_000), (GZ, 50_000)] {
        let (logs, outcome) = read_all(bytes, None);
        assert_eq!(outcome.unwrap().as_deref(), Some("alice"));
        assert!(logs == expected(lines), "{:?}", logs.iter().map(|(k, v)| (k, v.len())).collect::<Vec<_>>());
    }
}

#[test]
fn tails_and_files_that_nobody_reads() {
    let (logs, outcome) = read_all(GZ, Some(16));
    outcome.unwrap();
    let stdout = &logs[&(CONTAINERS[0].to_owned(), "stdout".to_owned())];
    assert_eq!(std::str::from_utf8(stdout).unwrap(), "line 98\nline 99\n");
    assert_eq!(logs[&(CONTAINERS[1].to_owned(), "syslog".to_owned())], (240..=255).collect::<Vec<u8>>());
    let mut names = Vec::new();
    let mut read_at = source(NONE);
    visit_logs(&mut read_at, NONE.len() as u64, &mut |file, _| {
        names.push((file.container.clone(), file.name.clone()));
        Ok(())
    })
    .unwrap();
    names.sort();
    assert_eq!(names, expected(0).into_keys().collect::<Vec<_>>());
}

#[test]
fn failures_of_source_and_writer_are_told_apart() {
    let mut broken = |_: u64, _: &mut [u8]| Err(io::Error::other("disk gone"));
    let outcome = visit_logs(&mut broken, 1 << 20, &mut |_, _| Ok(()));
    assert!(matches!(outcome, Err(LogError::Read(_))), "{outcome:?}");

    // The indexes at the end can be read, the first data block, after the magic, cannot.
    let mut inner = source(GZ);
    let mut later = |offset: u64, buffer: &mut [u8]| match offset {
        16..1000 => Err(io::Error::other("DataNode gone")),
        _ => inner(offset, buffer),
    };
    let outcome = visit_logs(&mut later, GZ.len() as u64, &mut |_, _| Ok(()));
    assert!(matches!(&outcome, Err(LogError::Read(e)) if e.to_string() == "DataNode gone"), "{outcome:?}");

    let mut read_at = source(NONE);
    let outcome =
        visit_logs(&mut read_at, NONE.len() as u64, &mut |_, _| Err(io::ErrorKind::BrokenPipe.into()));
    assert!(
        matches!(&outcome, Err(LogError::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe),
        "{outcome:?}"
    );
}

#[test]
fn other_files_are_refused_with_a_hint() {
    for other in [&b""[..], b"hello", &[0; 100], &NONE[1..], &[NONE, b"x"].concat()] {
        let (_, outcome) = read_all(other, None);
        let error = outcome.unwrap_err();
        assert!(matches!(error, LogError::NotTFile(_)), "{error}");
        assert!(error.to_string().contains("IFile"), "{error}");
    }
    let mut other = NONE.to_vec();
    let codecs: Vec<usize> = (0..NONE.len() - 5).filter(|at| NONE[*at..].starts_with(b"\x04none")).collect();
    codecs.iter().for_each(|at| other[at + 1..at + 5].copy_from_slice(b"zstd"));
    let error = read_all(&other, None).1.unwrap_err();
    assert!(matches!(&error, LogError::Codec(name) if name == "zstd"), "{error}");
}

/// The tail is kept, so that damage inside is reached.
fn cut_inside(bytes: &[u8], at: usize, n: usize) -> Vec<u8> {
    let at = at.min(bytes.len());
    [&bytes[..at], &bytes[(at + n).min(bytes.len())..]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damaged_files_are_errors_or_other_logs_and_never_panics(
        gz: bool,
        flips in prop::collection::vec((0usize..1 << 20, any::<u8>()), 1..6),
        cut in (0usize..1 << 20, 0usize..64),
        near_end: bool,
    ) {
        let original = if gz { GZ } else { NONE };
        let mut bytes = original.to_vec();
        // Half of the damage goes where the indexes are.
        let base = if near_end { bytes.len().saturating_sub(400) } else { 0 };
        let span = bytes.len() - base;
        for (at, value) in flips {
            bytes[base + at % span] ^= value;
        }
        let cut_at = base + cut.0 % span;
        let bytes = cut_inside(&bytes, cut_at, cut.1);
        let (logs, outcome) = read_all(&bytes, None);
        // Nothing is made up: a container's logs are never longer than what could be in the file.
        if outcome.is_ok() && !gz {
            let total: usize = logs.values().map(Vec::len).sum();
            prop_assert!(total <= 2 * bytes.len(), "{total} of {}", bytes.len());
        }
    }

    #[test]
    fn truncated_files_are_errors(gz: bool, keep in 0usize..1 << 20) {
        let original = if gz { GZ } else { NONE };
        let keep = keep % original.len();
        prop_assert!(read_all(&original[..keep], None).1.is_err());
    }

    #[test]
    fn any_bytes_between_good_ends(middle in prop::collection::vec(any::<u8>(), 0..300), offset in 0u64..400) {
        let magic = &NONE[..16];
        let bytes = [magic, &middle, &offset.to_be_bytes(), &[0, 1, 0, 0], magic].concat();
        let _ = read_all(&bytes, None);
    }
}
