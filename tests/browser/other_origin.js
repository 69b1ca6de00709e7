// What a site's page does: posthog-js and a tracing script wrap fetch, and the chat posts on submit and on finish.
const wrap = (names) => {
  const inner = window.fetch;
  window.fetch = (input, init = {}) => inner(input, { ...init, headers: { ...init.headers, ...names } });
};

window.withScripts = () => {
  wrap({ "x-posthog-distinct-id": "d-1", "x-posthog-session-id": "s-1", "x-posthog-window-id": "w-1" });
  wrap({
    traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "sentry-trace": "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
    baggage: "sentry-environment=production,sentry-trace_id=4bf92f3577b34da6a3ce929d0e0e4736",
  });
};

window.chat = async ({ endpoint, session, exchanges, first, type = "application/json", path = "" }) => {
  const messages = [];
  const statuses = [];
  const body = () =>
    JSON.stringify({ messages, sessionId: session, fingerprint: `fp-${session}`, metadata: { url: location.href } });
  // Never reads an answer's body.
  const post = async () => {
    const headers = { "content-type": type };
    const answer = await fetch(`${endpoint}${path}`, { method: "POST", keepalive: true, headers, body: body() });
    statuses.push(answer.status);
  };
  for (let number = 0; number < exchanges; number += 1) {
    messages.push({ role: "user", content: number === 0 ? first : `Pregunta ${number}: y los precios?` });
    await post();
    messages.push({ role: "assistant", content: `Respuesta ${number}. ${"Con gusto le cuento. ".repeat(25)}` });
    await post();
  }
  // The tab is closed: the last turn leaves as a beacon.
  addEventListener("pagehide", () => {
    messages.push({ role: "user", content: "Mi celular es 300 555 0102" });
    navigator.sendBeacon(`${endpoint}${path}`, body());
  });
  return statuses;
};
