// KafkaJS: the JavaScript client with protocol code of its own. It consumes only in groups.

const fs = require("node:fs");
const { CompressionTypes, Kafka, Partitioners, logLevel } = require("kafkajs");

const [, , verb, text] = process.argv;
const o = JSON.parse(text);

// The format of record_file.py.
function* records(bytes) {
  let at = 0;
  const take = (length) => (length < 0 ? null : bytes.subarray(at, (at += length)));
  while (at < bytes.length) {
    const partition = bytes.readInt32BE(at);
    const keyBytes = bytes.readInt32BE(at + 12);
    const valueBytes = bytes.readInt32BE(at + 16);
    at += 20;
    const key = take(keyBytes);
    const value = take(valueBytes);
    yield partition < 0 ? { key, value } : { partition, key, value };
  }
}

async function produce() {
  const kafka = new Kafka({ brokers: [o.bootstrap], clientId: "interop", logLevel: logLevel.ERROR });
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, idempotent: o.idempotent });
  await producer.connect();
  const messages = [...records(fs.readFileSync(o.in))];
  const compression = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }[o.codec];
  // One send is one batch per partition, and the answer is one line per batch: all of it there is to report.
  const answers = await producer.send({ topic: o.topic, acks: -1, compression, messages });
  await producer.disconnect();
  const line = (answer) => (answer.errorCode === 0 ? `${answer.partition} ${answer.baseOffset}` : `error ${answer.errorCode}`);
  fs.writeFileSync(o.out, answers.map((answer) => line(answer) + "\n").join(""));
}

// Reads as a member of a group, commits what it was handed, and leaves when standard input ends.
async function join() {
  const kafka = new Kafka({
    brokers: [o.bootstrap],
    clientId: "interop",
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 100 },
  });
  const consumer = kafka.consumer({ groupId: o.group, sessionTimeout: o.session_timeout_ms, heartbeatInterval: 300 });
  consumer.on(consumer.events.REBALANCING, () => console.log("owns"));
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    console.log("owns", ...(payload.memberAssignment[o.topic] ?? []));
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [o.topic], fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch, heartbeat }) => {
      let next = null;
      for (const { offset, value } of batch.messages) {
        console.log("got", batch.partition, offset, value.toString());
        next = (BigInt(offset) + 1n).toString();
      }
      await consumer.commitOffsets([{ topic: batch.topic, partition: batch.partition, offset: next }]);
      console.log("committed", batch.partition, next);
      await heartbeat();
    },
  });
  await new Promise((resolve) => process.stdin.on("end", resolve).resume());
  await consumer.disconnect();
  // Once, after a broker that was away, the process lived on for more than a minute after this. Why was not found out.
  process.exit(0);
}

({ produce, join })[verb]().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
