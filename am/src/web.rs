//! The AM's page: the job's state for people, and the same as JSON.
//!
//! On YARN people come through the ResourceManager's proxy, which checks who may see the application; requests
//! from elsewhere are sent there, unless they carry the proof that the client printed. All links are relative:
//! the page lives below `/proxy/<application>/`.

use axum::Router;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use ringspin_control::status::Status;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

const PAGE: &str = include_str!("page.html");

/// Who may look.
#[derive(Clone, Debug)]
pub struct Access {
    /// Addresses of the ResourceManagers' proxies.
    pub proxies: Vec<IpAddr>,
    /// Where everybody else is sent: `http://rm:8088/proxy/<application>/`.
    pub proxy_url: Option<String>,
    /// Lets in whoever shows it as `?proof=`.
    pub proof: String,
}

struct Page {
    access: Access,
    status: watch::Receiver<Status>,
}

/// Serves the page until it is dropped.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    access: Access,
    status: watch::Receiver<Status>,
) -> std::io::Result<()> {
    let page = Arc::new(Page { access, status });
    let router = Router::new()
        .route("/", get(html))
        .route("/status.json", get(json))
        .fallback(|| async { (StatusCode::NOT_FOUND, "only / and /status.json are here\n") })
        .with_state(page);
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn html(
    State(page): State<Arc<Page>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Response {
    page.access.refuse(peer.ip(), query.as_deref()).unwrap_or_else(|| Html(PAGE).into_response())
}

async fn json(
    State(page): State<Arc<Page>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> Response {
    if let Some(refusal) = page.access.refuse(peer.ip(), query.as_deref()) {
        return refusal;
    }
    let body = serde_json::to_string(&*page.status.borrow());
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Access {
    fn refuse(&self, peer: IpAddr, query: Option<&str>) -> Option<Response> {
        let shown =
            query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("proof="));
        if self.proxies.contains(&peer.to_canonical()) || shown.is_some_and(|shown| same(shown, &self.proof))
        {
            return None;
        }
        Some(match &self.proxy_url {
            Some(url) => (StatusCode::FOUND, [(header::LOCATION, url.clone())]).into_response(),
            None => (StatusCode::FORBIDDEN, "use the address that was printed when the job started\n")
                .into_response(),
        })
    }
}

/// Compares without telling by its time how much was right.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(proxy_url: Option<&str>) -> Access {
        Access {
            proxies: vec!["10.0.0.1".parse().unwrap()],
            proxy_url: proxy_url.map(str::to_string),
            proof: "0123456789abcdef".into(),
        }
    }

    #[test]
    fn the_proxy_and_the_proof_are_let_in_and_others_are_sent_to_the_proxy() {
        let stranger: IpAddr = "10.0.0.9".parse().unwrap();
        let here = access(Some("http://rm:8088/proxy/app/"));
        assert!(here.refuse("10.0.0.1".parse().unwrap(), None).is_none());
        assert!(here.refuse("::ffff:10.0.0.1".parse().unwrap(), None).is_none());
        assert!(here.refuse(stranger, Some("x=1&proof=0123456789abcdef")).is_none());
        for query in [None, Some("proof="), Some("proof=0123456789abcdee"), Some("user=0123456789abcdef")] {
            let refusal = here.refuse(stranger, query).unwrap();
            assert_eq!(refusal.status(), StatusCode::FOUND);
            assert_eq!(refusal.headers()[header::LOCATION], "http://rm:8088/proxy/app/");
        }
        assert_eq!(access(None).refuse(stranger, None).unwrap().status(), StatusCode::FORBIDDEN);
    }
}
