//! Requests to responses. No I/O here, and nothing that waits.
#![forbid(unsafe_code)]

use super::board::Board;
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::header::{HeaderName, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};

const PAGE: &str = include_str!("page.html");
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The page carries its own style and script, and talks to its own server only.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers one request in place `id`, and counts it: what this returns has yet to be written, so no client can hold a
/// response that is not counted. `last`: say that the connection closes after this response.
pub(super) fn answer<B>(
    request: &Request<B>,
    board: &Board,
    id: usize,
    client: &str,
    last: bool,
) -> Response<Full<Bytes>> {
    board.hit(id);
    let path = request.uri().path();
    // The statistics show the visit that asks for them, but not yet how long they will be.
    let shows_itself = path == "/stats";
    if shows_itself {
        board.visit(id, path, client, 1, 0);
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match path {
        "/" | "/stats" if !reads => {
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "405: GET and HEAD only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/" => {
            let mut response = respond(StatusCode::OK, HTML, PAGE);
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            response
        }
        "/stats" => match serde_json::to_vec(&board.stats()) {
            Ok(json) => respond(StatusCode::OK, JSON, json),
            Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "500: the numbers do not fit into JSON\n"),
        },
        _ => respond(StatusCode::NOT_FOUND, TEXT, "404: there is / and /stats\n"),
    };
    let length = if *request.method() == Method::HEAD { 0 } else { response.body().size_hint().lower() };
    board.visit(id, path, client, i64::from(!shows_itself), length);
    if last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers: [(HeaderName, &'static str); 3] =
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
