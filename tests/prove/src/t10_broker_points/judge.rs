//! What must hold after the next start: all or nothing, usable, and each routed record once.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use ottla_tests::Broker;
use ottla_tests::connection::Connection;
use ottla_wire::ErrorCode;
use ottla_wire::message::{DescribeConfigsRequest, DescribeConfigsResource, DescribePluginsRequest, RESOURCE_TOPIC};
use serde_json::Value;

use super::act::{Installed, configure, install, send_routed};
use super::{
    Act, NEW, NEW_PARTITIONS, OLD, OLD_BATCHES, OLD_PARTITIONS, PLUGIN, ROUTED, ROUTED_BATCHES, ROUTED_PARTITIONS,
    ROUTED_RECORDS, SETTING, SETTING_AFTER, SETTING_BEFORE, Said,
};
use crate::check;
use crate::content::Identity;
use crate::metadata::{COPIES, copies_are_whole, copy_alone};
use crate::workload::{Producer, Stopped};

/// All or nothing, the same twice in a row, and usable.
pub(super) fn judge(act: Act, broker: &mut Broker, said: &Said, program: &Path) -> Result<(), String> {
    // What was answered is in either copy of the metadata, which is whole but for its end.
    for copy in COPIES {
        let records = copy_alone(program, broker.data_dir(), copy)?;
        if said.done && !has_happened(act, &records) {
            return Err(format!("it was answered, and {copy} does not have it"));
        }
    }
    let mut states = Vec::new();
    for _ in 0..2 {
        broker.restart();
        states.push(state(act, broker.address())?);
        if act != Act::DeleteTopic {
            old_is_whole(broker.address())?;
        }
    }
    let is_there = states[0];
    if states[1] != is_there {
        return Err(format!("the second start finds {states:?}"));
    }
    if said.done && act != Act::Route && !is_there {
        return Err("it was answered and has not happened".to_owned());
    }
    use_it(act, broker.address(), is_there, said)?;
    copies_are_whole(program, broker.data_dir())?;
    // And what was made usable stays so.
    broker.restart();
    let mut socket = Connection::open(broker.address()).map_err(text)?;
    match act {
        Act::Route => routed_once(broker.address()),
        Act::CreateTopic => is_topic(&mut socket, NEW, NEW_PARTITIONS)?.then_some(()).ok_or("it is gone".to_owned()),
        _ => Ok(()),
    }
}

/// Whether the act has happened, as these records of the metadata say.
fn has_happened(act: Act, records: &[Value]) -> bool {
    let of_kind = |kind: &'static str| records.iter().filter(move |record| record["kind"] == kind);
    let topic = |name: &str| of_kind("topic").find(|record| record["name"] == name);
    match act {
        Act::Route => true,
        Act::CreateTopic => topic(NEW).is_some(),
        // The record goes last; until then it says that it goes.
        Act::DeleteTopic => topic(OLD).is_none_or(|record| record["deleting"] == true),
        Act::Configure => topic(OLD).is_some_and(|record| record["configs"][SETTING] == SETTING_AFTER),
        Act::InstallPlugin => of_kind("plugin").any(|record| record["name"] == PLUGIN),
    }
}

/// Whether the act has happened.
fn state(act: Act, address: SocketAddr) -> Result<bool, String> {
    let mut socket = Connection::open(address).map_err(text)?;
    match act {
        Act::Route => Ok(true),
        Act::CreateTopic => is_topic(&mut socket, NEW, NEW_PARTITIONS),
        Act::DeleteTopic => {
            let is_there = is_topic(&mut socket, OLD, OLD_PARTITIONS)?;
            if is_there {
                old_is_whole(address)?;
            }
            Ok(!is_there)
        }
        Act::Configure => match configured(&mut socket)?.as_str() {
            SETTING_BEFORE => Ok(false),
            SETTING_AFTER => Ok(true),
            other => Err(format!("{SETTING} is {other}")),
        },
        Act::InstallPlugin => match versions(&mut socket)?.as_slice() {
            [] => Ok(false),
            [1] => Ok(true),
            other => Err(format!("versions {other:?} are there")),
        },
    }
}

