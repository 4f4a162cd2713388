//! Our client against three nodes of Apache Kafka while they are killed, restarted and reshaped: the scenarios of the scripted
//! cluster (`sdk/client/tests/fake_broker/seeds.rs`) once more, with the brokers that it imitates.

mod nodes;
mod traffic;

use std::sync::Arc;

use ottla_client::{
    Admin, Assignor, ClientConfig, ConsumerConfig, GroupConfig, GroupProtocol, NewTopic, OffsetReset, TopicDescription,
};
use ottla_tests::connection::Connection;
use ottla_tests::members::Sharing;
use ottla_tests::{skip, wait};
use ottla_wire::ErrorCode;
use ottla_wire::message::{CreatePartitionsRequest, CreatePartitionsTopic};
use tokio::runtime::Runtime;

use crate::nodes::{NODES, Nodes};
use crate::traffic::{Phase, Traffic};

/// Acknowledged records that show that everything goes on.
const RECORDS_ON: usize = 100;

/// All scenarios on one cluster: it takes longer to start than to upset.
#[test]
fn whatever_a_kafka_cluster_goes_through_every_record_is_settled_once_and_none_is_skipped() {
    let nodes = match Nodes::start() {
        Ok(nodes) => nodes,
        Err(why) => return skip::test("three nodes of Apache Kafka", &why),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let admin = runtime.block_on(async { Admin::new(ClientConfig::new(&nodes.bootstrap())).expect("an admin") });
    let mut cluster = Cluster { nodes, admin: Arc::new(admin), runtime };
    cluster.create("steady", 3);

    let traffic = Traffic::start(&cluster.runtime, &cluster.nodes.bootstrap(), "steady");
    traffic.wait_for_more(RECORDS_ON);
    cluster.kill_the_leader(&traffic);
    cluster.restart_all_in_turn(&traffic);
    cluster.add_partitions(&traffic);
    let topic = cluster.describe("steady");
    traffic.finish(&cluster.runtime).check_that_all_is_there(&cluster.runtime, &topic);

    cluster.create("anew", 4);
    let traffic = Traffic::start(&cluster.runtime, &cluster.nodes.bootstrap(), "anew");
    traffic.wait_for_more(RECORDS_ON);
    cluster.make_anew(&traffic);
    let topic = cluster.describe("anew");
    traffic.finish(&cluster.runtime).check_what_was_told(&cluster.runtime, &topic);
}

/// Members of a group in each protocol: three of them come and go, and the node that keeps the group is killed under them.
#[test]
fn members_of_a_group_of_a_kafka_cluster_read_everything_and_no_commit_is_forgotten() {
    let nodes = match Nodes::start() {
        Ok(nodes) => nodes,
        Err(why) => return skip::test("three nodes of Apache Kafka", &why),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let admin = runtime.block_on(async { Admin::new(ClientConfig::new(&nodes.bootstrap())).expect("an admin") });
    let mut cluster = Cluster { nodes, admin: Arc::new(admin), runtime };
    for (name, protocol, assignor) in [
        ("cooperative", GroupProtocol::Classic, Assignor::CooperativeSticky),
        ("eager", GroupProtocol::Classic, Assignor::Range),
        ("consumer", GroupProtocol::Consumer, Assignor::Range),
    ] {
        let mut group = GroupConfig::new(name);
        group.protocol = protocol;
        group.assignors = vec![assignor];
        cluster.share(name, group);
    }
}

struct Cluster {
    nodes: Nodes,
    admin: Arc<Admin>,
    runtime: Runtime,
}

impl Cluster {
    fn create(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name).partitions(partitions).replicas(NODES as i16);
        wait::until_true("a topic to be created", || self.runtime.block_on(self.admin.create_topic(&topic)).is_ok());
        self.wait_until_in_sync(name);
    }

    fn share(&mut self, name: &str, mut group: GroupConfig) {
        const PARTITIONS: i32 = 6;
        self.create(name, PARTITIONS);
        group.heartbeat_interval_ms = 300;
        group.auto_commit = false;
        let mut config = ConsumerConfig::new(&self.nodes.bootstrap());
        config.offset_reset = OffsetReset::Earliest;
        config.group = Some(group);
        let mut sharing = Sharing::new(config, name, PARTITIONS);
        sharing.join(None);
        sharing.join(None);
        sharing.join(Some("third"));
        sharing.wait_until_shared();
        sharing.produce_and_wait(RECORDS_ON);
        let keeper = self.keeper_of(name);
        self.nodes.kill(keeper);
        sharing.produce_and_wait(RECORDS_ON);
        sharing.assert_commits_kept();
        sharing.leave(1);
        sharing.produce_and_wait(RECORDS_ON);
        self.nodes.start_again(keeper);
        self.wait_until_in_sync(name);
        self.wait_until_in_sync("__consumer_offsets");
        sharing.join(None);
        sharing.wait_until_shared();
        sharing.produce_and_wait(RECORDS_ON);
        while !sharing.members.is_empty() {
            sharing.leave(0);
        }
        sharing.assert_commits_kept();
        sharing.assert_all_read();
    }

    /// The node that leads the partition of a group.
    fn keeper_of(&self, group: &str) -> i32 {
        let offsets = self.describe("__consumer_offsets");
        let hash = group.chars().fold(0_i32, |hash, letter| hash.wrapping_mul(31).wrapping_add(letter as i32));
        let partition = (hash & i32::MAX) as usize % offsets.partitions.len();
        offsets.partitions[partition].leader.expect("a leader")
    }

    fn describe(&self, name: &str) -> TopicDescription {
        wait::until("a description", || self.runtime.block_on(self.admin.describe_topic(name)).ok())
    }

    fn wait_until_in_sync(&self, name: &str) {
        wait::until_true("all copies to be in sync", || {
            let topic = self.describe(name);
            let in_sync = |partition: &ottla_client::PartitionDescription| {
                partition.leader.is_some() && partition.in_sync.len() == NODES as usize
            };
            topic.partitions.iter().all(in_sync)
        });
    }

    fn kill_the_leader(&mut self, traffic: &Traffic) {
        let leader = self.describe(traffic.topic()).partitions[0].leader.expect("a leader");
        self.nodes.kill(leader);
        wait::until_true("another leader", || {
            self.describe(traffic.topic()).partitions[0].leader.is_some_and(|now| now != leader)
        });
        traffic.wait_for_more(RECORDS_ON);
        self.nodes.start_again(leader);
        self.wait_until_in_sync(traffic.topic());
        traffic.wait_for_more(RECORDS_ON);
    }

    fn restart_all_in_turn(&mut self, traffic: &Traffic) {
        for node in 1..=NODES {
            self.nodes.stop(node);
            traffic.wait_for_more(RECORDS_ON);
            self.nodes.start_again(node);
            self.wait_until_in_sync(traffic.topic());
        }
    }

    fn add_partitions(&self, traffic: &Traffic) {
        let before = self.describe(traffic.topic()).partitions.len() as i32;
        let count = 2 * before;
        let topic = CreatePartitionsTopic { name: traffic.topic().into(), count, assignments: None };
        let request =
            CreatePartitionsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreatePartitionsRequest::default() };
        let mut connection = Connection::open(self.nodes.address(1)).expect("a connection");
        connection.call(3, &request, |response| {
            let result = &response.results[0];
            assert_eq!(result.error_code, ErrorCode::None, "{:?}", result.error_message);
        });
        wait::until_true("the new partitions", || self.describe(traffic.topic()).partitions.len() as i32 == count);
        self.wait_until_in_sync(traffic.topic());
        traffic.read_also(&self.runtime, before..count);
        traffic.wait_for_use_of(count - 1);
    }

    /// The topic goes while records are on their way, and comes back with half of its partitions.
    fn make_anew(&self, traffic: &Traffic) {
        traffic.enter(Phase::Away);
        let deleted = || self.runtime.block_on(self.admin.delete_topic(traffic.topic())).is_ok();
        wait::until_true("the topic to be deleted", deleted);
        let is_gone = || self.runtime.block_on(self.admin.describe_topic(traffic.topic())).is_err();
        wait::until_true("the topic to be gone", is_gone);
        self.create(traffic.topic(), 2);
        traffic.wait_for_more(RECORDS_ON);
        traffic.enter(Phase::Anew);
        traffic.wait_for_more(RECORDS_ON);
    }
}
