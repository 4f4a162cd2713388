//! The types of `plugins/wit`: one module per world, generated from the WIT text, so that the two cannot disagree; and one
//! face over the three, since they differ in their work functions alone.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use crate::manifest::Kind;

/// The name without its version, to recognise plugins built against another version of the contract.
pub(crate) const PACKAGE: &str = "ottla:plugin/";

/// Names and texts.
pub(crate) type Pairs = Vec<(String, String)>;

/// A column on its way into a guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column<'a> {
    pub(crate) kind: u32,
    pub(crate) bytes: &'a [u8],
    pub(crate) lengths: &'a [i32],
}

/// A column that a guest answered with, not yet believed.
#[derive(Debug)]
pub(crate) struct ColumnSaid {
    pub(crate) kind: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) lengths: Vec<i32>,
}

/// What a guest answered, not yet believed: one number per record, and columns.
#[derive(Debug)]
pub(crate) struct Said<T> {
    pub(crate) numbers: Vec<T>,
    pub(crate) columns: Vec<ColumnSaid>,
}

macro_rules! world {
    ($module:ident, $world:literal, $interface:ident, $numbers:ident: $number:ty) => {
        #[allow(missing_docs, unsafe_code, unreachable_pub, dead_code, clippy::all, clippy::pedantic)]
        mod $module {
            wasmtime::component::bindgen!({
                path: "../wit/0.1",
                world: $world,
                ownership: Borrowing { duplicate_if_necessary: true },
            });

            pub(super) use exports::ottla::plugin::$interface::{Answer, ColumnParam, ColumnResult};

            impl<'a> From<&super::Column<'a>> for ColumnParam<'a> {
                fn from(column: &super::Column<'a>) -> Self {
                    Self { kind: column.kind, bytes: column.bytes, lengths: column.lengths }
                }
            }

            impl From<Answer> for super::Said<$number> {
                fn from(answer: Answer) -> Self {
                    let said = |ColumnResult { kind, bytes, lengths }| super::ColumnSaid { kind, bytes, lengths };
                    Self { numbers: answer.$numbers, columns: answer.columns.into_iter().map(said).collect() }
                }
            }
        }
    };
}

world!(partitioner, "partitioner-plugin", partitioner, partitions: i32);
world!(serializer, "serializer-plugin", serializer, verdicts: u8);
world!(policy, "dead-letter-plugin", dead_letter_policy, actions: u8);

/// The interface that a plugin of a kind exports.
pub(crate) const fn interface(kind: Kind) -> &'static str {
    match kind {
        Kind::Partitioner => "ottla:plugin/partitioner@0.1.0",
        Kind::Serializer => "ottla:plugin/serializer@0.1.0",
        Kind::DeadLetterPolicy => "ottla:plugin/dead-letter-policy@0.1.0",
    }
}

/// The functions in it.
pub(crate) const fn functions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Partitioner => &["manifest", "init", "partition"],
        Kind::Serializer => &["manifest", "init", "encode", "decode"],
        Kind::DeadLetterPolicy => &["manifest", "init", "decide"],
    }
}

/// Where a component has the functions of its kind.
pub(crate) enum ExportIndices {
    Partitioner(partitioner::PartitionerPluginIndices),
    Serializer(serializer::SerializerPluginIndices),
    DeadLetterPolicy(policy::DeadLetterPluginIndices),
}

impl ExportIndices {
    pub(crate) fn new<T>(kind: Kind, instance: &InstancePre<T>) -> wasmtime::Result<Self> {
        Ok(match kind {
            Kind::Partitioner => Self::Partitioner(partitioner::PartitionerPluginIndices::new(instance)?),
            Kind::Serializer => Self::Serializer(serializer::SerializerPluginIndices::new(instance)?),
            Kind::DeadLetterPolicy => Self::DeadLetterPolicy(policy::DeadLetterPluginIndices::new(instance)?),
        })
    }

