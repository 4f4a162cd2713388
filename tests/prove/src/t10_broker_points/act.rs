//! What the broker is asked to do when it dies.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ottla_tests::connection::Connection;
use ottla_tests::record::hex;
use ottla_wire::ErrorCode;
use ottla_wire::message::PushPluginRequest;
use sha2::{Digest, Sha256};

use super::{
    Act, NEW, NEW_PARTITIONS, OLD, PLUGIN, ROUTED, ROUTED_BATCHES, ROUTED_RECORDS, SETTING, SETTING_AFTER, Said,
};
use crate::content::{Identity, Sender, batch};
use crate::image::Image;
use ottla_tests::guest::Guest;

const ROUTED_TAG: u32 = 77;
/// How long the journal has to be cut once everything is answered.
const CUT_PATIENCE: Duration = Duration::from_secs(1);
/// What is installed: everything to partition 1.
fn to_one() -> Guest {
    Guest::answers("(i32.const 1)")
}

pub(super) fn perform(act: Act, address: SocketAddr, directory: &Path, said: &mut Said) -> io::Result<()> {
    let mut socket = Connection::open(address)?;
    let code = match act {
        Act::Route => {
            for number in 0..ROUTED_BATCHES {
                let code = send_routed(&mut socket, said.producer, number)?;
                if code != ErrorCode::None {
                    return Err(io::Error::other(format!("batch {number} was answered with {code:?}")));
                }
                said.acked += 1;
            }
            // The checkpoint and the cut belong to it: the file with the first entries goes.
            let first = first_journal(directory);
            let begun = Instant::now();
            while first_journal(directory) == first
                && begun.elapsed() < CUT_PATIENCE
                && Connection::open(address).is_ok()
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            ErrorCode::None
        }
        Act::CreateTopic => socket.create_topic(NEW, NEW_PARTITIONS, &[(SETTING, SETTING_AFTER)])?.code,
        Act::DeleteTopic => socket.delete_topic(OLD)?.code,
        Act::Configure => configure(&mut socket)?,
        Act::InstallPlugin => {
            let Installed { code, message, .. } = install(&mut socket)?;
            said.compiler_died = code.is_retriable() && message.contains("compiling it was interrupted");
            code
        }
    };
    if code != ErrorCode::None {
        return Err(io::Error::other(format!("it was answered with {code:?}")));
    }
    said.done = true;
    Ok(())
}

pub(super) fn send_routed(
    socket: &mut Connection,
    (producer_id, epoch): (i64, i16),
    number: u64,
) -> io::Result<ErrorCode> {
    let number = number * u64::from(ROUTED_RECORDS);
    let sender = Sender { producer_id, epoch, sequence: number as i32 };
    let first = Identity { tag: ROUTED_TAG, number };
    let bytes = batch(first, ROUTED_RECORDS, 600, 1_700_000_000_000 + number as i64, Some(sender));
    Ok(socket.produce(ROUTED, 0, &bytes)?.code)
}

pub(super) fn configure(socket: &mut Connection) -> io::Result<ErrorCode> {
    Ok(socket.set_topic(OLD, SETTING, SETTING_AFTER)?.code)
}

/// What an upload is answered with.
pub(super) struct Installed {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) version: i32,
}

pub(super) fn install(socket: &mut Connection) -> io::Result<Installed> {
    socket.name_as_ottla()?;
    let bytes = to_one().component();
    let digest = hex(&Sha256::digest(&bytes));
    let request = PushPluginRequest {
        name: PLUGIN.into(),
        digest: digest.into(),
        total_bytes: bytes.len() as i64,
        offset: 0,
        chunk: &bytes,
    };
    socket.try_call(0, &request, |response| Installed {
        code: response.error_code,
        message: response.error_message.as_deref().unwrap_or_default().to_owned(),
        version: response.version,
    })
}

/// The name of the journal's first file.
fn first_journal(directory: &Path) -> Option<std::ffi::OsString> {
    let files = Image::names(directory).into_iter();
    files.filter(|path| path.extension().is_some_and(|ending| ending == "journal")).min()?.file_name().map(Into::into)
}
