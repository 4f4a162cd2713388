//! `partition.meta`: identity, options and leader epochs of a partition.

use uuid::Uuid;

use crate::epochs::EpochHistory;
use crate::format::PartitionName;
use crate::options::{Durability, PartitionOptions};
use crate::{LeaderEpoch, Offset};

/// The content of `partition.meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) name: PartitionName,
    pub(crate) topic_id: Uuid,
    pub(crate) options: PartitionOptions,
    pub(crate) epochs: EpochHistory,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(self.topic_id.as_bytes());
        bytes.extend_from_slice(&self.name.index.to_be_bytes());
        bytes.extend_from_slice(&(self.name.topic.len() as u16).to_be_bytes());
        bytes.extend_from_slice(self.name.topic.as_bytes());
        bytes.push(match self.options.durability {
            Durability::Fsync => 0,
            Durability::PageCache => 1,
        });
        bytes.extend_from_slice(&self.options.segment_bytes.to_be_bytes());
        bytes.extend_from_slice(&self.options.index_interval_bytes.to_be_bytes());
        bytes.extend_from_slice(&(self.epochs.entries().len() as u32).to_be_bytes());
        for (epoch, start) in self.epochs.entries() {
            bytes.extend_from_slice(&epoch.0.to_be_bytes());
            bytes.extend_from_slice(&start.0.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let topic_id = Uuid::from_bytes(take(&mut rest)?);
        let index = i32::from_be_bytes(take(&mut rest)?);
        let topic_bytes = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let (topic, after) = rest.split_at_checked(topic_bytes)?;
        let name = PartitionName::new(std::str::from_utf8(topic).ok()?, index).ok()?;
        rest = after;
        let durability = match take::<1>(&mut rest)? {
            [0] => Durability::Fsync,
            [1] => Durability::PageCache,
            _ => return None,
        };
        let segment_bytes = u64::from_be_bytes(take(&mut rest)?);
        let index_interval_bytes = u32::from_be_bytes(take(&mut rest)?);
        let count = u32::from_be_bytes(take(&mut rest)?) as usize;
        if rest.len() != count.checked_mul(12)? {
            return None;
        }
        let mut epochs = Vec::with_capacity(count);
        for _ in 0..count {
            let epoch = LeaderEpoch(i32::from_be_bytes(take(&mut rest)?));
            epochs.push((epoch, Offset(i64::from_be_bytes(take(&mut rest)?))));
        }
        let options = PartitionOptions { durability, segment_bytes, index_interval_bytes };
        Some(Self { name, topic_id, options, epochs: EpochHistory::from_entries(epochs) })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_reads_back() {
        let epochs = EpochHistory::from_entries([(LeaderEpoch(0), Offset(0)), (LeaderEpoch(3), Offset(77))]);
        let options =
            PartitionOptions { durability: Durability::PageCache, segment_bytes: 5 << 20, index_interval_bytes: 9 };
        let name = PartitionName::new("orders.eu", 11).unwrap();
        let meta = Meta { name, topic_id: Uuid::from_u128(0xABCD), options, epochs };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes).unwrap(), meta);
        for length in 0..bytes.len() {
            assert!(Meta::decode(&bytes[..length]).is_none());
        }
    }
}
