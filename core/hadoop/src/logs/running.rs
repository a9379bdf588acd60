//! Logs of running containers, from the web service of their NodeManager.
//!
//! A NodeManager wraps a log file into a header and a trailer of its own; `Envelope` takes them off by the
//! length that the header tells, which is that of the whole file also when only its end was asked for. Sizes are
//! the only window that the service knows (`size=-N`: the last N bytes), so following a log means asking for an
//! end that surely reaches back to what was seen. Once a container is gone (404, or 503 after the application's
//! end) its logs are found by [`super::layout`].

use crate::ids::ContainerId;
use crate::yarn::web::{WebClient, WebError, percent_encode};
use serde_json::Value;
use std::io::{self, Write};

/// The header has seven short lines.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Line after which the log begins.
const CONTENTS: &[u8] = b"LogContents:\n";
/// Line with the bytes of the whole file.
const LENGTH: &str = "LogLength:";
/// Bytes that a follower asks for beyond what it has not seen, so that a growing file leaves no gap.
const FOLLOW_BYTES: u64 = 64 << 10;
/// Answers with a gap before a follower gives up: the file grows faster than it is sent.
const MAX_GAPS: u32 = 8;

/// A log file of a running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningLog {
    /// Name, such as `stderr`.
    pub name: String,
    /// Bytes so far.
    pub length: u64,
}

/// Which bytes of a file an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the first byte.
    pub start: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// Logs of running containers.
#[derive(Clone)]
pub struct NodeLogs {
    web: WebClient,
}

impl NodeLogs {
    /// Asks with `web`.
    pub fn new(web: WebClient) -> Self {
        NodeLogs { web }
    }

    /// The log files of a container on the node with this web address (`host:port`). None of a container that
    /// is not there (yet, or any more).
    pub async fn list(&self, node: &str, container: ContainerId) -> Result<Vec<RunningLog>, WebError> {
        Ok(list(&self.web.json(node, &format!("/ws/v1/node/containers/{container}/logs")).await?))
    }

    /// Writes a log file to `out`, or only its last `tail` bytes.
    pub async fn read(
        &self,
        node: &str,
        (container, name): (ContainerId, &str),
        tail: Option<u64>,
        out: &mut (dyn Write + Send),
    ) -> Result<Extent, WebError> {
        self.fetch(node, (container, name), Envelope::new(tail, None), out).await
    }

    /// Writes what a log file has beyond `offset` to `out`; returns the next offset. It is smaller when the file
    /// was replaced by a shorter one: then everything of the new one is written.
    pub async fn follow(
        &self,
        node: &str,
        log: (ContainerId, &str),
        offset: u64,
        out: &mut (dyn Write + Send),
    ) -> Result<u64, WebError> {
        let (mut offset, mut tail) = (offset, FOLLOW_BYTES);
        for _ in 0..MAX_GAPS {
            let extent = self.fetch(node, log, Envelope::new(Some(tail), Some(offset)), out).await?;
            if extent.total < offset {
                offset = 0;
            } else if extent.start <= offset {
                return Ok(extent.total);
            }
            tail = extent.total - offset + FOLLOW_BYTES;
        }
        Err(WebError::Malformed { url: node.to_owned(), what: format!("{} grows too fast to follow", log.1) })
    }

    async fn fetch(
        &self,
        node: &str,
        (container, name): (ContainerId, &str),
        mut envelope: Envelope,
        out: &mut (dyn Write + Send),
    ) -> Result<Extent, WebError> {
        let size = envelope.tail.map(|tail| format!("?size=-{tail}")).unwrap_or_default();
        let name = percent_encode(name);
        let path = format!("/ws/v1/node/containers/{container}/logs/{name}{size}");
        let (url, mut response) = self.web.open(node, &path).await?;
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => envelope.feed(&bytes, out).map_err(|error| error.at(&url))?,
                Ok(None) => return envelope.end().map_err(|error| error.at(&url)),
                Err(source) => return Err(WebError::Unreachable { url, source }),
            }
            if let Some(extent) = envelope.is_done() {
                return Ok(extent);
            }
        }
    }
}

