"""What the standards promise, tried at a broker, each scenario with MQTT 3.1.1 and 5 where both have it.

interop.py PORT

The scenarios are those of Eclipse Paho's interoperability suite, and more of the same kind, in words of our own. The broker denies
subscriptions to `denied/#`, asks for a keep-alive of at most 60 s, and takes packets of 256 KiB at most. Prints a line for each: `pass` or
`FAIL`, its name, its version, and why. Ends with an error only when it could not be run.
"""
import concurrent.futures
import queue
import socket
import sys
import time
import traceback

from paho.mqtt.subscribeoptions import SubscribeOptions

from paho_client import LONGEST, V311, V5, Client, properties

PORT = int(sys.argv[1])
SCENARIOS = []


def scenario(*versions):
    def add(check):
        SCENARIOS.extend((check, version) for version in versions)
        return check

    return add


class Site:
    """The clients of one scenario, which get names and topics of their own."""

    def __init__(self, check, version):
        self.version, self.topic = version, f"{check.__name__}-{'5' if version == V5 else '3'}"
        self.clients = []

    def client(self, name, **more):
        client = Client(f"{self.topic}-{name}", PORT, self.version, **more)
        self.clients.append(client)
        return client

    def raw(self, name, **more):
        raw = Raw(f"{self.topic}-{name}", self.version, **more)
        self.clients.append(raw)
        return raw

    def of(self, *levels):
        return "/".join((self.topic, *levels))

    def end(self):
        for client in self.clients:
            client.leave()


def text(text):
    data = text if isinstance(text, bytes) else text.encode()
    return len(data).to_bytes(2, "big") + data


def packet(first, body):
    size, length = len(body), b""
    while True:
        size, low = size >> 7, size & 0x7F
        length += bytes([low | 0x80 if size else low])
        if not size:
            return bytes([first]) + length + body


