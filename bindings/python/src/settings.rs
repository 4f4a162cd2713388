//! Settings as `ottla/_settings.py` hands them over: our names, values already of the right kind.

use ottla_client::{
    Acks, Assignor, ClientConfig, Codec, ConsumerConfig, GroupConfig, GroupProtocol, Isolation, OffsetReset,
    ProducerConfig,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::Handle;

use crate::failure::Failure;
use crate::start::Start;

/// Reads one value; what it cannot be becomes a `ConfigError` that names it.
fn read<'py, T>(name: &str, value: &Bound<'py, PyAny>) -> Result<T, Failure>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    value.extract().map_err(|_| refuse(name, value, "within the range of its kind"))
}

fn refuse(name: &str, value: &Bound<'_, PyAny>, bound: &str) -> Failure {
    Failure::new("config", "CONFIG", format!("{name} is {value}, it must be {bound}"))
}

fn unknown(name: &str) -> Failure {
    Failure::new("config", "CONFIG", format!("there is no setting {name}"))
}

/// Sets what every client has; says whether the name is one of these.
fn set_client(config: &mut ClientConfig, name: &str, value: &Bound<'_, PyAny>) -> Result<bool, Failure> {
    match name {
        "bootstrap_servers" => config.bootstrap = read(name, value)?,
        "client_id" => config.client_id = read(name, value)?,
        "connect_timeout_ms" => config.connect_timeout_ms = read(name, value)?,
        "request_timeout_ms" => config.request_timeout_ms = read(name, value)?,
        "metadata_age_ms_max" => config.metadata_age_ms_max = read(name, value)?,
        "retry_backoff_ms" => config.retry_backoff_ms = read(name, value)?,
        "retry_backoff_ms_max" => config.retry_backoff_ms_max = read(name, value)?,
        "reconnect_backoff_ms" => config.reconnect_backoff_ms = read(name, value)?,
        "reconnect_backoff_ms_max" => config.reconnect_backoff_ms_max = read(name, value)?,
        "response_bytes_max" => config.response_bytes_max = read(name, value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn each(
    settings: &Bound<'_, PyDict>,
    mut set: impl FnMut(&str, &Bound<'_, PyAny>) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    for (name, value) in settings {
        let name = name.to_string();
        if !set(&name, &value)? {
            return Err(unknown(&name));
        }
    }
    Ok(())
}

pub(crate) fn client(settings: &Bound<'_, PyDict>, runtime: Handle) -> Result<ClientConfig, Failure> {
    let mut config = ClientConfig::default();
    config.runtime = Some(runtime);
    each(settings, |name, value| set_client(&mut config, name, value))?;
    Ok(config)
}

pub(crate) fn producer(settings: &Bound<'_, PyDict>, runtime: Handle) -> Result<ProducerConfig, Failure> {
    let mut config = ProducerConfig::default();
    config.client.runtime = Some(runtime);
    each(settings, |name, value| {
        match name {
            "acks" => config.acks = read::<i16>(name, value).and_then(|code| acks(name, code, value))?,
            "idempotent" => config.idempotent = read(name, value)?,
            "compression" => {
                config.compression = read::<String>(name, value).and_then(|word| codec(name, &word, value))?;
            }
            "compression_level" => config.compression_level = read(name, value)?,
            "linger_ms" => config.linger_ms = read(name, value)?,
            "batch_bytes" => config.batch_bytes = read(name, value)?,
            "request_bytes_max" => config.request_bytes_max = read(name, value)?,
            "buffer_bytes" => config.buffer_bytes = read(name, value)?,
            "requests_in_flight_max" => config.requests_in_flight_max = read(name, value)?,
            "delivery_timeout_ms" => config.delivery_timeout_ms = read(name, value)?,
            "topic_wait_ms" => config.topic_wait_ms = read(name, value)?,
            "auto_create_topics" => config.auto_create_topics = read(name, value)?,
            _ => return set_client(&mut config.client, name, value),
        }
        Ok(true)
    })?;
    Ok(config)
}

pub(crate) fn consumer(settings: &Bound<'_, PyDict>, runtime: Handle) -> Result<ConsumerConfig, Failure> {
    let mut config = ConsumerConfig::default();
    config.client.runtime = Some(runtime);
    if let Some(id) = settings.get_item("group_id").ok().flatten() {
        config.group = Some(GroupConfig::new(&read::<String>("group_id", &id)?));
    }
    each(settings, |name, value| {
        if name == "group_id" {
            return Ok(true);
        }
        if let Some(group) = &mut config.group
            && set_group(group, name, value)?
        {
            return Ok(true);
        }
        match name {
            "offset_reset" => {
                config.offset_reset = read::<String>(name, value).and_then(|word| offset_reset(name, &word, value))?;
            }
            "isolation_level" => {
                config.isolation = read::<String>(name, value).and_then(|word| isolation(name, &word, value))?;
            }
            "fetch_bytes_min" => config.fetch_bytes_min = read(name, value)?,
            "fetch_bytes_max" => config.fetch_bytes_max = read(name, value)?,
            "partition_bytes_max" => config.partition_bytes_max = read(name, value)?,
            "fetch_wait_ms_max" => config.fetch_wait_ms_max = read(name, value)?,
            "buffer_bytes" => config.buffer_bytes = read(name, value)?,
            "batch_bytes_max" => config.batch_bytes_max = read(name, value)?,
            "check_crcs" => config.check_crcs = read(name, value)?,
            "unreachable_ms_max" => config.unreachable_ms_max = read(name, value)?,
            _ => return set_client(&mut config.client, name, value),
        }
        Ok(true)
    })?;
    Ok(config)
}

/// Sets what a member of a group has; says whether the name is one of these.
fn set_group(group: &mut GroupConfig, name: &str, value: &Bound<'_, PyAny>) -> Result<bool, Failure> {
    match name {
        "group_instance_id" => group.instance_id = Some(read(name, value)?),
        "group_protocol" => {
            group.protocol = match &*read::<String>(name, value)? {
                "classic" => GroupProtocol::Classic,
                "consumer" => GroupProtocol::Consumer,
                _ => return Err(refuse(name, value, "classic or consumer")),
            };
        }
        "assignors" => {
            let bound = "a list of range, roundrobin, sticky, cooperative-sticky";
            let named = |word: &String| Assignor::of_name(word).ok_or_else(|| refuse(name, value, bound));
            group.assignors = read::<Vec<String>>(name, value)?.iter().map(named).collect::<Result<_, _>>()?;
        }
        "broker_assignor" => group.broker_assignor = Some(read(name, value)?),
        "session_timeout_ms" => group.session_timeout_ms = read(name, value)?,
        "heartbeat_interval_ms" => group.heartbeat_interval_ms = read(name, value)?,
        "poll_interval_ms_max" => group.poll_interval_ms_max = read(name, value)?,
        "auto_commit" => group.auto_commit = read(name, value)?,
        "auto_commit_interval_ms" => group.auto_commit_interval_ms = read(name, value)?,
        "start" => group.start = Some(value.extract::<Start>().map_err(|_| refuse(name, value, "a start"))?.0),
        _ => return Ok(false),
    }
    Ok(true)
}

fn acks(name: &str, code: i16, value: &Bound<'_, PyAny>) -> Result<Acks, Failure> {
    match code {
        -1 => Ok(Acks::All),
        1 => Ok(Acks::Leader),
        0 => Ok(Acks::None),
        _ => Err(refuse(name, value, "\"all\", 1 or 0")),
    }
}

fn codec(name: &str, word: &str, value: &Bound<'_, PyAny>) -> Result<Codec, Failure> {
    match word {
        "none" => Ok(Codec::None),
        "gzip" => Ok(Codec::Gzip),
        "snappy" => Ok(Codec::Snappy),
        "lz4" => Ok(Codec::Lz4),
        "zstd" => Ok(Codec::Zstd),
        _ => Err(refuse(name, value, "none, gzip, snappy, lz4 or zstd")),
    }
}

fn isolation(name: &str, word: &str, value: &Bound<'_, PyAny>) -> Result<Isolation, Failure> {
    match word {
        "read_committed" => Ok(Isolation::ReadCommitted),
        "read_uncommitted" => Ok(Isolation::ReadUncommitted),
        _ => Err(refuse(name, value, "read_committed or read_uncommitted")),
    }
}

fn offset_reset(name: &str, word: &str, value: &Bound<'_, PyAny>) -> Result<OffsetReset, Failure> {
    match word {
        "fail" => Ok(OffsetReset::Fail),
        "earliest" => Ok(OffsetReset::Earliest),
        "latest" => Ok(OffsetReset::Latest),
        _ => Err(refuse(name, value, "fail, earliest or latest")),
    }
}