/// The files of a NodeManager's answer, wherever they are in it: the nesting differs between versions.
fn list(answer: &Value) -> Vec<RunningLog> {
    let mut found = Vec::new();
    let mut next = vec![answer];
    while let Some(value) = next.pop() {
        match value {
            Value::Array(items) => next.extend(items.iter().rev()),
            Value::Object(fields) => {
                let name = fields.get("fileName").and_then(Value::as_str);
                let length = fields.get("fileSize").and_then(|size| match size {
                    Value::String(text) => text.trim().parse().ok(),
                    other => other.as_u64(),
                });
                match (name, length) {
                    (Some(name), Some(length)) => found.push(RunningLog { name: name.to_owned(), length }),
                    _ => next.extend(fields.values()),
                }
            }
            _ => {}
        }
    }
    found
}

#[derive(Debug)]
enum EnvelopeError {
    Malformed(String),
    Write(io::Error),
}

impl EnvelopeError {
    fn at(self, url: &str) -> WebError {
        let url = url.to_owned();
        match self {
            EnvelopeError::Malformed(what) => WebError::Malformed { url, what },
            EnvelopeError::Write(source) => WebError::Write { url, source },
        }
    }
}

/// Takes header and trailer off an answer that comes in pieces.
struct Envelope {
    /// Bytes of the file's end that were asked for; `None`: all of it.
    tail: Option<u64>,
    /// Bytes before this offset are known already; when there are unknown ones before the answer's first byte,
    /// nothing is written.
    from: Option<u64>,
    header: Vec<u8>,
    body: Option<Body>,
}

struct Body {
    extent: Extent,
    skip: u64,
    write: u64,
}

impl Envelope {
    fn new(tail: Option<u64>, from: Option<u64>) -> Self {
        Envelope { tail, from, header: Vec::new(), body: None }
    }

    fn feed(&mut self, bytes: &[u8], out: &mut dyn Write) -> Result<(), EnvelopeError> {
        if self.body.is_some() {
            return self.pass(bytes, out);
        }
        self.header.extend_from_slice(bytes);
        let Some(at) = self.header.windows(CONTENTS.len()).position(|window| window == CONTENTS) else {
            return match self.header.len() > MAX_HEADER_BYTES {
                true => Err(EnvelopeError::Malformed("the answer is not a log: no LogContents line".into())),
                false => Ok(()),
            };
        };
        let rest = self.header.split_off(at + CONTENTS.len());
        self.body = Some(self.open()?);
        self.pass(&rest, out)
    }

    /// What the complete header says.
    fn open(&self) -> Result<Body, EnvelopeError> {
        let header = String::from_utf8_lossy(&self.header);
        let total = header.lines().find_map(|line| line.strip_prefix(LENGTH)?.trim().parse::<u64>().ok());
        let total =
            total.ok_or_else(|| EnvelopeError::Malformed("no LogLength line before the log".into()))?;
        let length = self.tail.map_or(total, |tail| tail.min(total));
        let start = total - length;
        let skip = match self.from {
            Some(from) if start > from || total < from => length,
            Some(from) => from - start,
            None => 0,
        };
        Ok(Body { extent: Extent { start, total }, skip, write: length - skip })
    }

    fn pass(&mut self, bytes: &[u8], out: &mut dyn Write) -> Result<(), EnvelopeError> {
        let Some(body) = &mut self.body else { return Ok(()) };
        let skip = usize::try_from(body.skip).unwrap_or(usize::MAX).min(bytes.len());
        body.skip -= skip as u64;
        let bytes = &bytes[skip..];
        let write = usize::try_from(body.write).unwrap_or(usize::MAX).min(bytes.len());
        body.write -= write as u64;
        out.write_all(&bytes[..write]).map_err(EnvelopeError::Write)
    }

    /// The answer's extent, once the trailer is all that may come.
    fn is_done(&self) -> Option<Extent> {
        self.body.as_ref().filter(|body| body.skip == 0 && body.write == 0).map(|body| body.extent)
    }

