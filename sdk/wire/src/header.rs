//! Request and response headers, and whole frames in one call.
//!
//! ```text
//! request   length i32 | api_key i16 | api_version i16 | correlation_id i32 | client_id nullable string | tags? | body
//! response  length i32 | correlation_id i32 | tags? | body
//! ```
//!
//! Flexible versions have the tagged fields (request header v2, response header v1), with two exceptions: the client id
//! stays a classic string for ever, and the response header of `ApiVersions` never has tags, because the client does not
//! know yet what the broker speaks (KIP-511).

use crate::primitive::{DecodeError, DecodeFault, Reader, Str, Wire, Writer};
use crate::{ApiKey, ApiVersion, Message};

/// What stands in front of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The number of the API. Kept as a number: it may be one that Ottla does not know.
    pub api_key: i16,
    /// The version of the API.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str<'a>>,
}

impl<'a> RequestHeader<'a> {
    /// The header of a request `M` in `version`.
    pub fn of<'m, M: Message<'m>>(
        version: impl Into<ApiVersion>,
        correlation_id: i32,
        client_id: Option<Str<'a>>,
    ) -> Self {
        Self { api_key: M::KEY.code(), api_version: version.into().0, correlation_id, client_id }
    }

    /// The API, if Ottla speaks it.
    pub fn key(&self) -> Option<ApiKey> {
        ApiKey::from_code(self.api_key)
    }

    /// The version, as a type.
    pub fn version(&self) -> ApiVersion {
        ApiVersion(self.api_version)
    }

    /// Whether the request uses compact lengths and tagged fields. Unknown APIs are taken as if they did not: nothing
    /// behind their header is read anyway.
    pub fn is_flexible(&self) -> bool {
        self.key().is_some_and(|key| key.is_flexible(self.api_version))
    }

    /// Reads a header and leaves the reader at the body.
    pub fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (header, body) = split_request(r.rest())?;
        r.take(r.remaining() - body.len())?;
        Ok(header)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let flexible = self.is_flexible();
        let mut w = Writer::new(out, self.api_version, false);
        self.api_key.encode(&mut w);
        self.api_version.encode(&mut w);
        self.correlation_id.encode(&mut w);
        self.client_id.encode(&mut w);
        Writer::new(out, self.api_version, flexible).no_tagged_fields();
    }
}

/// Splits a frame (without its length) into header and body.
pub fn split_request(frame: &[u8]) -> Result<(RequestHeader<'_>, &[u8]), DecodeError> {
    let mut r = Reader::new(frame, 0, false);
    let mut read = || {
        Ok(RequestHeader {
            api_key: Wire::decode(&mut r)?,
            api_version: Wire::decode(&mut r)?,
            correlation_id: Wire::decode(&mut r)?,
            client_id: Wire::decode(&mut r)?,
        })
    };
    let header: RequestHeader<'_> = read().map_err(|error: DecodeError| error.within("request header"))?;
    let mut r = Reader::new(r.rest(), header.api_version, header.is_flexible());
    r.skip_tagged_fields().map_err(|error| error.within("request header"))?;
    Ok((header, r.rest()))
}

/// Reads the body of a request. Bytes behind it are ignored, as Kafka does.
pub fn decode_request<'a, M: Message<'a>>(version: impl Into<ApiVersion>, body: &'a [u8]) -> Result<M, DecodeError> {
    M::decode(&mut body_reader::<M>(version.into(), body)?)
}

/// Reads a response (without its length): the correlation id and the message.
///
/// A broker that does not know the version of an `ApiVersions` request answers in version 0 with
/// [`ErrorCode::UnsupportedVersion`](crate::ErrorCode::UnsupportedVersion): a client whose version failed to decode
/// tries again with version 0.
pub fn decode_response<'a, M: Message<'a>>(
    version: impl Into<ApiVersion>,
    frame: &'a [u8],
) -> Result<(i32, M), DecodeError> {
    let version = version.into();
    let mut r = Reader::new(frame, version.0, response_header_has_tags(M::KEY, version.0));
    let mut read = || {
        let correlation_id = Wire::decode(&mut r)?;
        r.skip_tagged_fields()?;
        Ok(correlation_id)
    };
    let correlation_id = read().map_err(|error: DecodeError| error.within("response header"))?;
    Ok((correlation_id, M::decode(&mut body_reader::<M>(version, r.rest())?)?))
}

