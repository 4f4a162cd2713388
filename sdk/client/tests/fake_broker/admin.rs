//! Uploads over connections that break.

use std::sync::{Arc, Mutex};

use ottla_client::{Admin, AdminError, Classify, ErrorCode, PushProgress};
use ottla_wire::ApiKey;
use ottla_wire::message::{PushPluginRequest, PushPluginResponse};

use crate::broker::{FakeBroker, Reply};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn an_upload_goes_on_where_it_stood() {
    let have: Arc<Mutex<(Vec<u8>, usize)>> = Arc::default();
    let kept = Arc::clone(&have);
    let broker = FakeBroker::start(1, move |request| {
        if request.key != ApiKey::PushPlugin {
            return None;
        }
        let push: PushPluginRequest<'_> = request.read();
        let (bytes, requests) = &mut *kept.lock().unwrap();
        *requests += 1;
        assert!(push.chunk.len() <= MIB);
        if push.offset as usize == bytes.len() {
            bytes.extend_from_slice(push.chunk);
        }
        // The answer to the third chunk is lost, not the chunk.
        if *requests == 3 {
            return Some(Reply::Close);
        }
        let version = if bytes.len() as i64 == push.total_bytes { 4 } else { 0 };
        let next_offset = bytes.len() as i64;
        Some(request.answer(&PushPluginResponse { next_offset, version, ..PushPluginResponse::default() }))
    })
    .await;
    // An earlier attempt got half a chunk across.
    let component: Vec<u8> = (0..5 * MIB + 7).map(|n| (n % 251) as u8).collect();
    have.lock().unwrap().0 = component[..MIB / 2].to_vec();
    let mut progress = Vec::new();
    let admin = Admin::new(broker.client()).unwrap();
    let pushed = admin.push_plugin("p", &component, |state| progress.push(state)).await.unwrap();
    assert_eq!((pushed.version, pushed.digest.len()), (4, 64));
    assert!(have.lock().unwrap().0 == component, "what arrived is not what was sent");
    let total_bytes = component.len() as u64;
    assert_eq!(progress.last(), Some(&PushProgress { sent_bytes: total_bytes, total_bytes }));
}

#[tokio::test]
async fn an_upload_that_runs_in_circles_ends() {
    for next_offset in [0, -1, i64::MAX] {
        let broker = FakeBroker::start(1, move |request| {
            let answer = PushPluginResponse { next_offset, ..PushPluginResponse::default() };
            (request.key == ApiKey::PushPlugin).then(|| request.answer(&answer))
        })
        .await;
        let error = Admin::new(broker.client()).unwrap().push_plugin("p", &[0; 100], |_| {}).await.unwrap_err();
        assert!(matches!(error, AdminError::UploadStuck { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_brokers_words_reach_the_user() {
    let broker = FakeBroker::start(1, |request| {
        let answer = PushPluginResponse {
            error_code: ErrorCode::InvalidRequest,
            error_message: Some("wasi:sockets is not granted".into()),
            ..PushPluginResponse::default()
        };
        (request.key == ApiKey::PushPlugin).then(|| request.answer(&answer))
    })
    .await;
    let error = Admin::new(broker.client()).unwrap().push_plugin("p", b"x", |_| {}).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidRequest));
    assert_eq!(error.to_string(), "p: INVALID_REQUEST: wasi:sockets is not granted");
}
