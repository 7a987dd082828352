// MQTT.js at the embedded broker, by TCP, TLS and WebSocket, with MQTT 3.1.1 and 5:
// node hub_clients.js PORT TLS_PORT WEBSOCKET_PORT CA USER PASSWORD
const [port, tlsPort, wsPort, ca, username, password] = process.argv.slice(2);
const mqtt = require('mqtt');
const assert = require('assert');
const fs = require('fs');

const ways = {
  tcp: `mqtt://127.0.0.1:${port}`,
  tls: `mqtts://localhost:${tlsPort}`,
  websocket: `ws://127.0.0.1:${wsPort}/mqtt`,
};

async function check(url, protocolVersion) {
  const options = { username, password, protocolVersion, ca: fs.readFileSync(ca), connectTimeout: 60000 };
  const reader = await mqtt.connectAsync(url, options);
  const writer = await mqtt.connectAsync(url, options);
  const got = [];
  const all = new Promise((resolve) => reader.on('message', (topic, payload, packet) => {
    got.push([topic, payload.length, packet.qos]);
    if (got.length === 6) resolve();
  }));
  await reader.subscribeAsync('js/#', { qos: 2 });
  const expected = [];
  for (const qos of [0, 1, 2]) {
    for (const size of [3, 40000]) {
      await writer.publishAsync(`js/${qos}`, Buffer.alloc(size), { qos });
      expected.push([`js/${qos}`, size, qos]);
    }
  }
  await all;
  assert.deepStrictEqual(got, expected);
  await reader.endAsync();
  await writer.endAsync();
}

(async () => {
  for (const [way, url] of Object.entries(ways)) {
    for (const version of [4, 5]) {
      await check(url, version);
      console.log('ok', way, version);
    }
  }
  const wrong = mqtt.connect(ways.tcp, { username, password: 'wrong', reconnectPeriod: 0 });
  const error = await new Promise((resolve) => wrong.on('error', resolve));
  assert.match(error.message, /Not authorized|Bad username/i);
  console.log('ok wrong password');
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