/// The correlation id of a response (without its length), to find out which request it answers.
pub fn correlation_id(frame: &[u8]) -> Result<i32, DecodeError> {
    Wire::decode(&mut Reader::new(frame, 0, false)).map_err(|error| error.within("response header"))
}

/// Appends a whole request, length included. The header's version decides how `message` is written.
pub fn encode_request<'a, M: Message<'a>>(header: &RequestHeader<'_>, message: &M, out: &mut Vec<u8>) {
    framed(out, |out| {
        header.encode(out);
        message.encode(&mut Writer::new(out, header.api_version, M::KEY.is_flexible(header.api_version)));
    });
}

/// Appends a whole response, length included.
pub fn encode_response<'a, M: Message<'a>>(
    correlation_id: i32,
    version: impl Into<ApiVersion>,
    message: &M,
    out: &mut Vec<u8>,
) {
    let version = version.into();
    framed(out, |out| {
        encode_response_header(M::KEY, correlation_id, version, out);
        message.encode(&mut Writer::new(out, version.0, M::KEY.is_flexible(version.0)));
    });
}

pub(crate) fn encode_response_header(key: ApiKey, correlation_id: i32, version: ApiVersion, out: &mut Vec<u8>) {
    let mut w = Writer::new(out, version.0, response_header_has_tags(key, version.0));
    correlation_id.encode(&mut w);
    w.no_tagged_fields();
}

fn response_header_has_tags(key: ApiKey, version: i16) -> bool {
    key != ApiKey::ApiVersions && key.is_flexible(version)
}

fn body_reader<'a, M: Message<'a>>(version: ApiVersion, body: &'a [u8]) -> Result<Reader<'a>, DecodeError> {
    if !M::VERSIONS.contains(version.0) {
        return Err(DecodeError::new(M::KEY.name(), DecodeFault::UnsupportedVersion { version }));
    }
    Ok(Reader::new(body, version.0, version.0 >= M::FLEXIBLE_FROM))
}

/// Lets `write` append something and puts its length in front.
fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    set_frame_length(out, start, 0);
}

/// Fills in the length of the frame that begins at `start`, to which `bytes_elsewhere` will be added on the way out.
pub(crate) fn set_frame_length(out: &mut [u8], start: usize, bytes_elsewhere: usize) {
    let body = out.len().saturating_sub(start + 4).saturating_add(bytes_elsewhere);
    let length = i32::try_from(body).unwrap_or(i32::MAX);
    if let Some(prefix) = out.get_mut(start..start + 4) {
        prefix.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse};

    #[test]
    fn a_request_is_split_where_its_version_says() {
        let request = MetadataRequest { allow_auto_topic_creation: false, ..MetadataRequest::default() };
        for version in MetadataRequest::VERSIONS.iter().filter(|version| *version >= 4).map(ApiVersion) {
            let header = RequestHeader::of::<MetadataRequest<'_>>(version, 7, Some("kcat".into()));
            let mut out = Vec::new();
            encode_request(&header, &request, &mut out);
            assert_eq!(out[..4], (out.len() as i32 - 4).to_be_bytes());
            let (read, body) = split_request(&out[4..]).unwrap();
            assert_eq!(read, header);
            assert_eq!(decode_request::<MetadataRequest<'_>>(version, body).unwrap(), request);
        }
    }

    #[test]
    fn the_response_header_of_api_versions_never_has_tags() {
        let mut out = Vec::new();
        encode_response(9, ApiVersion(4), &ApiVersionsResponse::default(), &mut out);
        // Length, correlation id, and then at once the error code: no tag byte in between.
        assert_eq!(out[4..10], [0, 0, 0, 9, 0, 0]);
        let (correlation_id, response) = decode_response::<ApiVersionsResponse<'_>>(ApiVersion(4), &out[4..]).unwrap();
        assert_eq!((correlation_id, response), (9, ApiVersionsResponse::default()));

        out.clear();
        encode_response(9, ApiVersion(13), &MetadataResponse::default(), &mut out);
        assert_eq!(out[4..9], [0, 0, 0, 9, 0]);
        assert_eq!(decode_response::<MetadataResponse<'_>>(ApiVersion(13), &out[4..]).unwrap().0, 9);
    }

    #[test]
    fn a_version_that_is_not_served_is_refused() {
        let error = decode_request::<ApiVersionsRequest<'_>>(ApiVersion(9), &[]).unwrap_err();
        assert_eq!(error.error_code(), crate::ErrorCode::UnsupportedVersion);
    }
}