/// Uses what is there, and makes what is not.
fn use_it(act: Act, address: SocketAddr, is_there: bool, said: &Said) -> Result<(), String> {
    let mut socket = Connection::open(address).map_err(text)?;
    let well = |code: ErrorCode| {
        if code == ErrorCode::None { Ok(()) } else { Err(format!("doing it again is answered with {code:?}")) }
    };
    match act {
        Act::Route => {
            // What was acknowledged comes again, too: the answer may have been lost.
            for number in 0..ROUTED_BATCHES {
                let code = send_routed(&mut socket, said.producer, number).map_err(text)?;
                if !matches!(code, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) {
                    return Err(format!("batch {number} of {} acknowledged comes again: {code:?}", said.acked));
                }
            }
            routed_once(address)
        }
        Act::CreateTopic => {
            if !is_there {
                well(socket.create_topic(NEW, NEW_PARTITIONS, &[(SETTING, SETTING_AFTER)]).map_err(text)?.code)?;
            }
            usable(address, NEW, NEW_PARTITIONS)
        }
        Act::DeleteTopic => {
            if !is_there {
                well(socket.delete_topic(OLD).map_err(text)?.code)?;
            }
            well(socket.create_topic(OLD, OLD_PARTITIONS, &[]).map_err(text)?.code)?;
            usable(address, OLD, OLD_PARTITIONS)
        }
        Act::Configure => {
            well(configure(&mut socket).map_err(text)?)?;
            let now = configured(&mut socket)?;
            if now == SETTING_AFTER { Ok(()) } else { Err(format!("{SETTING} was set and is {now}")) }
        }
        Act::InstallPlugin => {
            let Installed { code, version, .. } = install(&mut socket).map_err(text)?;
            well(code)?;
            if version != 1 {
                return Err(format!("the same plugin comes again as version {version}"));
            }
            well(socket.activate_plugin(PLUGIN, version).map_err(text)?.code)?;
            well(socket.create_topic("called", OLD_PARTITIONS, &[("ottla.partitioner", PLUGIN)]).map_err(text)?.code)?;
            let ended = Producer::new(9, "called", 0, 100, 1).send(address, 2);
            let [addressed, target] = [0, 1].map(|partition| check::read(address, "called", partition));
            let (addressed, target) = (addressed?.records.len(), target?.records.len());
            if !matches!(ended, Stopped::Told) || addressed != 0 || target == 0 {
                return Err(format!("it is not called: {ended:?}, {addressed} records stayed, {target} were routed"));
            }
            Ok(())
        }
    }
}

/// Each of the routed records in its target, once, and nothing else.
fn routed_once(address: SocketAddr) -> Result<(), String> {
    for partition in 0..ROUTED_PARTITIONS {
        let found = check::read(address, ROUTED, partition as i32)?;
        let numbers: Vec<u64> = found.records.iter().map(|entry| entry.identity.number).collect();
        let all = 0..ROUTED_BATCHES * u64::from(ROUTED_RECORDS);
        // A batch has a multiple of as many records as there are partitions: its plugin counts like the numbers do.
        let due: Vec<u64> = all.filter(|number| number % ROUTED_PARTITIONS == partition).collect();
        if numbers != due {
            return Err(format!("partition {partition} has the records {numbers:?} instead of {due:?}"));
        }
    }
    Ok(())
}

fn usable(address: SocketAddr, topic: &str, partitions: i32) -> Result<(), String> {
    for partition in 0..partitions {
        let mut producer = Producer::new(9, topic, partition, 100, 1);
        let ended = producer.send(address, 1);
        if !matches!(ended, Stopped::Told) {
            return Err(format!("{topic}-{partition} takes no records: {ended:?}"));
        }
        let found = check::read(address, topic, partition)?.records.len() as u64;
        if found != producer.made() {
            return Err(format!("{found} records are in {topic}-{partition} instead of {}", producer.made()));
        }
    }
    Ok(())
}

fn old_is_whole(address: SocketAddr) -> Result<(), String> {
    for partition in 0..OLD_PARTITIONS {
        let found = check::read(address, OLD, partition)?;
        let numbers: Vec<Identity> = found.records.iter().map(|entry| entry.identity).collect();
        let tag = partition.cast_unsigned();
        let due: Vec<Identity> = (0..found.end as u64).map(|number| Identity { tag, number }).collect();
        if numbers != due || numbers.len() < OLD_BATCHES {
            return Err(format!("{OLD}-{partition} has {} records up to {}", numbers.len(), found.end));
        }
    }
    Ok(())
}

/// Whether a topic is there with all partitions; with some is an error.
fn is_topic(socket: &mut Connection, topic: &str, partitions: i32) -> Result<bool, String> {
    let codes: Result<Vec<ErrorCode>, io::Error> =
        (0..partitions).map(|partition| Ok(socket.fetch(topic, partition, 0, 0)?.code)).collect();
    let codes = codes.map_err(text)?;
    let all = |wanted: ErrorCode| codes.iter().all(|code| *code == wanted);
    if all(ErrorCode::None) {
        Ok(true)
    } else if all(ErrorCode::UnknownTopicOrPartition) {
        Ok(false)
    } else {
        Err(format!("the partitions of {topic} answer {codes:?}"))
    }
}

fn configured(socket: &mut Connection) -> Result<String, String> {
    let keys = Some(vec![SETTING.into()]);
    let resource =
        DescribeConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: OLD.into(), configuration_keys: keys };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: false, include_documentation: false };
    let value = socket.try_call(4, &request, |response| {
        let value = response.results.first().and_then(|result| result.configs.first()?.value.as_deref());
        value.map(str::to_owned)
    });
    value.map_err(text)?.ok_or_else(|| format!("{SETTING} has no value"))
}

fn versions(socket: &mut Connection) -> Result<Vec<i32>, String> {
    socket.name_as_ottla().map_err(text)?;
    let request = DescribePluginsRequest { names: None };
    let versions = socket.try_call(0, &request, |response| {
        let found = response.plugins.iter().find(|plugin| plugin.name == PLUGIN);
        found.map(|plugin| plugin.versions.iter().map(|version| version.version).collect()).unwrap_or_default()
    });
    versions.map_err(text)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`, which hands errors over")]
fn text(error: impl ToString) -> String {
    error.to_string()
}
