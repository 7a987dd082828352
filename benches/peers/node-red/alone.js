// The transform of the comparison in plain Node.js, from bytes to bytes: node alone.js TEXT MESSAGES ROUNDS
const [text, messages, rounds] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const bytes = Buffer.from(text);
let sizes = 0;

function transform(bytes) {
    const p = JSON.parse(bytes.toString());
    const summary = {
        seq: p.seq,
        sent: p.sent,
        rise: p.flow_temp - p.return_temp,
        hot: p.flow_temp > 80.0,
    };
    return Buffer.from(JSON.stringify(summary));
}

for (let round = -1; round < rounds; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < messages; i++) sizes += transform(bytes).length;
    const each = Number(process.hrtime.bigint() - start) / messages;
    // The round before the first warms the compiler up.
    if (round >= 0) console.log(each.toFixed(1));
}
if (sizes === 0) throw new Error("nothing was made");
