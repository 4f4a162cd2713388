//! From written records to the bytes of a batch that travels, and the same bytes under other numbers.

use bytes::Bytes;
use ottla_wire::record::{BATCH_HEADER_BYTES, BatchBuilder, BatchHeader, BuildError, crc32c};

use crate::core::lane::Dispatch;
use crate::core::sequence::Identity;

/// Where the checksum stands in a batch, and where what it covers begins.
const CRC: std::ops::Range<usize> = 17..21;

/// Compresses and numbers a batch for its first attempt.
pub(super) fn seal(builder: BatchBuilder, dispatch: &Dispatch) -> Result<Bytes, BuildError> {
    let Identity { id, epoch } = dispatch.identity;
    let mut batch = Vec::with_capacity(builder.uncompressed_bytes());
    builder.producer(id, epoch, dispatch.sequence).finish(&mut batch)?;
    Ok(batch.into())
}

/// The batch under the numbers of this attempt: the very same bytes, unless numbers moved since they were sealed.
pub(super) fn renumber(sealed: Bytes, dispatch: &Dispatch) -> Bytes {
    let Ok(header) = BatchHeader::parse(&sealed) else { return sealed };
    let numbered = BatchHeader {
        producer_id: dispatch.identity.id,
        producer_epoch: dispatch.identity.epoch,
        base_sequence: dispatch.sequence,
        ..header
    };
    if numbered == header {
        return sealed;
    }
    let mut batch = Vec::with_capacity(sealed.len());
    numbered.write(&mut batch);
    batch.extend_from_slice(sealed.get(BATCH_HEADER_BYTES..).unwrap_or_default());
    let crc = crc32c(batch.get(CRC.end..).unwrap_or_default());
    if let Some(place) = batch.get_mut(CRC) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    batch.into()
}

#[cfg(test)]
mod tests {
    use ottla_wire::record::{Codec, check_crc};
    use ottla_wire::{ProducerEpoch, ProducerId, Sequence};

    use super::*;
    use crate::core::batch::{BatchId, Payload};

    fn dispatch(epoch: i16, sequence: i32) -> Dispatch {
        Dispatch {
            batch: BatchId(1),
            payload: Payload::Away,
            identity: Identity { id: ProducerId(7), epoch: ProducerEpoch(epoch) },
            sequence: Sequence(sequence),
        }
    }

    #[test]
    fn a_batch_gets_new_numbers_and_a_true_checksum() {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        builder.append(5, Some(b"k"), Some(b"v"), std::iter::empty()).unwrap();
        let first = seal(builder, &dispatch(0, 40)).unwrap();
        check_crc(&first).unwrap();
        assert_eq!(renumber(first.clone(), &dispatch(0, 40)).as_ptr(), first.as_ptr(), "same numbers, same bytes");

        let second = renumber(first.clone(), &dispatch(1, 0));
        check_crc(&second).unwrap();
        let header = BatchHeader::parse(&second).unwrap();
        assert_eq!(
            (header.producer_id, header.producer_epoch, header.base_sequence),
            (ProducerId(7), ProducerEpoch(1), Sequence(0))
        );
        assert_eq!(second[BATCH_HEADER_BYTES..], first[BATCH_HEADER_BYTES..]);
    }
}
