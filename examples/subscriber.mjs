// Print enriched prospects as they arrive: a subscriber in JavaScript, with kafkajs.
//
//   npm install kafkajs
//   node examples/subscriber.mjs                                   # 127.0.0.1:9092
//   node examples/subscriber.mjs --group my-service --bootstrap broker.example.com:9092
//
// Each line is one record. The header ce_type names its kind: an enriched prospect
// (contracts/enriched-prospect.v1.schema.json) or an erased session (contracts/erased-session.v1.schema.json). Delivery is
// at least once: a repeated record has the same ce_id header. snapshot_at_ms, then enriched_at, give the order of a
// session's prospects.

import { parseArgs } from "node:util";
import { Kafka, logLevel } from "kafkajs";

const { values: options } = parseArgs({
  options: {
    bootstrap: { type: "string", default: process.env.NEXUS_KAFKA_BOOTSTRAP_SERVERS ?? "127.0.0.1:9092" },
    topic: { type: "string", default: `${process.env.NEXUS_TOPIC_PREFIX ?? ""}prospects-enriched` },
    group: { type: "string", default: "example-subscriber" }, // members of one group share the partitions
  },
});

const kafka = new Kafka({
  clientId: "example-subscriber",
  brokers: options.bootstrap.split(","),
  logLevel: logLevel.ERROR,
});
const consumer = kafka.consumer({ groupId: options.group, sessionTimeout: 6000, heartbeatInterval: 1000 });

await consumer.connect();
// A new group reads the topic from its oldest record.
await consumer.subscribe({ topic: options.topic, fromBeginning: true });
// kafkajs commits an offset after eachMessage returned: after the work, never before.
await consumer.run({ eachMessage: async ({ message }) => show(message) });
console.log(`Reading ${options.topic} at ${options.bootstrap} as group ${options.group}. Ctrl-C stops.`);

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    await consumer.disconnect();
    process.exit(0);
  });
}

function show({ value, headers }) {
  const record = JSON.parse(value);
  if (headers.ce_type?.toString() === "nexus.prospect.erased.v1") {
    // The person was erased, or the session was idle for too long: delete all your data of the session.
    console.log(`${record.erased_at} ${record.session_id}: erased (${record.reason})`);
    return;
  }
  const { nombre, email, telefono, nivel_interes, momento_optimo, objeciones } = record.prospect;
  console.log(
    `${record.enriched_at} ${record.session_id}: ${nombre ?? "(no name yet)"}, ` +
      `${email ?? telefono ?? "no contact yet"}, interest ${nivel_interes}/10, ` +
      `${momento_optimo}, objections ${JSON.stringify(objeciones)} [${headers.ce_id ?? ""}]`,
  );
}
