//! Web services of ResourceManager and NodeManager, where RPC has nothing alike: why an application waits, why
//! an attempt failed, and (in [`crate::logs`]) logs. For diagnosis only: nothing here may stop a job.
//!
//! Plain HTTP with the pseudo authentication of clusters without Kerberos; HTTPS and SPNEGO are refused with
//! the server's own words. Answers are limited in size, redirects (a standby ResourceManager, which for a moment
//! may even point at itself) in number.

use crate::ids::ApplicationId;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 4;
/// Largest answer kept in memory.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Bytes of an error page that are shown.
const MAX_ERROR_BYTES: usize = 2048;
/// How deep JSON is looked into; the ResourceManager's is 8 levels deep. (serde_json itself stops at 128.)
const MAX_DEPTH: usize = 32;
/// Seconds that the ResourceManager goes on recording why an application waits, after it was asked to.
const RECORDING_SECONDS: u32 = 5;

/// A web service that did not tell what was asked.
#[derive(Debug, Error)]
pub enum WebError {
    /// Cannot be reached, or broke off.
    #[error("{url}: {source}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// Is not there: for logs, the container is not, or no longer, on that node.
    #[error("{url}: not found: {text}")]
    NotFound {
        /// What was asked for.
        url: String,
        /// The server's words.
        text: String,
    },
    /// Another refusal.
    #[error("{url}: HTTP status {status}: {text}")]
    Status {
        /// What was asked for.
        url: String,
        /// Status.
        status: u16,
        /// The server's words.
        text: String,
    },
    /// Something else than expected.
    #[error("{url}: {what}")]
    Malformed {
        /// What was asked for.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// What came could not be written.
    #[error("cannot write what {url} sent: {source}")]
    Write {
        /// What was asked for.
        url: String,
        /// What happened.
        source: std::io::Error,
    },
}

/// A client of Hadoop's web services.
#[derive(Clone)]
pub struct WebClient {
    http: reqwest::Client,
    user: Option<String>,
}

impl WebClient {
    /// A client that calls itself `user` and waits at most `timeout` for the next bytes.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(user: Option<String>, timeout: Duration) -> Result<Self, WebError> {
        let http = reqwest::Client::builder()
            .connect_timeout(timeout)
            .read_timeout(timeout)
            .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
            .no_proxy()
            .build()
            .map_err(|source| WebError::Unreachable { url: "HTTP client".into(), source })?;
        Ok(WebClient { http, user })
    }

    /// Asks for `path` (with query) at `address` (`host:port`, or with scheme); the status has been checked.
    pub(crate) async fn open(
        &self,
        address: &str,
        path: &str,
    ) -> Result<(String, reqwest::Response), WebError> {
        let base = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let mut url = format!("{}{path}", base.trim_end_matches('/'));
        if let Some(user) = &self.user {
            let separator = if url.contains('?') { '&' } else { '?' };
            url = format!("{url}{separator}user.name={}", percent_encode(user));
        }
        let request = self.http.get(&url).header("Accept", "application/json, text/plain");
        let mut response =
            request.send().await.map_err(|source| WebError::Unreachable { url: url.clone(), source })?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok((url, response));
        }
        let mut text = Vec::new();
        while let Ok(Some(bytes)) = response.chunk().await {
            text.extend_from_slice(&bytes[..bytes.len().min(MAX_ERROR_BYTES - text.len())]);
            if text.len() == MAX_ERROR_BYTES {
                break;
            }
        }
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        match status {
            404 => Err(WebError::NotFound { url, text }),
            status => Err(WebError::Status { url, status, text }),
        }
    }

    /// Asks for JSON at `path` (with query) of `address` (`host:port`, or with scheme).
    ///
    /// # Errors
    /// No answer, a bad status, an answer that is too large or no JSON.
    pub async fn json(&self, address: &str, path: &str) -> Result<Value, WebError> {
        let (url, mut response) = self.open(address, path).await?;
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                Ok(None) => break,
                Err(source) => return Err(WebError::Unreachable { url, source }),
            }
            if body.len() > MAX_ANSWER_BYTES {
                let what = format!("the answer is larger than {MAX_ANSWER_BYTES} bytes");
                return Err(WebError::Malformed { url, what });
            }
        }
        serde_json::from_slice(&body)
            .map_err(|error| WebError::Malformed { url, what: format!("no JSON: {error}") })
    }
}

/// Everything but unreserved characters (RFC 3986) as `%XX`.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Why containers of an application are not allocated, by the scheduler's word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitingReason {
    /// The ask (`allocation_request_id`), where the reason is about one.
    pub ask: Option<i64>,
    /// The scheduler's words.
    pub text: String,
    /// Nodes it says so about; empty: about all, or about none in particular.
    pub nodes: BTreeSet<String>,
}

impl fmt::Display for WaitingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if !self.nodes.is_empty() {
            let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
            write!(f, " (on {})", nodes.join(", "))?;
        }
        Ok(())
    }
}

/// The ResourceManager's web services.
#[derive(Clone)]
pub struct ResourceManagerWeb {
    web: WebClient,
    addresses: Vec<String>,
}

impl ResourceManagerWeb {
    /// The web services at `addresses` (`yarn.resourcemanager.webapp.address`, of all ResourceManagers).
    pub fn new(web: WebClient, addresses: Vec<String>) -> Self {
        ResourceManagerWeb { web, addresses }
    }

