// A kafkajs consumer for the tests: prints each record of a topic as one line of JSON, until it has COUNT of them.
//
//   node consume.mjs BOOTSTRAP TOPIC COUNT
//   {"partition":0,"offset":"0","key":"...","value":"...","headers":{"ce_id":"..."}}

import { Kafka, logLevel } from "kafkajs";

const [bootstrap, topic, count] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "test-consumer", brokers: bootstrap.split(","), logLevel: logLevel.ERROR });
const consumer = kafka.consumer({
  groupId: `test-kafkajs-${process.pid}-${Date.now()}`,
  sessionTimeout: 6000,
  heartbeatInterval: 1000,
});

const text = (buffer) => (buffer === null || buffer === undefined ? null : buffer.toString("utf8"));
const seen = new Set();
let finish;
const finished = new Promise((resolve) => (finish = resolve));

await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
await consumer.run({
  eachMessage: async ({ partition, message }) => {
    const position = `${partition}-${message.offset}`;
    if (seen.has(position)) return; // at least once: a rebalance may hand a record out again
    seen.add(position);
    const headers = Object.fromEntries(Object.entries(message.headers).map(([name, value]) => [name, text(value)]));
    const record = { partition, offset: message.offset, key: text(message.key), value: text(message.value), headers };
    process.stdout.write(`${JSON.stringify(record)}\n`);
    if (seen.size >= Number(count)) finish();
  },
});
await finished;
await consumer.disconnect();
