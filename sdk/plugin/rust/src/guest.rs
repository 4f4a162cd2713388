//! The component's side of the contract, generated from the WIT text: a module per world. Used by the macros of the kinds
//! alone.

#![allow(missing_docs)]

use crate::Assets;
use crate::last_words;

/// Names and texts.
pub type Pairs = Vec<(String, String)>;
/// Blobs by name.
type AssetList = [(String, Vec<u8>)];

macro_rules! world {
    ($world:literal, $interface:ident) => {
        #[allow(unsafe_code, clippy::all, clippy::pedantic)]
        mod bindings {
            wit_bindgen::generate!({
                path: "../../../plugins/wit/0.1",
                world: $world,
                pub_export_macro: true,
            });
        }

        pub use bindings::export;
        pub use bindings::exports;
        pub use bindings::exports::ottla::plugin::$interface::{Answer, Column, Guest};

        /// The columns of a call as the kit reads them.
        fn given(columns: &[Column]) -> impl Iterator<Item = (u32, &[u8], &[i32])> {
            columns.iter().map(|column| (column.kind, &column.bytes[..], &column.lengths[..]))
        }

        /// The columns of an answer.
        fn said(columns: impl IntoIterator<Item = crate::answer::ColumnSaid>) -> Vec<Column> {
            columns.into_iter().map(|(kind, bytes, lengths)| Column { kind, bytes, lengths }).collect()
        }
    };
}

/// The pairs of a manifest: those of the kind, those of the crate that the plugin does not give itself, and its own.
fn manifest_of(
    kind: &[(&str, &str)],
    codes: &[&str],
    about: &[(&str, &str)],
    own: &[(&'static str, &'static str)],
) -> Pairs {
    last_words::keep();
    let codes = codes.join(",");
    let codes = ("codes", codes.as_str());
    let crates = about.iter().filter(|(name, text)| !text.is_empty() && !own.iter().any(|(mine, _)| mine == name));
    let mut pairs: Vec<(&str, &str)> = kind.to_vec();
    pairs.extend(Some(codes).filter(|(_, text)| !text.is_empty()));
    pairs.extend(crates);
    pairs.extend(own);
    pairs.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn before_init(function: &str) -> String {
    format!("{function} was called before init")
}

/// Takes a plugin that accepted its configuration.
fn started<P>(plugin: &mut Option<P>, made: impl FnOnce() -> Result<P, String>) -> Result<Pairs, String> {
    last_words::keep();
    *plugin = Some(made()?);
    Ok(Pairs::new())
}

/// Partitioners.
pub mod partitioner {
    use super::{AssetList, Assets, Pairs, before_init, manifest_of, started};
    use crate::partitioner::{Partitioner, Placements};
    use crate::record::Batch;

    world!("partitioner-plugin", partitioner);

    pub fn manifest<P: Partitioner>(about: &[(&str, &str)]) -> Pairs {
        let reads = P::READS.text();
        let kind = [("kind", "partitioner"), ("shape", "may-route"), ("reads", reads.as_str())];
        manifest_of(&kind, P::CODES, about, P::MANIFEST)
    }

    pub fn init<P: Partitioner>(plugin: &mut Option<P>, config: &str, assets: &AssetList) -> Result<Pairs, String> {
        started(plugin, || P::with_assets(config, Assets::of(assets)))
    }

    pub fn partition<P: Partitioner>(
        plugin: Option<&P>,
        context: &Pairs,
        record_count: u32,
        partition_count: u32,
        columns: &[Column],
    ) -> Result<Answer, String> {
        let plugin = plugin.ok_or_else(|| before_init("partition"))?;
        let batch = Batch::new(P::READS, context, record_count, partition_count, given(columns));
        let mut placements = Placements::with_capacity(record_count as usize);
        plugin.partition_batch(&batch, &mut placements)?;
        let columns = said(placements.refusals.columns(placements.partitions.len()));
        Ok(Answer { partitions: placements.partitions, columns })
    }
}

/// Serializers.
pub mod serializer {
    use super::{AssetList, Assets, Pairs, before_init, manifest_of, started};
    use crate::record::Batch;
    use crate::serializer::{Serializer, Verdicts};

    world!("serializer-plugin", serializer);

    pub fn manifest<P: Serializer>(about: &[(&str, &str)]) -> Pairs {
        let reads = P::READS.text();
        let functions = if P::DECODES { "encode,decode" } else { "encode" };
        let kind = [("kind", "serializer"), ("functions", functions), ("reads", reads.as_str())];
        manifest_of(&kind, P::CODES, about, P::MANIFEST)
    }

    pub fn init<P: Serializer>(plugin: &mut Option<P>, config: &str, assets: &AssetList) -> Result<Pairs, String> {
        started(plugin, || P::with_assets(config, Assets::of(assets)))
    }

    pub fn encode<P: Serializer>(
        plugin: Option<&P>,
        context: &Pairs,
        record_count: u32,
        columns: &[Column],
    ) -> Result<Answer, String> {
        let plugin = plugin.ok_or_else(|| before_init("encode"))?;
        let mut verdicts = Verdicts::default();
        plugin.encode_batch(&Batch::new(P::READS, context, record_count, 0, given(columns)), &mut verdicts)?;
        Ok(answer(verdicts))
    }

    pub fn decode<P: Serializer>(
        plugin: Option<&P>,
        context: &Pairs,
        record_count: u32,
        columns: &[Column],
    ) -> Result<Answer, String> {
        let plugin = plugin.ok_or_else(|| before_init("decode"))?;
        let mut verdicts = Verdicts::default();
        plugin.decode_batch(&Batch::new(P::READS, context, record_count, 0, given(columns)), &mut verdicts)?;
        Ok(answer(verdicts))
    }

    fn answer(verdicts: Verdicts) -> Answer {
        let (verdicts, columns) = verdicts.finish();
        Answer { verdicts, columns: said(columns) }
    }
}

/// Dead-letter policies.
pub mod policy {
    use super::{AssetList, Assets, Pairs, before_init, manifest_of, started};
    use crate::policy::{Actions, DeadLetterPolicy};
    use crate::record::Batch;

    world!("dead-letter-plugin", dead_letter_policy);

    pub fn manifest<P: DeadLetterPolicy>(about: &[(&str, &str)]) -> Pairs {
        let reads = P::READS.text();
        manifest_of(&[("kind", "dead-letter-policy"), ("reads", reads.as_str())], &[], about, P::MANIFEST)
    }

    pub fn init<P: DeadLetterPolicy>(
        plugin: &mut Option<P>,
        config: &str,
        assets: &AssetList,
    ) -> Result<Pairs, String> {
        started(plugin, || P::with_assets(config, Assets::of(assets)))
    }

    pub fn decide<P: DeadLetterPolicy>(
        plugin: Option<&P>,
        context: &Pairs,
        failure_count: u32,
        columns: &[Column],
    ) -> Result<Answer, String> {
        let plugin = plugin.ok_or_else(|| before_init("decide"))?;
        let mut actions = Actions::default();
        plugin.decide_batch(&Batch::new(P::READS, context, failure_count, 0, given(columns)), &mut actions)?;
        let (actions, columns) = actions.finish();
        Ok(Answer { actions, columns: said(columns) })
    }
}