    /// Why containers of `application` are not allocated. The first call makes the scheduler record it and is
    /// answered with nothing; ask again within seconds. Fair schedulers and Hadoop before 3.3 tell nothing.
    pub async fn waiting_reasons(&self, application: ApplicationId) -> Result<Vec<WaitingReason>, WebError> {
        let path = format!(
            "/ws/v1/cluster/scheduler/app-activities/{application}?maxTime={RECORDING_SECONDS}\
             &groupBy=diagnostic&summarize=true"
        );
        Ok(waiting_reasons(&self.first_answer(&path).await?))
    }

    /// The answer of the first ResourceManager that has one: a standby redirects to the active one, a dead one
    /// does not answer.
    async fn first_answer(&self, path: &str) -> Result<Value, WebError> {
        let mut last = WebError::Malformed { url: path.to_owned(), what: "no address to ask".into() };
        for address in &self.addresses {
            match self.web.json(address, path).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The diagnostics anywhere in an answer about activities: its shape differs between versions and groupings.
fn waiting_reasons(answer: &Value) -> Vec<WaitingReason> {
    let mut found: BTreeMap<(Option<i64>, String), BTreeSet<String>> = BTreeMap::new();
    let allocations = answer.get("appActivities").and_then(|a| a.get("allocations"));
    collect(allocations.unwrap_or(&Value::Null), (None, &BTreeSet::new()), MAX_DEPTH, &mut found);
    found.into_iter().map(|((ask, text), nodes)| WaitingReason { ask, text, nodes }).collect()
}

fn collect(
    value: &Value,
    (ask, nodes): (Option<i64>, &BTreeSet<String>),
    depth: usize,
    found: &mut BTreeMap<(Option<i64>, String), BTreeSet<String>>,
) {
    match value {
        _ if depth == 0 => {}
        Value::Array(items) => items.iter().for_each(|item| collect(item, (ask, nodes), depth - 1, found)),
        Value::Object(fields) => {
            let ask = fields.get("allocationRequestId").and_then(Value::as_i64).or(ask);
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let mut here: BTreeSet<String> = fields.get("nodeId").and_then(text).into_iter().collect();
            match fields.get("nodeIds") {
                Some(Value::Array(ids)) => here.extend(ids.iter().filter_map(text)),
                Some(id) => here.extend(text(id)),
                None => {}
            }
            let nodes = if here.is_empty() { nodes } else { &here };
            if let Some(diagnostic) = fields.get("diagnostic").and_then(text).filter(|d| !d.is_empty()) {
                found.entry((ask, diagnostic)).or_default().extend(nodes.iter().cloned());
            }
            fields.values().for_each(|field| collect(field, (ask, nodes), depth - 1, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(json: &str) -> Vec<String> {
        let answer = serde_json::from_str(json).unwrap();
        waiting_reasons(&answer).iter().map(|r| format!("{:?}: {r}", r.ask)).collect()
    }

    #[test]
    fn activities_of_a_real_scheduler_are_understood() {
        let nothing_yet = r#"{"appActivities":{"applicationId":"application_1_0003",
            "diagnostic":"waiting for display","timestamp":1,"dateTime":"Tue"}}"#;
        assert_eq!(reasons(nothing_yet), Vec::<String>::new());
        let by_node = r#"{"appActivities":{"applicationId":"application_1_0003","allocations":[
            {"nodeId":"node2:45451","queueName":"default","allocationState":"SKIPPED","children":[
              {"requestPriority":0,"allocationRequestId":7,"allocationState":"REJECTED","diagnostic":"no headroom"}]},
            {"nodeId":"node1:45451","queueName":"default","allocationState":"SKIPPED","children":[
              {"requestPriority":0,"allocationRequestId":7,"allocationState":"REJECTED","diagnostic":"no headroom"}]}]}}"#;
        assert_eq!(reasons(by_node), ["Some(7): no headroom (on node1:45451, node2:45451)"]);
        let grouped = r#"{"appActivities":{"allocations":[{"allocationState":"SKIPPED","children":[
            {"allocationRequestId":0,"children":[
              {"diagnostic":"Node skipped because relax locality is not allowed","nodeIds":["node1:1","node2:1"]}]},
            {"allocationRequestId":1,"diagnostic":"other"}]}]}}"#;
        assert_eq!(
            reasons(grouped),
            [
                "Some(0): Node skipped because relax locality is not allowed (on node1:1, node2:1)",
                "Some(1): other"
            ]
        );
    }

    #[test]
    fn odd_answers_are_no_reasons() {
        for odd in
            ["null", "[]", "{}", r#"{"appActivities":3}"#, r#"{"appActivities":{"allocations":{"a":[1]}}}"#]
        {
            assert_eq!(reasons(odd), Vec::<String>::new());
        }
        let deep = format!(
            r#"{{"appActivities":{{"allocations":{}{}}}}}"#,
            r#"{"x":"#.repeat(60),
            r#"{"diagnostic":"deep"}"#.to_owned() + &"}".repeat(60)
        );
        assert_eq!(reasons(&deep), Vec::<String>::new());
    }

    #[test]
    fn names_are_encoded_for_urls() {
        assert_eq!(percent_encode("alice"), "alice");
        assert_eq!(percent_encode("a b/ü&c"), "a%20b%2F%C3%BC%26c");
    }
}