    fn end(&self) -> Result<Extent, EnvelopeError> {
        let broken = || match &self.body {
            Some(body) => format!("the log breaks off {} bytes before its end", body.skip + body.write),
            None => "the answer is not a log: no LogContents line".into(),
        };
        self.is_done().ok_or_else(|| EnvelopeError::Malformed(broken()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRAILER: &str = "\nEnd of LogType:stdout.This log file belongs to a running container \
        (container_1_0002_01_000002) and so may not be complete.\n*******\n\n";

    fn answer(total: usize, contents: &str) -> String {
        format!(
            "Container: container_1_0002_01_000002 on node2:45451\nLogAggregationType: LOCAL\n=====\n\
             LogType:stdout\nLogLastModifiedTime:Tue Nov 24 04:10:35 +0000 2026\nLogLength:{total}\n\
             LogContents:\n{contents}{TRAILER}"
        )
    }

    fn unwrap(envelope: Envelope, answer: &str, piece: usize) -> (String, Result<Extent, String>) {
        let (mut envelope, mut out) = (envelope, Vec::new());
        for bytes in answer.as_bytes().chunks(piece) {
            if let Err(error) = envelope.feed(bytes, &mut out) {
                return (String::from_utf8(out).unwrap(), Err(error.at("u").to_string()));
            }
        }
        let extent = envelope.end().map_err(|error| error.at("u").to_string());
        (String::from_utf8(out).unwrap(), extent)
    }

    #[test]
    fn the_log_is_what_its_length_says() {
        let text = "LogContents:\nEnd of LogType:stdout\nLogLength:7\n";
        for piece in [1, 7, 1000] {
            let (out, extent) = unwrap(Envelope::new(None, None), &answer(text.len(), text), piece);
            assert_eq!(out, text);
            assert_eq!(extent, Ok(Extent { start: 0, total: text.len() as u64 }));
        }
        let (out, extent) = unwrap(Envelope::new(Some(4), None), &answer(10, "6789"), 3);
        assert_eq!((out.as_str(), extent), ("6789", Ok(Extent { start: 6, total: 10 })));
        let (out, extent) = unwrap(Envelope::new(Some(99), None), &answer(3, "abc"), 3);
        assert_eq!((out.as_str(), extent), ("abc", Ok(Extent { start: 0, total: 3 })));
        assert_eq!(unwrap(Envelope::new(None, None), &answer(0, ""), 3).0, "");
    }

    #[test]
    fn followers_get_what_is_new_and_nothing_when_there_is_a_gap() {
        let follow = |from, tail, total, contents: &str| {
            let (out, extent) = unwrap(Envelope::new(Some(tail), Some(from)), &answer(total, contents), 5);
            (out, extent.unwrap())
        };
        assert_eq!(follow(7, 5, 10, "56789"), ("789".into(), Extent { start: 5, total: 10 }));
        assert_eq!(follow(10, 5, 10, "56789"), ("".into(), Extent { start: 5, total: 10 }));
        assert_eq!(follow(2, 5, 10, "56789"), ("".into(), Extent { start: 5, total: 10 }));
        assert_eq!(follow(20, 5, 3, "new"), ("".into(), Extent { start: 0, total: 3 }));
    }

    #[test]
    fn what_is_no_log_is_an_error() {
        let error = |text: &str| unwrap(Envelope::new(None, None), text, 100).1.unwrap_err();
        assert!(error("<html>Log Server url may not be configured</html>").contains("not a log"));
        assert!(error("LogContents:\nabc").contains("LogLength"));
        assert!(error("LogLength:9\nLogContents:\nabc").contains("6 bytes before its end"));
        assert!(error(&"x".repeat(MAX_HEADER_BYTES + 1000)).contains("not a log"));
    }

    #[test]
    fn lists_of_several_versions() {
        let list = |json: &str| list(&serde_json::from_str(json).unwrap());
        let stdout = vec![RunningLog { name: "stdout".into(), length: 25 }];
        let real = r#"{"containerLogsInfo":{"containerLogInfo":[{"fileName":"stdout","fileSize":"25",
            "lastModifiedTime":"Tue Nov 24 04:11:06 +0000 2026"}],"logAggregationType":"LOCAL"}}"#;
        assert_eq!(list(real), stdout);
        let single = r#"{"containerLogsInfo":{"containerLogInfo":{"fileName":"stdout","fileSize":25}}}"#;
        assert_eq!(list(single), stdout);
        assert_eq!(list(r#"[{"containerLogInfo":[{"fileName":"stdout","fileSize":"25"}]}]"#), stdout);
        assert_eq!(list(r#"{"containerLogsInfo":{"logAggregationType":"LOCAL"}}"#), []);
        assert_eq!(list(r#"{"fileName":"x","fileSize":"-1"}"#), []);
    }

    proptest! {
        #[test]
        fn any_answer_is_taken(text in "[LogContents:Length0-9\n]{0,200}", piece in 1usize..50, tail: Option<u64>, from: Option<u64>) {
            let _ = unwrap(Envelope::new(tail, from), &text, piece);
        }
    }
}
