// A kafkajs producer that sends as the existing site does: the whole conversation after every turn, each message keyed by
// a random 21-character id, so that one session's snapshots scatter over the partitions and arrive in any order.
//
//   node produce_snapshots.mjs BOOTSTRAP TOPIC [SESSIONS=10] [SNAPSHOTS=6] [SEED=1]
//
// The same arguments send the same bytes under the same keys in the same order. Prints one line of JSON a session:
// {"sessionId":"kafkajs-1-session-0","fingerprint":"...","newest":{"messages":[...]},"nombre":"...","email":"..."}

import { CompressionTypes, Kafka, Partitioners, logLevel } from "kafkajs";

const [bootstrap, topic, sessionsText = "10", snapshotsText = "6", seedText = "1"] = process.argv.slice(2);
if (!topic) {
  console.error("usage: node produce_snapshots.mjs BOOTSTRAP TOPIC [SESSIONS] [SNAPSHOTS] [SEED]");
  process.exit(2);
}
const [sessions, snapshots, seed] = [sessionsText, snapshotsText, seedText].map(Number);

const NAMES = ["Carlos", "Lucía", "Andrés", "Valentina", "Mateo", "Camila", "Santiago", "Mariana", "Felipe", "Daniela"];
const FIRST_SNAPSHOT_MS = Date.UTC(2026, 0, 15, 12, 0, 0);
const TURN_MS = 8000;
const ALPHABET = "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict"; // nanoid's, 64 characters

// mulberry32: a seeded generator, since Math.random cannot be repeated.
let state = seed >>> 0;
function random() {
  state = (state + 0x6d2b79f5) >>> 0;
  let mixed = Math.imul(state ^ (state >>> 15), state | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
const nanoid = () => Array.from({ length: 21 }, () => ALPHABET[Math.floor(random() * 64)]).join("");
function shuffle(list) {
  for (let last = list.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [list[last], list[other]] = [list[other], list[last]];
  }
  return list;
}

// What a prospect tells, one thing a turn: an older snapshot knows strictly less than a newer one.
function userTurns(index) {
  const nombre = NAMES[index % NAMES.length];
  const email = `prospecto${index}@example.com`;
  const turns = [
    "Hola, buenas tardes",
    `Me llamo ${nombre}`,
    "Trabajo en una empresa de software",
    "Quiero saber sobre las oportunidades de inversión",
    "Me preocupa el precio, ¿es muy caro?",
    `Mi correo es ${email}`,
  ];
  return { nombre, email, turns };
}

function conversation(index) {
  const { nombre, email, turns } = userTurns(index);
  const messages = [];
  const bodies = [];
  for (let turn = 0; turn < snapshots; turn += 1) {
    const at = new Date(FIRST_SNAPSHOT_MS + (index * 1000 + turn * TURN_MS));
    const content = turns[turn] ?? `Otra pregunta, la número ${turn}`;
    messages.push({ role: "user", content, timestamp: at.toISOString() });
    bodies.push({
      messages: messages.map((message) => ({ ...message })),
      sessionId: `kafkajs-${seed}-session-${index}`,
      fingerprint: `kafkajs-${seed}-fp-${index}`,
      metadata: {
        url: "https://www.example.com/",
        userAgent: "Mozilla/5.0 (test)",
        enqueuedAt: at.toISOString(),
        producerVersion: "site-1.0",
      },
    });
    messages.push({ role: "assistant", content: "Gracias. ¿Qué más te gustaría contarme?", timestamp: at.toISOString() });
  }
  return { nombre, email, bodies };
}

const conversations = Array.from({ length: sessions }, (_, index) => conversation(index));
const records = shuffle(
  conversations
    .flatMap(({ bodies }) => bodies)
    .map((body) => {
      const messageId = nanoid();
      return {
        key: messageId,
        value: JSON.stringify(body),
        headers: { "correlation-id": messageId, "producer-version": "site-1.0" },
      };
    }),
);

const kafka = new Kafka({ clientId: "existing-site", brokers: bootstrap.split(","), logLevel: logLevel.ERROR });
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, allowAutoTopicCreation: false });
await producer.connect();
// One request a message and one after the other, as requests to the site's own endpoint arrive.
for (const record of records) {
  await producer.send({ topic, acks: -1, compression: CompressionTypes.None, messages: [record] });
}
await producer.disconnect();

for (const { nombre, email, bodies } of conversations) {
  const { sessionId, fingerprint, ...newest } = bodies.at(-1);
  const told = { nombre: snapshots > 1 ? nombre : null, email: snapshots > 5 ? email : null };
  console.log(JSON.stringify({ sessionId, fingerprint, newest, snapshots: bodies.length, ...told }));
}