class Raw:
    """A client that sends and reads bytes."""

    def __init__(self, name, version, clean=True, said=b"", keep_alive=0, will=None, protocol="MQTT", flags=0):
        self.version = version
        self.socket = socket.create_connection(("127.0.0.1", PORT))
        self.socket.settimeout(LONGEST)
        flags |= 2 if clean else 0
        flags |= 0x04 if will else 0
        body = text(protocol) + bytes([5 if version == V5 else 4, flags]) + keep_alive.to_bytes(2, "big")
        body += self.properties(said) + text(name)
        if will:
            body += self.properties() + text(will[0]) + text(will[1])
        self.send(0x10, body)
        self.greeting = self.next()

    def properties(self, said=b""):
        return bytes([len(said)]) + said if self.version == V5 else b""

    def send(self, first, body=b""):
        try:
            self.socket.sendall(packet(first, body))
        except OSError:
            pass  # The broker has hung up, which `next` tells.

    def publish(self, topic, payload, qos=0, id=1, flags=0, said=b""):
        self.send(
            0x30 | qos << 1 | flags,
            text(topic) + (id.to_bytes(2, "big") if qos else b"") + self.properties(said) + payload,
        )

    def subscribe(self, filter, qos, said=b""):
        self.send(0x82, b"\0\1" + self.properties(said) + text(filter) + bytes([qos]))
        return self.next_of(0x90)[-1]

    def next(self, within=LONGEST):
        """The first byte of the next packet, and its body; None when the connection is over."""
        self.socket.settimeout(within)
        try:
            first, length, shift = self.exactly(1)[0], 0, 0
            while True:
                byte = self.exactly(1)[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return first, self.exactly(length)
        except (ConnectionError, EOFError):
            return None

    def next_of(self, kind):
        """The body of the next packet of a kind; others are passed over."""
        while (got := self.next()) is not None:
            if got[0] & 0xF0 == kind:
                return got[1]
        raise AssertionError(f"the connection is over before a packet of kind {kind:#x}")

    def message(self):
        """The next message: its flags, topic, packet id, properties and payload."""
        got = self.next()
        while got is not None and got[0] & 0xF0 != 0x30:
            got = self.next()
        assert got is not None, "the connection is over"
        first, body = got
        size = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
        id = 0
        if first & 6:
            id, rest = int.from_bytes(rest[:2], "big"), rest[2:]
        said = b""
        if self.version == V5:
            said, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
        return first & 0x0F, topic, id, said, rest

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def is_hung_up(self):
        """The connection is over, after whatever was said; the reason of the good-bye."""
        reason = None
        while (got := self.next(10)) is not None:
            if got[0] == 0xE0:
                reason = got[1][0] if got[1] else 0
        return reason or True

    def is_idle(self):
        """Nothing comes before the answer to a ping."""
        self.send(0xC0)
        return self.next()[0] == 0xD0

    def leave(self):
        self.socket.close()

    vanish = leave


def refused(check):
    try:
        check()
    except AssertionError:
        return True
    return False


@scenario(V311, V5)
def basic(site):
    site.client("a").leave()
    client = site.client("a")
    assert not client.said.is_failure
    assert client.subscribe(site.of("t")) == [2]
    for qos in (0, 1, 2):
        client.publish(site.of("t"), f"qos {qos}", qos)
    got = [client.next() for _ in range(3)]
    assert [(message.payload.decode(), message.qos) for message in got] == [("qos 0", 0), ("qos 1", 1), ("qos 2", 2)]


@scenario(V311, V5)
def second_connect(site):
    raw = site.raw("a")
    raw.send(0x10, text("MQTT") + bytes([raw.version, 2, 0, 0]) + raw.properties() + text("again"))
    assert raw.is_hung_up()


@scenario(V311, V5)
def wrong_protocol_name(site):
    greeting = site.raw("a", protocol="hj").greeting
    assert greeting is None or greeting[1][1] != 0, greeting


@scenario(V311, V5)
def retained(site):
    writer = site.client("writer")
    for qos in (0, 1, 2):
        writer.publish(site.of(f"r{qos}"), f"{qos}", qos, retain=True)
    reader = site.client("reader")
    reader.subscribe(site.of("+"))
    got = sorted((reader.next() for _ in range(3)), key=lambda message: message.topic)
    assert [(message.qos, message.retain) for message in got] == [(0, True), (1, True), (2, True)]
    # To those who have subscribed it comes as any other, and what is empty takes it back.
    for qos in (0, 1, 2):
        writer.publish(site.of(f"r{qos}"), "", qos, retain=True)
    assert [reader.next().retain for _ in range(3)] == [False] * 3
    late = site.client("late")
    late.subscribe(site.of("+"))
    assert late.is_idle()


@scenario(V311, V5)
def will_of_who_is_lost(site):
    reader = site.client("reader")
    reader.subscribe(site.of("#"))
    site.client("leaves", will=(site.of("leaves"), "no", 2)).leave()
    site.client("lost", will=(site.of("lost"), "yes", 2)).vanish()
    message = reader.next()
    assert (message.topic, message.payload, message.qos) == (site.of("lost"), b"yes", 2)
    assert reader.is_idle()


@scenario(V311, V5)
def empty_client_id(site):
    def greeting(clean):
        raw = Raw("", site.version, clean=clean)
        site.clients.append(raw)
        return raw.greeting[1]

    assert greeting(True)[1] == 0
    if site.version == V311:
        assert greeting(False)[1] == 2
    else:
        assert b"\x12" in greeting(True), "it is told its name"


@scenario(V311, V5)
def queued_for_who_is_away(site):
    away = site.client("away", lasting=1000)
    away.subscribe(site.of("#"))
    away.leave()
    writer = site.client("writer")
    for qos in (0, 1, 2):
        writer.publish(site.of("t"), str(qos), qos)
    back = site.client("away", lasting=1000)
    assert back.flags.session_present
    got = back.payloads(2)
    # At QoS 0 a broker may keep it or not.
    assert got in (["1", "2"], ["0", "1"]), got
    back.leave()
    assert not site.client("away").flags.session_present
    again = site.client("away", lasting=1000)
    assert not again.flags.session_present
    assert again.is_idle()


@scenario(V311, V5)
def overlapping_subscriptions(site):
    client = site.client("a")
    client.subscribe([(site.of("#"), 2), (site.of("+"), 1)])
    client.publish(site.of("t"), "x", 2)
    first = client.next()
    qos = [first.qos]
    if first.qos == 1 or not client.is_idle():
        qos.append(client.next().qos)
    assert sorted(qos) in ([2], [1, 2]), qos


@scenario(V311, V5)
def silent_beyond_its_keep_alive(site):
    reader = site.client("reader")
    reader.subscribe(site.of("will"))
    began = time.monotonic()
    raw = site.raw("silent", keep_alive=2, will=(site.of("will"), "silent"))
    assert reader.next().payload == b"silent"
    assert 2 < time.monotonic() - began < 6
    assert raw.is_hung_up()


@scenario(V311, V5)
def sent_again_after_a_reconnect(site):
    lasting = b"\x11\0\0\x03\xe8"
    raw = site.raw("slow", clean=False, said=lasting)
    assert raw.subscribe(site.of("#"), 2) == 2
    writer = site.client("writer")
    writer.publish(site.of("one"), "1", 1)
    writer.publish(site.of("two"), "2", 2)
    first, second = raw.message(), raw.message()
    raw.vanish()
    back = site.raw("slow", clean=False, said=lasting)
    assert back.greeting[1][0] == 1
    for before in (first, second):
        again = back.message()
        assert again[0] == before[0] | 8, "marked as sent again"
        assert (again[1], again[2], again[4]) == (before[1], before[2], before[4]), "with its packet id"
    back.send(0x40, first[2].to_bytes(2, "big"))
    back.send(0x50, second[2].to_bytes(2, "big"))
    assert back.next_of(0x60)[:2] == second[2].to_bytes(2, "big")
    back.vanish()
    # What it has does not come again; what is left is that.
    last = site.raw("slow", clean=False, said=lasting)
    assert last.next()[0] == 0x62
    last.send(0x70, second[2].to_bytes(2, "big"))
    assert last.is_idle()


@scenario(V311, V5)
def subscription_that_is_denied(site):
    client = site.client("a")
    codes = client.subscribe([("denied/a", 1), (site.of("t"), 1)])
    assert codes[0] >= 0x80 and codes[1] == 1, codes


@scenario(V311, V5)
def dollar_topics(site):
    client = site.client("a")
    client.subscribe([("#", 0), (f"+/{site.topic}", 0)])
    client.publish(f"$dollar/{site.topic}", "x", 1)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        try:
            assert not client.got.get(timeout=0.1).topic.startswith("$")
        except queue.Empty:
            pass


@scenario(V311, V5)
def unsubscribed(site):
    client = site.client("a")
    client.subscribe([(site.of(name), 1) for name in ("a", "b", "c")])
    client.unsubscribe(site.of("a"))
    for name in ("a", "b", "c"):
        client.publish(site.of(name), name)
    assert client.payloads(2) == ["b", "c"]
    codes = client.unsubscribe(site.of("never"))
    assert codes in ([0x11], []) if site.version == V5 else True, codes


@scenario(V311, V5)
def order_is_kept(site):
    reader, writer = site.client("reader"), site.client("writer")
    reader.subscribe(site.of("#"))
    for qos in (0, 1, 2):
        sent = [str(number) for number in range(200)]
        for number in sent:
            writer.inner.publish(site.of(f"t{qos}"), number, qos)
        assert reader.payloads(200) == sent, qos


@scenario(V311, V5)
def odd_topics_and_sizes(site):
    client = site.client("a")
    client.subscribe(site.of("#"))
    for topic in (site.of("a b"), site.of(""), site.of("", ""), site.of("größe/💧"), site.of("x" * 5000)):
        client.publish(topic, topic)
        assert client.next().topic == topic
    for size in (0, 1, 127, 128, 16_384, 200_000):
        client.publish(site.of("size"), b"\0" * size, 2)
        assert client.next().payload == b"\0" * size


@scenario(V311, V5)
def qos_is_the_lower_of_both(site):
    for asked in (0, 1, 2):
        client = site.client(f"reader-{asked}")
        assert client.subscribe(site.of(str(asked)), asked) == [asked]
        for sent in (0, 1, 2):
            client.publish(site.of(str(asked)), "x", sent)
            assert client.next().qos == min(asked, sent)


@scenario(V311, V5)
def subscribed_again(site):
    client = site.client("a")
    client.publish(site.of("t"), "kept", retain=True)
    for qos in (2, 0):
        assert client.subscribe(site.of("t"), qos) == [qos]
        assert client.next().retain
    client.publish(site.of("t"), "new", 2)
    assert client.next().qos == 0, "by the new subscription"
    assert client.is_idle(), "and by that alone"
    client.publish(site.of("t"), "", retain=True)


@scenario(V311, V5)
def taken_over(site):
    first = site.client("name")
    second = site.client("name")
    first.gone.get(timeout=LONGEST)
    second.subscribe(site.of("t"))
    second.publish(site.of("t"), "x")
    assert second.next().payload == b"x"
    first.inner.loop_stop()
    site.clients.remove(first)


@scenario(V311, V5)
def released_twice(site):
    raw = site.raw("a")
    raw.publish(site.of("t"), b"x", 2, 7)
    assert raw.next_of(0x50)[:2] == b"\0\7"
    for _ in range(2):
        raw.send(0x62, b"\0\7")
        completed = raw.next_of(0x70)
        assert completed[:2] == b"\0\7" and (site.version == V5 or len(completed) == 2), completed


@scenario(V311, V5)
def sent_twice_at_qos_2(site):
    reader, raw = site.client("reader"), site.raw("writer")
    reader.subscribe(site.of("t"))
    for flags in (0, 8):
        raw.publish(site.of("t"), b"once", 2, 7, flags)
        assert raw.next_of(0x50)[:2] == b"\0\7"
    raw.send(0x62, b"\0\7")
    raw.next_of(0x70)
    assert reader.payloads(1) == ["once"]
    assert reader.is_idle()


@scenario(V311, V5)
def what_breaks_the_protocol_ends_the_connection(site):
    no_properties = b"\0" if site.version == V5 else b""
    wrong = {
        "QoS 3": packet(0x36, text("t") + b"\0\1" + no_properties),
        "packet id 0": packet(0x32, text("t") + b"\0\0" + no_properties),
        "a message to a wildcard": packet(0x30, text("a/+") + no_properties),
        "a subscription to nothing": packet(0x82, b"\0\1" + no_properties),
        "a subscription at QoS 3": packet(0x82, b"\0\1" + no_properties + text("t") + b"\3"),
        "a subscription with other flags": packet(0x80, b"\0\1" + no_properties + text("t") + b"\0"),
        "an unsubscription from nothing": packet(0xA2, b"\0\1" + no_properties),
        "a release with other flags": packet(0x60, b"\0\1"),
        "a topic that is no UTF-8": packet(0x30, text(b"\xff\xfe") + no_properties),
        "a topic with a null": packet(0x30, text(b"a\0b") + no_properties),
        "a packet that ends in the middle": packet(0x32, text("t")),
        "a length of five bytes": b"\x30\xff\xff\xff\xff\x7f",
        "a packet of the broker": packet(0x20, b"\0\0"),
        "a packet of kind 0": packet(0x00, b""),
    }
    said = []
    for what, sent in wrong.items():
        raw = site.raw("wrong")
        raw.socket.sendall(sent)
        try:
            raw.is_hung_up()
        except TimeoutError:
            said.append(what)
    greetings = {
        "reserved flag": {"flags": 1},
        "a will that is none": {"flags": 0x20},
    }
    for what, more in greetings.items():
        raw = site.raw("wrong", **more)
        if raw.greeting is not None and raw.greeting[1][1] == 0:
            said.append(what)
    assert not said, f"lets pass {said}"


@scenario(V5)
def session_expiry(site):
    def session(asked, present, clean=False, at_the_end=None):
        raw = site.raw("a", clean=clean, said=b"\x11" + asked.to_bytes(4, "big"))
        assert raw.greeting[1][:2] == bytes([present, 0]), (asked, raw.greeting)
        said = b"" if at_the_end is None else b"\0" + raw.properties(b"\x11" + at_the_end.to_bytes(4, "big"))
        raw.send(0xE0, said)
        raw.is_hung_up()

    session(0, 0, clean=True)
    session(0, 0)
    session(4, 0)
    time.sleep(1)
    session(4, 1)
    time.sleep(6)
    session(1, 0, at_the_end=6)
    time.sleep(3)
    session(1, 1, at_the_end=0)
    session(0, 0)


@scenario(V5)
def user_properties(site):
    client = site.client("a")
    client.subscribe(site.of("t"))
    pairs = [("a", "2"), ("c", "3"), ("a", "1")]
    for qos in (0, 1, 2):
        client.publish(site.of("t"), "", qos, UserProperty=pairs)
        assert client.next().properties.UserProperty == pairs


@scenario(V5)
def payload_format_and_content_type(site):
    client = site.client("a")
    client.subscribe(site.of("t"))
    for qos in (0, 1, 2):
        client.publish(site.of("t"), "", qos, PayloadFormatIndicator=1, ContentType="my kind")
        said = client.next().properties
        assert (said.PayloadFormatIndicator, said.ContentType) == (1, "my kind")


@scenario(V5)
def request_and_response(site):
    asks, answers = site.client("asks"), site.client("answers")
    answers.subscribe(site.of("ask"))
    asks.subscribe(site.of("answer"))
    asks.publish(site.of("ask"), "?", ResponseTopic=site.of("answer"), CorrelationData=b"334")
    said = answers.next().properties
    answers.publish(said.ResponseTopic, "!", CorrelationData=said.CorrelationData)
    answer = asks.next()
    assert (answer.payload, answer.properties.CorrelationData) == (b"!", b"334")


@scenario(V5)
def message_expiry(site):
    gone = f"gone-{site.topic}"
    writer = site.client("writer")
    writer.subscribe(gone)
    away = site.client("away", lasting=1000, will=(gone, ""))
    away.subscribe(site.of("#"))
    # A broker that doesn't know yet that it is away begins to deliver, and what is begun does not expire.
    away.vanish()
    writer.next()
    for name, seconds in (("short", 1), ("long", 30)):
        for qos in (1, 2):
            writer.publish(site.of("t"), f"{name} {qos}", qos, MessageExpiryInterval=seconds)
        writer.publish(site.of("kept", name), name, retain=True, MessageExpiryInterval=seconds)
    time.sleep(2.5)
    back = site.client("away", lasting=1000)
    got = {message.payload.decode(): message.properties for message in (back.next() for _ in range(3))}
    assert sorted(got) == ["long", "long 1", "long 2"], got
    assert all(25 <= said.MessageExpiryInterval <= 28 for said in got.values()), got
    late = site.client("late")
    late.subscribe(site.of("kept/#"))
    message = late.next()
    assert message.payload == b"long" and 25 <= message.properties.MessageExpiryInterval <= 28
    assert late.is_idle()
    writer.publish(site.of("kept", "long"), "", retain=True)
    back.leave()
    site.client("away")


@scenario(V5)
def subscription_options(site):
    one, other = site.client("one"), site.client("other")
    for client in (one, other):
        client.subscribe_with(site.of("local"), SubscribeOptions(2, noLocal=True))
    one.publish(site.of("local"), "x")
    assert other.next().payload == b"x"
    assert one.is_idle()

    one.subscribe_with(site.of("as-published"), SubscribeOptions(2, retainAsPublished=True))
    for retain in (False, True):
        one.publish(site.of("as-published"), "x", retain=retain)
        assert one.next().retain == retain
    for handling, times in ((1, (True, False)), (2, (False, False)), (0, (True, True))):
        fresh = site.client(f"handling-{handling}")
        for comes in times:
            fresh.subscribe_with(site.of("as-published"), SubscribeOptions(2, retainHandling=handling))
            if comes:
                assert fresh.next().retain
            assert fresh.is_idle(), handling
    one.publish(site.of("as-published"), "", retain=True)


@scenario(V5)
def subscription_identifiers(site):
    def identifier(number):
        return {"properties": properties("SUBSCRIBE", SubscriptionIdentifier=number)}

    one, other = site.client("one"), site.client("other")
    one.subscribe(site.of("t"), **identifier(456_789))
    other.subscribe(site.of("t"), **identifier(2))
    other.subscribe(site.of("t/#"), **identifier(3))
    other.publish(site.of("t"), "x")
    assert one.next().properties.SubscriptionIdentifier == [456_789]
    said = list(other.next().properties.SubscriptionIdentifier)
    if len(said) == 1:
        said += other.next().properties.SubscriptionIdentifier
    assert sorted(said) == [2, 3], said


@scenario(V5)
def shared_subscriptions(site):
    members = [site.client(f"member-{number}") for number in range(2)]
    for member in members:
        member.subscribe([(f"$share/group/{site.of('x')}", 2), (site.of("all"), 2)])
    writer = site.client("writer")
    for number in range(10):
        writer.publish(site.of("all"), str(number))
        writer.publish(site.of("x"), f"shared {number}")
    time.sleep(1)
    got = [[member.got.get().payload.decode() for _ in range(member.got.qsize())] for member in members]
    for mine in got:
        assert [payload for payload in mine if not payload.startswith("shared")] == [str(number) for number in range(10)]
    shared = sorted(payload for mine in got for payload in mine if payload.startswith("shared"))
    assert shared == sorted(f"shared {number}" for number in range(10)), shared


@scenario(V5)
def will_delay(site):
    reader = site.client("reader")
    reader.subscribe(site.of("#"))

    def lost(name, delay, expiry):
        raw = Raw.__new__(Raw)
        raw.version, raw.socket = V5, socket.create_connection(("127.0.0.1", PORT))
        will = bytes([5, 0x18]) + delay.to_bytes(4, "big") + text(site.of(name)) + text("x")
        body = text("MQTT") + bytes([5, 6, 0, 0, 5, 0x11]) + expiry.to_bytes(4, "big")
        raw.send(0x10, body + text(f"{site.topic}-{name}") + will)
        raw.greeting = raw.next()
        site.clients.append(raw)
        return raw

    for name, delay, expiry, least, most in (("delayed", 2, 60, 1.9, 4), ("expired", 60, 2, 1.9, 4), ("none", 60, 0, 0, 1.9)):
        raw = lost(name, delay, expiry)
        began = time.monotonic()
        raw.vanish()
        assert reader.next().topic == site.of(name)
        assert least <= time.monotonic() - began <= most, (name, time.monotonic() - began)
    # Who is back in time has none.
    lost("back", 2, 60).vanish()
    site.raw("back", clean=False, said=b"\x11\0\0\0\x3c")
    time.sleep(3)
    assert reader.is_idle()


@scenario(V5)
def will_although_it_left(site):
    reader = site.client("reader")
    reader.subscribe(site.of("will"))
    raw = site.raw("leaves", will=(site.of("will"), "x"))
    raw.send(0xE0, b"\4")
    assert reader.next().payload == b"x"


@scenario(V5)
def topic_aliases_of_a_client(site):
    zero = site.raw("zero")
    zero.publish(site.of("t"), b"x", said=b"\x23\0\0")
    assert zero.is_hung_up() in (0x94, 0x82, 0x81, True)
    raw = site.raw("a", said=b"\x11\0\0\0\x3c")
    assert b"\x22" in raw.greeting[1], "some are allowed"
    raw.subscribe(site.of("t"), 1)
    raw.publish(site.of("t"), b"1", said=b"\x23\0\1")
    raw.publish("", b"2", said=b"\x23\0\1")
    assert [raw.message()[4] for _ in range(2)] == [b"1", b"2"]
    raw.send(0xE0)
    raw.is_hung_up()
    # It is of one connection.
    back = site.raw("a", clean=False, said=b"\x11\0\0\0\x3c")
    back.publish("", b"3", said=b"\x23\0\1")
    assert back.is_hung_up() in (0x94, 0x82, True)


@scenario(V5)
def topic_aliases_of_the_broker(site):
    for said, most in ((b"\x22\0\1", 1), (b"\x22\0\0", 0), (b"", 0)):
        raw = site.raw("a", said=said)
        raw.subscribe(site.of("#"), 2)
        for number in range(3):
            raw.publish(site.of("t"), b"%d" % number)
        got = [raw.message() for _ in range(3)]
        aliased = [b"\x23\0\1" in message[3] for message in got]
        # A broker may use as many as it likes, up to that.
        assert most > 0 or not any(aliased)
        for at, message in enumerate(got):
            assert message[1] == site.of("t") or any(aliased[:at]) and aliased[at] and message[1] == "", message


@scenario(V5)
def largest_packet_of_a_client(site):
    raw = site.raw("a", said=b"\x27\0\0\0\x80")
    raw.subscribe(site.of("t"), 1)
    writer = site.client("writer")
    for size in (20, 300, 21):
        writer.publish(site.of("t"), b"." * size)
    assert [len(raw.message()[4]) for _ in range(2)] == [20, 21]


@scenario(V5)
def largest_packet_of_the_broker(site):
    raw = site.raw("a")
    assert b"\x27" in raw.greeting[1], "it is told"
    raw.publish(site.of("t"), b"." * 300_000)
    assert raw.is_hung_up() in (0x95, True)


@scenario(V5)
def keep_alive_of_the_broker(site):
    raw = site.raw("a", keep_alive=120)
    assert b"\x13\0\x3c" in raw.greeting[1], raw.greeting


@scenario(V5)
def flow_control_of_a_client(site):
    raw = site.raw("a", said=b"\x21\0\2")
    raw.subscribe(site.of("t"), 1)
    writer = site.client("writer")
    for number in range(3):
        writer.publish(site.of("t"), str(number))
    first, second = raw.message(), raw.message()
    assert raw.is_idle(), "two are on their way, and no more may be"
    raw.send(0x40, first[2].to_bytes(2, "big"))
    assert raw.message()[4] == b"2"
    assert (first[4], second[4]) == (b"0", b"1")


@scenario(V5)
def flow_control_of_the_broker(site):
    raw = site.raw("a")
    at = raw.greeting[1].find(b"\x21")
    most = int.from_bytes(raw.greeting[1][at + 1 : at + 3], "big") if at > 0 else 65_535
    for number in range(most + 1):
        raw.publish(site.of("t"), b"x", 2, number + 1)
    assert raw.is_hung_up() == 0x93


@scenario(V5)
def what_breaks_mqtt_5_ends_the_connection(site):
    def publish(said, topic="t"):
        return packet(0x30, text(topic) + bytes([len(said)]) + said)

    def subscribe(said=b"", options=0, filter="t"):
        return packet(0x82, b"\0\1" + bytes([len(said)]) + said + text(filter) + bytes([options]))

    wrong = {
        "a property twice": publish(b"\x01\1\x01\1"),
        "a property of another packet": publish(b"\x11\0\0\0\1"),
        "a property that there is not": publish(b"\x7f\0"),
        "a response topic with a wildcard": publish(b"\x08" + text("a/#")),
        "a subscription identifier of a client": publish(b"\x0b\1"),
        "a subscription identifier of 0": subscribe(b"\x0b\0"),
        "an option that there is not": subscribe(options=0x40),
        "retain handling 3": subscribe(options=0x30),
        "no local on what is shared": subscribe(options=4, filter="$share/g/t"),
        "no topic and no alias": publish(b"", ""),
        "a session that is to last after all": packet(0xE0, b"\0\5\x11\0\0\0\x0a"),
    }
    said = []
    for what, sent in wrong.items():
        raw = site.raw("wrong")
        raw.socket.sendall(sent)
        try:
            raw.is_hung_up()
        except TimeoutError:
            said.append(what)
    for what, asked in {"a receive maximum of 0": b"\x21\0\0", "a largest packet of 0": b"\x27\0\0\0\0"}.items():
        raw = site.raw("wrong", said=asked)
        if raw.greeting is not None and raw.greeting[1][1] == 0:
            said.append(what)
    assert not said, f"lets pass {said}"


@scenario(V5)
def a_way_to_log_in_that_there_is_not(site):
    greeting = site.raw("a", said=b"\x15" + text("no-such-way")).greeting
    assert greeting is None or greeting[1][1] == 0x8C, greeting


@scenario(V5)
def told_that_another_took_over(site):
    first = site.raw("name")
    site.raw("name")
    assert first.is_hung_up() == 0x8E


@scenario(V5)
def properties_of_a_will(site):
    reader = site.client("reader")
    reader.subscribe(site.of("will"))
    raw = site.raw("none")
    said = b"\x01\1" + b"\x03" + text("kind") + b"\x26" + text("a") + text("1") + b"\x02\0\0\0\x3c"
    body = text("MQTT") + bytes([5, 6, 0, 0, 0]) + text(f"{site.topic}-lost")
    with socket.create_connection(("127.0.0.1", PORT)) as lost:
        lost.sendall(packet(0x10, body + bytes([len(said)]) + said + text(site.of("will")) + text("x")))
        assert lost.recv(4)[0] == 0x20
    message = reader.next()
    got = message.properties
    assert (got.PayloadFormatIndicator, got.ContentType, got.UserProperty) == (1, "kind", [("a", "1")])
    assert 0 < got.MessageExpiryInterval <= 60
    raw.leave()


def tried(check, version):
    site = Site(check, version)
    try:
        check(site)
        return check, version, None
    except Exception as error:  # Also one that no scenario foresees is a result.
        at = traceback.extract_tb(error.__traceback__)
        line = next(frame for frame in reversed(at) if frame.filename == __file__)
        return check, version, f"{type(error).__name__} {error} in line {line.lineno}: {line.line}"
    finally:
        site.end()


with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for check, version, why in pool.map(lambda it: tried(*it), SCENARIOS):
        name = f"{check.__name__} {'5' if version == V5 else '3.1.1'}"
        print(f"FAIL {name}: {why}" if why else f"pass {name}", flush=True)
