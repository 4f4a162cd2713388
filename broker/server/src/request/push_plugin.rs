//! PushPlugin, Ottla's own, version 0.
//!
//! Behaviour: a component comes in chunks; each answer says where the next one begins, so that an upload can be taken up
//! again after a lost connection (an empty chunk asks where). Refused from the declared size, before a chunk is kept.
//! With the last chunk the component is checked, compiled and given a version; the first version of a name is active at
//! once. Bytes that the name has already keep the version they have.

use std::sync::Arc;

use ottla_plugin_host::{AdmitError, Digest};
use ottla_wire::message::{PLUGIN_CHUNK_BYTES_MAX, PushPluginRequest, PushPluginResponse};
use ottla_wire::{ErrorCode, Str};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::config::{PluginRef, SettingValue};
use crate::plugins::{Chunk, PushError, UploadError};

/// Serves PushPlugin.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: PushPluginRequest<'_> = decoded(head, frame)?;
    let answer = match push(broker, &request) {
        Ok((next_offset, version)) => {
            PushPluginResponse { next_offset: next_offset as i64, version, ..PushPluginResponse::default() }
        }
        Err((error_code, message, next_offset)) => PushPluginResponse {
            error_code,
            error_message: Some(Str::Owned(message)),
            next_offset: next_offset as i64,
            ..PushPluginResponse::default()
        },
    };
    Ok(Response::of(head, &answer))
}

/// The next offset and the version, or code, message and the next offset.
fn push(broker: &Broker, request: &PushPluginRequest<'_>) -> Result<(u64, i32), (ErrorCode, String, u64)> {
    let invalid = |message: String| (ErrorCode::InvalidRequest, message, 0);
    match PluginRef::parse(&request.name) {
        Ok(PluginRef { version: None, .. }) => {}
        Ok(_) => {
            return Err(invalid(format!("{:?} is no plugin name: versions are given by the broker", request.name)));
        }
        Err(wrong) => return Err(invalid(wrong)),
    }
    let digest: Digest = request.digest.parse().map_err(|error| invalid(format!("{:?}: {error}", request.digest)))?;
    let positive =
        |name: &str, number: i64| u64::try_from(number).map_err(|_| invalid(format!("{name} cannot be {number}")));
    let total_bytes = positive("total_bytes", request.total_bytes)?;
    let offset = positive("offset", request.offset)?;
    if request.chunk.len() > PLUGIN_CHUNK_BYTES_MAX {
        let bytes = request.chunk.len();
        return Err(invalid(format!("a chunk has at most {PLUGIN_CHUNK_BYTES_MAX} bytes, this one has {bytes}")));
    }
    let chunk = Chunk { digest, total_bytes, offset, bytes: request.chunk };
    broker.plugins.push(&request.name, chunk).map_err(|error| {
        let (error_code, next_offset) = code_of(&error);
        if error_code == ErrorCode::KafkaStorageError {
            tracing::error!(plugin = %request.name, %error, "an upload failed");
        } else {
            tracing::warn!(plugin = %request.name, %error, "an upload was refused");
        }
        (error_code, error.to_string(), next_offset)
    })
}

fn code_of(error: &PushError) -> (ErrorCode, u64) {
    match error {
        PushError::Upload(UploadError::Gap { received_bytes, .. }) => (ErrorCode::OffsetOutOfRange, *received_bytes),
        PushError::Upload(UploadError::TooMany) => (ErrorCode::ThrottlingQuotaExceeded, 0),
        PushError::Upload(UploadError::Admit(AdmitError::TooLarge { .. })) => (ErrorCode::MessageTooLarge, 0),
        PushError::Upload(UploadError::Admit(AdmitError::WrongDigest { .. })) => (ErrorCode::CorruptMessage, 0),
        PushError::Upload(UploadError::Admit(error)) if error.is_refusal() => (ErrorCode::InvalidRequest, 0),
        PushError::Upload(UploadError::Admit(_)) | PushError::Meta(_) => (ErrorCode::KafkaStorageError, 0),
    }
}
