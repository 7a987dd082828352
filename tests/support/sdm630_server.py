"""An Eastron SDM630 as a Modbus TCP server: input registers, 32-bit floats, high word first.

Prints `listening PORT`, and `connected` for each TCP connection. The energy counts up by one at each
reading, so that a reading that got lost, or was made twice, can be seen.
"""

import asyncio
import logging
import struct

from pymodbus.datastore import ModbusDeviceContext, ModbusServerContext
from pymodbus.server import ModbusTcpServer

VALUES = {0x0000: 230.1, 0x0006: 12.6, 0x0034: 1402.0, 0x0046: 50.02}
ENERGY = 0x0048


class Meter(ModbusDeviceContext):
    readings = 0

    def getValues(self, func_code, address, count=1):
        if func_code != 4:
            return super().getValues(func_code, address, count)
        values = dict(VALUES)
        if address <= ENERGY < address + count:
            self.readings += 1
            values[ENERGY] = float(self.readings)
        image = {}
        for place, value in values.items():
            image[place], image[place + 1] = struct.unpack(">HH", struct.pack(">f", value))
        return [image.get(place, 0) for place in range(address, address + count)]


def note_connection(is_up):
    if is_up:
        print("connected", flush=True)


async def main():
    # A client that leaves in mid-answer is no news.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    context = ModbusServerContext(devices={1: Meter()}, single=False)
    server = ModbusTcpServer(
        context, address=("127.0.0.1", 0), trace_connect=note_connection
    )
    await server.serve_forever(background=True)
    print("listening", server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
