//! ApiVersions, versions 0-4.
//!
//! Behaviour: answers the table of `ottla_wire::api`; the project's own keys go only to clients that name themselves
//! `ottla`, since some others stumble over keys they do not know. A version above ours is answered in version 0 with
//! UNSUPPORTED_VERSION and the range of this API, and the connection stays open (KIP-511). A bad name is
//! INVALID_REQUEST.
//! Not supported: finalized features; there are none.

use std::sync::{Arc, OnceLock};

use ottla_wire::message::{ApiVersionsRequest, ApiVersionsResponse, ApiVersionsResponseKey};
use ottla_wire::{Api, ApiKey, ErrorCode};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Versions 0 to 4.
const VERSIONS: usize = 5;

/// Serves ApiVersions.
pub(super) fn respond(
    _broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: ApiVersionsRequest<'_> = decoded(head, frame)?;
    if head.version >= 3 {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        if !is_software_text(name) || !is_software_text(version) {
            let refusal = ApiVersionsResponse { error_code: ErrorCode::InvalidRequest, ..Default::default() };
            return Ok(Response::of(head, &refusal));
        }
        peer.introduce(name, version);
    }
    Ok(answer(head, peer.is_ottla()))
}

/// The table, encoded once for each version and audience: every connection asks for it, and it never changes.
fn answer(head: RequestHead, is_ottla: bool) -> Response {
    static ANSWERS: [[OnceLock<Response>; VERSIONS]; 2] = [const { [const { OnceLock::new() }; VERSIONS] }; 2];
    let encode = || {
        let api_keys = Api::advertised_to(is_ottla).map(row).collect();
        Response::of(head, &ApiVersionsResponse { api_keys, ..Default::default() })
    };
    let kept = usize::try_from(head.version).ok().and_then(|version| ANSWERS[usize::from(is_ottla)].get(version));
    match kept {
        Some(kept) => Response::again(head, kept.get_or_init(encode)),
        None => encode(),
    }
}

/// The answer to a version that the broker does not know.
pub(super) fn unsupported(head: RequestHead) -> Response {
    let api_keys = vec![row(ApiKey::ApiVersions.api())];
    let error_code = ErrorCode::UnsupportedVersion;
    Response::at_version(head, 0, &ApiVersionsResponse { error_code, api_keys, ..Default::default() })
}

fn row(api: &Api) -> ApiVersionsResponseKey {
    ApiVersionsResponseKey { api_key: api.key.code(), min_version: api.advertised.min, max_version: api.advertised.max }
}

/// KIP-511: letters and digits, with dots and dashes between them.
fn is_software_text(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

#[cfg(test)]
mod tests {
    use super::is_software_text;

    #[test]
    fn software_names_are_those_of_kip_511() {
        for good in ["ottla", "apache-kafka-java", "librdkafka", "4.1.0", "a"] {
            assert!(is_software_text(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", ".1", "ä", "a_b"] {
            assert!(!is_software_text(bad), "{bad}");
        }
    }
}
