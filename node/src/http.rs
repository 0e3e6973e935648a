//! The HTTP listener: `/health/live`, `/health/ready` and `/metrics`. It shows what others report and decides nothing.

use std::future::Future;
use std::io;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::metrics::Metrics;

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Behind `/health/ready`.
    pub health: Health,
    /// Behind `/metrics`.
    pub metrics: Metrics,
}

/// Serves until `stop` completes.
pub async fn serve(
    listener: TcpListener,
    pages: Pages,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(pages)).with_graceful_shutdown(stop).await
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(missing)
        .with_state(pages)
}

async fn index() -> Response {
    text(StatusCode::OK, INDEX.to_owned())
}

async fn missing() -> Response {
    text(StatusCode::NOT_FOUND, format!("no such page; {INDEX}"))
}

const INDEX: &str = "there are /health/live, /health/ready and /metrics\n";

/// That this is answered at all is the answer.
async fn live() -> Response {
    json(StatusCode::OK, r#"{"live":true}"#.to_owned())
}

async fn ready(State(pages): State<Pages>) -> Response {
    let report = pages.health.report();
    let status = match report.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    match serde_json::to_string(&report) {
        Ok(body) => json(status, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match pages.metrics.render() {
        Ok(body) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn json(status: StatusCode, mut body: String) -> Response {
    body.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn text(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    async fn fetch(port: u16, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_pages_answer_and_the_server_stops() {
        let health = Health::new();
        let metrics = Metrics::new();
        let broker = health.component("broker");
        metrics.counter("vltava_test_total", "A test.").inc_by(3);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let pages = Pages { health, metrics };
        let server = tokio::spawn(serve(listener, pages, async move {
            let _ = stopped.await;
        }));

        assert!(fetch(port, "/health/live").await.starts_with("HTTP/1.1 200"));
        let waiting = fetch(port, "/health/ready").await;
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.contains(r#""reason":"starting""#),
            "{waiting}"
        );
        broker.ready();
        assert!(fetch(port, "/health/ready").await.starts_with("HTTP/1.1 200"));
        let page = fetch(port, "/metrics").await;
        assert!(
            page.contains("# HELP vltava_test_total A test.") && page.contains("vltava_test_total 3"),
            "{page}"
        );
        assert!(page.contains("process_resident_memory_bytes "), "{page}");
        assert!(fetch(port, "/metric").await.starts_with("HTTP/1.1 404"));

        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
