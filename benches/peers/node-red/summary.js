// Ten fields in, four out: the transform of the comparison, as a function node has it.
const p = msg.payload;
msg.payload = {
    seq: p.seq,
    sent: p.sent,
    rise: p.flow_temp - p.return_temp,
    hot: p.flow_temp > 80.0,
};
return msg;
