"""What others' libraries make of payloads over MQTT: paho, cbor2, msgpack, zstandard, and Python's own gzip and zlib.

publish PORT TOPIC FORMAT COMPRESSION JSON   publishes a value, at QoS 1; zeros:N is a long text
subscribe PORT FILTER FORMAT COMPRESSION     prints each message: its topic, a tab, and its value as JSON
"""
import gzip
import json
import sys
import zlib

import cbor2
import msgpack
import paho.mqtt.client as mqtt
import zstandard

FORMATS = {
    "json": (lambda value: json.dumps(value).encode(), json.loads),
    "cbor": (cbor2.dumps, cbor2.loads),
    "msgpack": (msgpack.packb, msgpack.unpackb),
}
COMPRESSIONS = {
    "none": (bytes, bytes),
    "gzip": (gzip.compress, gzip.decompress),
    "deflate": (zlib.compress, zlib.decompress),
    "zstd": (
        zstandard.ZstdCompressor().compress,
        lambda packed: zstandard.ZstdDecompressor().decompressobj().decompress(packed),
    ),
}

verb, port, topic, form, compression = sys.argv[1:6]
(write, read), (pack, unpack) = FORMATS[form], COMPRESSIONS[compression]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.connect("127.0.0.1", int(port))

if verb == "publish":
    text = sys.argv[6]
    value = "0" * int(text[6:]) if text.startswith("zeros:") else json.loads(text)
    client.loop_start()
    client.publish(topic, pack(write(value)), qos=1).wait_for_publish(60)
    client.loop_stop()
    sys.exit()


def said(client, _data, message):
    value = json.dumps(read(unpack(message.payload)), sort_keys=True)
    print(f"{message.topic}\t{value}", flush=True)


client.on_message = said
client.on_subscribe = lambda *_: print("subscribed", flush=True)
client.subscribe(topic, 1)
client.loop_forever()
