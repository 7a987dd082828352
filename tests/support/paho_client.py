"""A client of paho whose messages and acknowledgements stand in queues."""
import queue
import ssl
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

LONGEST = 60
V5, V311 = mqtt.MQTTv5, mqtt.MQTTv311


def properties(kind, **pairs):
    """Those of a packet, such as `properties("PUBLISH", ContentType="text/csv")`."""
    said = Properties(getattr(PacketTypes, kind))
    for name, value in pairs.items():
        setattr(said, name, value)
    return said


class Client:
    """One that is connected. `lasting` is how many seconds its session outlives a connection; None begins anew."""

    def __init__(
        self, name, port, version=V311, lasting=None, will=None, login=None, ca=None, path=None, keep_alive=60, **more
    ):
        transport = "websockets" if path else "tcp"
        kept = {} if version == V5 else {"clean_session": lasting is None}
        self.inner = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=version, transport=transport, **kept)
        self.name, self.got, self.acks = name, queue.Queue(), queue.Queue()
        self.inner.on_message = lambda _c, _d, message: self.got.put(message)
        self.inner.on_subscribe = lambda _c, _d, _m, codes, _p: self.acks.put([int(code.value) for code in codes])
        self.inner.on_unsubscribe = lambda _c, _d, _m, codes, _p: self.acks.put([int(code.value) for code in codes])
        self.inner.on_publish = lambda _c, _d, _m, code, _p: self.acks.put(int(code.value))
        # Who takes its name over, or hangs up, is not to be called again.
        self.inner.reconnect_delay_set(LONGEST, LONGEST)
        self.gone = queue.Queue()
        self.inner.on_disconnect = lambda _c, _d, _f, code, _p: self.gone.put(int(code.value))
        there = threading.Event()
        self.said, self.flags, self.told = None, None, None

        def connected(_client, _data, flags, code, told):
            self.flags, self.said, self.told = flags, code, told
            there.set()

        self.inner.on_connect = connected
        if login:
            self.inner.username_pw_set(*login)
        if will:
            self.inner.will_set(*will)
        if ca:
            self.inner.tls_set(ca, cert_reqs=ssl.CERT_REQUIRED)
        if path:
            self.inner.ws_set_options(path=path)
        begin = {}
        if version == V5:
            if lasting is not None:
                more["SessionExpiryInterval"] = lasting
            begin = {"clean_start": lasting is None, "properties": properties("CONNECT", **more)}
        self.inner.connect("localhost" if ca else "127.0.0.1", port, keep_alive, **begin)
        self.inner.loop_start()
        assert there.wait(LONGEST), f"{name} is answered"

    def subscribe(self, filter, qos=2, **more):
        self.inner.subscribe(filter, qos, **more)
        return self.acks.get(timeout=LONGEST)

    def subscribe_with(self, filter, options):
        self.inner.subscribe(filter, options=options)
        return self.acks.get(timeout=LONGEST)

    def unsubscribe(self, filter):
        self.inner.unsubscribe(filter)
        return self.acks.get(timeout=LONGEST)

    def publish(self, topic, payload, qos=1, retain=False, **pairs):
        said = properties("PUBLISH", **pairs) if pairs else None
        self.inner.publish(topic, payload, qos, retain, said)
        return self.acks.get(timeout=LONGEST)

    def next(self):
        return self.got.get(timeout=LONGEST)

    def payloads(self, count):
        return [self.next().payload.decode() for _ in range(count)]

    def is_idle(self):
        """Nothing comes in front of what comes now."""
        self.subscribe(f"idle/{self.name}", 1)
        self.publish(f"idle/{self.name}", "idle")
        message = self.next()
        self.unsubscribe(f"idle/{self.name}")
        return message.topic == f"idle/{self.name}"

    def leave(self, **pairs):
        self.inner.disconnect(properties=properties("DISCONNECT", **pairs) if pairs else None)
        self.inner.loop_stop()

    def vanish(self):
        """Without a good-bye."""
        self.inner.loop_stop()
        self.inner.socket().close()
