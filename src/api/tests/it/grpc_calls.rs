//! Calls over gRPC through the router.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use prost::Message;
use tower::ServiceExt;

use crate::memory_events::Server;

/// A call of a method with a message.
pub(crate) fn request(method: &str, message: &impl Message) -> Request<Body> {
    let encoded = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
    frame.extend(encoded);
    let request =
        Request::builder().method("POST").uri(format!("/{method}")).header("content-type", "application/grpc");
    request.header("te", "trailers").body(Body::from(frame)).unwrap()
}

/// All messages of the answer, or code and message of the status.
pub(crate) async fn call<R: Message + Default>(
    server: &Server,
    method: &str,
    message: &impl Message,
) -> Result<Vec<R>, (i32, String)> {
    let response = server.router.clone().oneshot(request(method, message)).await.unwrap();
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let header = |name: &str| {
        let value = trailers.get(name).or_else(|| parts.headers.get(name))?;
        Some(value.to_str().unwrap().to_owned())
    };
    let status: i32 = header("grpc-status").unwrap().parse().unwrap();
    let bytes = collected.to_bytes();
    if status != 0 {
        let text = header("grpc-message").unwrap_or_default().replace("%20", " ");
        return Err((status, text));
    }
    let (mut rest, mut out) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        out.push(R::decode(&rest[5..5 + length]).unwrap());
        rest = &rest[5 + length..];
    }
    Ok(out)
}

/// The one message of the answer.
pub(crate) async fn call_once<R: Message + Default + std::fmt::Debug>(
    server: &Server,
    method: &str,
    message: &impl Message,
) -> Result<R, (i32, String)> {
    let mut found = call(server, method, message).await?;
    assert_eq!(found.len(), 1, "{found:?}");
    Ok(found.remove(0))
}
