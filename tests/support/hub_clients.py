"""Clients that others wrote, at the embedded broker: paho and aiomqtt, with MQTT 3.1.1 and 5.

hub_clients.py PORT TLS_PORT WEBSOCKET_PORT CA USER PASSWORD
"""
import asyncio
import sys

import aiomqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

import paho_client
from paho_client import LONGEST, V311, V5, properties

PORT, TLS_PORT, WEBSOCKET_PORT = map(int, sys.argv[1:4])
CA, USER, PASSWORD = sys.argv[4:7]
WAYS = {
    "tcp": {"port": PORT},
    "tls": {"port": TLS_PORT, "ca": CA},
    "websocket": {"port": WEBSOCKET_PORT, "path": "/mqtt"},
}


class Client(paho_client.Client):
    """One of the user."""

    def __init__(self, name, version=V311, lasting=False, way="tcp", user=USER, **more):
        lasting = 1000 if lasting else None
        super().__init__(name, version=version, lasting=lasting, login=(user, PASSWORD), **WAYS[way], **more)


def with_all_versions(check):
    for version in (V311, V5):
        check(version)
    print("ok", check.__name__, flush=True)


def once(check):
    check()
    print("ok", check.__name__, flush=True)


def every_qos_by_every_way(version):
    for way in ("tcp", "tls", "websocket"):
        reader, writer = Client("reader", version, way=way), Client("writer", version, way=way)
        reader.subscribe(f"{way}/#")
        for qos in (0, 1, 2):
            for size in (0, 1, 5000, 50_000, 500_000):
                writer.publish(f"{way}/a", b"x" * size, qos)
                message = reader.next()
                assert (message.qos, len(message.payload), message.retain) == (qos, size, False)
        reader.leave()
        writer.leave()


def what_is_retained_comes_once_and_is_cleared(version):
    writer = Client("writer", version)
    writer.publish("kept/a", "1", retain=True)
    writer.publish("kept/b", "2", retain=True)
    reader = Client("reader", version)
    reader.subscribe("kept/+")
    assert sorted((reader.next().payload, reader.next().payload)) == [b"1", b"2"]
    writer.publish("kept/a", "", retain=True)
    assert reader.next().payload == b""
    late = Client("late", version)
    late.subscribe("kept/#")
    message = late.next()
    assert (message.payload, message.retain) == (b"2", True)
    writer.publish("kept/b", "", retain=True)
    for client in (writer, reader, late):
        client.leave()