    /// The functions of a live guest. An error: they have other types than the contract.
    pub(crate) fn load<T>(&self, store: &mut Store<T>, instance: &Instance) -> wasmtime::Result<Exports> {
        Ok(match self {
            Self::Partitioner(indices) => Exports::Partitioner(indices.load(store, instance)?),
            Self::Serializer(indices) => Exports::Serializer(indices.load(store, instance)?),
            Self::DeadLetterPolicy(indices) => Exports::DeadLetterPolicy(indices.load(store, instance)?),
        })
    }
}

/// The functions of a live guest.
pub(crate) enum Exports {
    Partitioner(partitioner::PartitionerPlugin),
    Serializer(serializer::SerializerPlugin),
    DeadLetterPolicy(policy::DeadLetterPlugin),
}

/// What goes into a call besides its columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) context: &'a [(&'a str, &'a str)],
    pub(crate) records: u32,
    pub(crate) columns: &'a [Column<'a>],
}

impl Exports {
    pub(crate) fn manifest<T: Send>(&self, store: &mut Store<T>) -> wasmtime::Result<Pairs> {
        match self {
            Self::Partitioner(plugin) => plugin.ottla_plugin_partitioner().call_manifest(store),
            Self::Serializer(plugin) => plugin.ottla_plugin_serializer().call_manifest(store),
            Self::DeadLetterPolicy(plugin) => plugin.ottla_plugin_dead_letter_policy().call_manifest(store),
        }
    }

    pub(crate) fn init<T: Send>(
        &self,
        store: &mut Store<T>,
        config: &str,
        assets: &[(&str, &[u8])],
    ) -> wasmtime::Result<Result<Pairs, String>> {
        match self {
            Self::Partitioner(plugin) => plugin.ottla_plugin_partitioner().call_init(store, config, assets),
            Self::Serializer(plugin) => plugin.ottla_plugin_serializer().call_init(store, config, assets),
            Self::DeadLetterPolicy(plugin) => plugin.ottla_plugin_dead_letter_policy().call_init(store, config, assets),
        }
    }

    pub(crate) fn partition<T: Send>(
        &self,
        store: &mut Store<T>,
        asked: Asked<'_>,
        partition_count: u32,
    ) -> wasmtime::Result<Result<Said<i32>, String>> {
        let Self::Partitioner(plugin) = self else { return Err(other_kind("partition")) };
        let columns: Vec<_> = asked.columns.iter().map(Into::into).collect();
        let plugin = plugin.ottla_plugin_partitioner();
        let answer = plugin.call_partition(store, asked.context, asked.records, partition_count, &columns)?;
        Ok(answer.map(Into::into))
    }

    pub(crate) fn encode<T: Send>(
        &self,
        store: &mut Store<T>,
        asked: Asked<'_>,
    ) -> wasmtime::Result<Result<Said<u8>, String>> {
        let Self::Serializer(plugin) = self else { return Err(other_kind("encode")) };
        let columns: Vec<_> = asked.columns.iter().map(Into::into).collect();
        let answer = plugin.ottla_plugin_serializer().call_encode(store, asked.context, asked.records, &columns)?;
        Ok(answer.map(Into::into))
    }

    pub(crate) fn decode<T: Send>(
        &self,
        store: &mut Store<T>,
        asked: Asked<'_>,
    ) -> wasmtime::Result<Result<Said<u8>, String>> {
        let Self::Serializer(plugin) = self else { return Err(other_kind("decode")) };
        let columns: Vec<_> = asked.columns.iter().map(Into::into).collect();
        let answer = plugin.ottla_plugin_serializer().call_decode(store, asked.context, asked.records, &columns)?;
        Ok(answer.map(Into::into))
    }

    pub(crate) fn decide<T: Send>(
        &self,
        store: &mut Store<T>,
        asked: Asked<'_>,
    ) -> wasmtime::Result<Result<Said<u8>, String>> {
        let Self::DeadLetterPolicy(plugin) = self else { return Err(other_kind("decide")) };
        let columns: Vec<_> = asked.columns.iter().map(Into::into).collect();
        let answer =
            plugin.ottla_plugin_dead_letter_policy().call_decide(store, asked.context, asked.records, &columns)?;
        Ok(answer.map(Into::into))
    }
}

fn other_kind(function: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the plugin is of a kind without `{function}`"))
}
