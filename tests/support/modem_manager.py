"""ModemManager, by dbus-fast: `modem_manager.py ADDRESS`. Answers `GetManagedObjects` with one modem, as version 1.22 does
for an LTE modem by QMI, whose figures are switched on. Prints `listening` once it has its name."""

import asyncio
import sys

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

NAME = "org.freedesktop.ModemManager1"
MODEM = {
    "State": Variant("i", 11),
    "AccessTechnologies": Variant("u", 1 << 14),
    "SignalQuality": Variant("(ub)", [67, True]),
    "EquipmentIdentifier": Variant("s", "861234567890123"),
    "Model": Variant("s", "EC25"),
    "CurrentBands": Variant("au", [33]),
    "PrimarySimSlot": Variant("u", 1),
    "Ports": Variant("a(su)", [["cdc-wdm0", 6], ["ttyUSB2", 3], ["wwan0", 2]]),
    "Sim": Variant("o", "/org/freedesktop/ModemManager1/SIM/0"),
    "SupportedCapabilities": Variant("au", [4, 8, 12]),
    "CurrentModes": Variant("(uu)", [14, 8]),
}
NETWORK = {
    "RegistrationState": Variant("u", 5),
    "OperatorName": Variant("s", "LMT"),
    "OperatorCode": Variant("s", "24701"),
    "Imei": Variant("s", "861234567890123"),
}
SIGNAL = {
    "Rate": Variant("u", 10),
    "Gsm": Variant("a{sv}", {}),
    "Lte": Variant(
        "a{sv}",
        {
            "rssi": Variant("d", -61.0),
            "rsrp": Variant("d", -93.0),
            "rsrq": Variant("d", -11.0),
            "snr": Variant("d", 8.4),
        },
    ),
}
OBJECTS = {
    "/org/freedesktop/ModemManager1/Modem/3": {
        f"{NAME}.Modem": MODEM,
        f"{NAME}.Modem.Modem3gpp": NETWORK,
        f"{NAME}.Modem.Signal": SIGNAL,
    }
}


def answer(message):
    if message.message_type == MessageType.METHOD_CALL and message.member == "GetManagedObjects":
        return Message.new_method_return(message, "a{oa{sa{sv}}}", [OBJECTS])
    return None


async def main():
    bus = await MessageBus(bus_address=sys.argv[1]).connect()
    bus.add_message_handler(answer)
    await bus.request_name(NAME)
    print("listening", flush=True)
    await bus.wait_for_disconnect()


if __name__ == "__main__":
    asyncio.run(main())