def who_was_away_gets_what_it_missed_in_order(version):
    Client("away", version, lasting=False).leave()
    away = Client("away", version, lasting=True)
    away.subscribe("missed/#")
    away.leave()
    writer = Client("writer", version)
    for number in range(50):
        writer.publish("missed/a", str(number), 1 + number // 25)
    writer.publish("missed/a", "not kept", 0)
    back = Client("away", version, lasting=True)
    assert back.flags.session_present
    assert back.payloads(50) == [str(number) for number in range(50)]
    assert back.is_idle()
    back.leave()
    fresh = Client("away", version)
    assert not fresh.flags.session_present
    fresh.leave()
    writer.leave()


def a_will_comes_of_who_vanishes_and_not_of_who_leaves(version):
    reader = Client("reader", version)
    reader.subscribe("will/#")
    Client("leaves", version, will=("will/leaves", "no", 1)).leave()
    Client("vanishes", version, will=("will/vanishes", "yes", 1)).vanish()
    assert reader.next().topic == "will/vanishes"
    assert reader.is_idle()
    reader.leave()


def who_may_not_is_told_as_the_version_has_it(version):
    client = Client("limited", version)
    assert client.subscribe("denied/#") == ([0x87] if version == V5 else [0x80])
    assert client.publish("denied/a", "x") == (0x87 if version == V5 else 0)
    client.leave()
    stranger = Client("stranger", version, user="stranger")
    assert stranger.said.is_failure, stranger.said
    stranger.inner.loop_stop()


def what_only_mqtt_5_has():
    writer, reader = Client("writer", V5), Client("reader", V5)
    reader.subscribe("five/#", properties=properties("SUBSCRIBE", SubscriptionIdentifier=7))
    writer.publish(
        "five/a", "x", UserProperty=[("a", "1"), ("a", "2")], ContentType="text/plain", ResponseTopic="answer",
        CorrelationData=b"c", PayloadFormatIndicator=1, MessageExpiryInterval=60,
    )
    got = reader.next().properties
    assert (got.UserProperty, got.ContentType, got.ResponseTopic) == ([("a", "1"), ("a", "2")], "text/plain", "answer")
    assert (got.CorrelationData, got.PayloadFormatIndicator) == (b"c", 1)
    assert 0 < got.MessageExpiryInterval <= 60 and got.SubscriptionIdentifier == [7]

    writer.publish("five/alias", "1", TopicAlias=3)
    writer.publish("", "2", TopicAlias=3)
    assert [reader.next().topic for _ in range(2)] == ["five/alias", "five/alias"]

    own = Client("own", V5)
    own.subscribe_with("five/own", SubscribeOptions(2, noLocal=True, retainAsPublished=True))
    own.publish("five/own", "mine")
    writer.publish("five/own", "others", retain=True)
    message = own.next()
    assert (message.payload, message.retain) == (b"others", True)
    writer.publish("five/own", "", retain=True)

    sharers = [Client(f"shares{number}", V5) for number in range(2)]
    for sharer in sharers:
        sharer.subscribe("$share/group/shared")
    for number in range(10):
        writer.publish("shared", str(number))
    assert sorted(sum((sharer.payloads(5) for sharer in sharers), [])) == sorted(map(str, range(10)))
    for client in (writer, reader, own, *sharers):
        client.leave()


def one_who_takes_over_gets_the_name():
    first = Client("name", V5)
    second = Client("name", V5)
    assert first.gone.get(timeout=LONGEST) == 0x8E
    first.inner.loop_stop()
    second.leave()


def what_users_of_other_brokers_ran_into(version):
    writer = Client("writer", version)
    # A parent lost its retained message with that of a child.
    writer.publish("parent", "p", retain=True)
    writer.publish("parent/child", "c", retain=True)
    writer.publish("parent/child", "", retain=True)
    # What was retained came once for each filter of a SUBSCRIBE, and killed who had it when it came back.
    for _ in range(2):
        reader = Client("several", version, lasting=True)
        reader.subscribe([("parent", 1), ("other", 1), ("more/#", 1), ("parent/#", 1)])
        topics = {reader.next().topic for _ in range(2)}
        assert topics == {"parent"}, "once for each of the two that match"
        assert reader.is_idle()
        reader.leave()
    writer.publish("parent", "", retain=True)
    Client("several", version).leave()

    # Who shares a filter with wildcards got nothing beside one who reads all.
    everything, sharers = Client("everything", version), [Client(f"shares{n}", version) for n in range(2)]
    everything.subscribe("#")
    for sharer in sharers:
        sharer.subscribe("$share/one/turn/+/#")
    for number in range(4):
        writer.publish("turn/a/b", str(number))
    assert everything.payloads(4) == list("0123")
    assert [sharer.payloads(2) for sharer in sharers] == [["0", "2"], ["1", "3"]]
    for client in (everything, *sharers):
        client.leave()

    # What waited was lost when another connection of the same name took over.
    first = Client("taken", version, lasting=True)
    first.subscribe("taken/#")
    first.inner.loop_stop()
    for number in range(20):
        writer.publish("taken/a", str(number), 2)
    second = Client("taken", version, lasting=True)
    assert second.flags.session_present
    assert sorted(second.payloads(20), key=int) == [str(number) for number in range(20)]
    second.leave()
    Client("taken", version).leave()
    writer.leave()


async def with_aiomqtt():
    for version in (aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5):
        login = {"port": PORT, "username": USER, "password": PASSWORD, "protocol": version}
        async with aiomqtt.Client("127.0.0.1", **login) as reader, aiomqtt.Client("127.0.0.1", **login) as writer:
            await reader.subscribe("async/#", qos=1)
            for number in range(100):
                await writer.publish(f"async/{number}", number, qos=1)
            number = 0
            async for message in reader.messages:
                assert (str(message.topic), message.payload) == (f"async/{number}", str(number).encode())
                number += 1
                if number == 100:
                    break
    print("ok with_aiomqtt", flush=True)


for check in (
    every_qos_by_every_way,
    what_is_retained_comes_once_and_is_cleared,
    who_was_away_gets_what_it_missed_in_order,
    a_will_comes_of_who_vanishes_and_not_of_who_leaves,
    who_may_not_is_told_as_the_version_has_it,
    what_users_of_other_brokers_ran_into,
):
    with_all_versions(check)
once(what_only_mqtt_5_has)
once(one_who_takes_over_gets_the_name)
asyncio.run(with_aiomqtt())
