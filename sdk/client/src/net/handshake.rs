//! The first exchange on a connection: the name of this client (KIP-511) and which versions both sides speak.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_wire::message::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_wire::{ApiKey, ApiVersion, ErrorCode, Message, RequestHeader, VersionRange, encode_request};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Answer;
use super::frames::FrameReader;
use crate::error::ConnectionError;

/// What Ottla's broker looks for before it offers what only our clients understand.
const SOFTWARE_NAME: &str = "ottla";

/// The version that carries a name. Version 4 adds nothing a client of ours reads.
const FIRST_TRY: i16 = 3;

/// What the broker at the other end of a connection offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    ranges: HashMap<i16, VersionRange>,
}

impl Offer {
    /// The highest version of `M` that both sides speak. `ceiling` leaves out versions this client has no use for.
    pub(crate) fn agree(&self, key: ApiKey, ceiling: i16) -> Option<ApiVersion> {
        let ours = key.api().versions;
        let theirs = self.ranges.get(&key.code())?;
        let version = ours.max.min(ceiling).min(theirs.max);
        (version >= ours.min && version >= theirs.min).then_some(ApiVersion(version))
    }
}

/// Introduces us and learns what the broker offers. Correlation ids 0 and 1 are used up.
pub(super) async fn shake_hands<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    frames: &mut FrameReader<R>,
    writer: &mut W,
    address: &Arc<str>,
    client_id: &str,
) -> Result<Offer, ConnectionError> {
    let not_kafka = |reason: String| ConnectionError::NotKafka { address: Arc::clone(address), reason: reason.into() };
    let mut version = ApiVersion(FIRST_TRY);
    for correlation_id in 0..2 {
        let frame = hello(version, correlation_id, client_id);
        writer.write_all(&frame).await.map_err(|error| not_kafka(format!("it hangs up ({error})")))?;
        let frame = frames.next().await.map_err(|end| not_kafka(format!("its first answer is missing: {end}")))?;
        let answered = ottla_wire::header::correlation_id(&frame).map_err(|error| not_kafka(error.to_string()))?;
        if answered != correlation_id {
            return Err(not_kafka("its first answer belongs to no question".to_owned()));
        }
        // A broker that does not know our version says so in the words of version 0, where the error code comes first.
        let refused = frame.get(4..6) == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes());
        let spoken = if refused { ApiVersion(0) } else { version };
        let answer = Answer { frame, version: spoken, address: Arc::clone(address) };
        let response: ApiVersionsResponse<'_> = match answer.decode() {
            // Some say no and then garble the list (librdkafka's mock cluster): version 0 is understood by all.
            Err(_) if refused => ApiVersionsResponse::default(),
            other => other?,
        };
        let offer = read_offer(&response);
        if !refused {
            return match response.error_code {
                ErrorCode::None => Ok(offer),
                code => Err(not_kafka(format!("it refuses the handshake with {}", code.name()))),
            };
        }
        version = offer.agree(ApiKey::ApiVersions, FIRST_TRY).unwrap_or(ApiVersion(0));
    }
    Err(not_kafka("it refuses every version of the handshake".to_owned()))
}

fn hello(version: ApiVersion, correlation_id: i32, client_id: &str) -> Vec<u8> {
    let header = RequestHeader::of::<ApiVersionsRequest<'_>>(version, correlation_id, Some(client_id.into()));
    let request = ApiVersionsRequest {
        client_software_name: SOFTWARE_NAME.into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
    };
    let mut frame = Vec::with_capacity(64);
    encode_request(&header, &request, &mut frame);
    frame
}

fn read_offer(response: &ApiVersionsResponse<'_>) -> Offer {
    let ranges = response.api_keys.iter().map(|api| (api.api_key, VersionRange::new(api.min_version, api.max_version)));
    Offer { ranges: ranges.collect() }
}

const _: () = assert!(ApiVersionsRequest::VERSIONS.contains(FIRST_TRY));
