"""A device as a Modbus RTU server: `rtu_server.py DEVICE` at a serial line, without an argument over TCP.

Prints `listening PORT` (0 for a serial line) and each write as `wrote FUNCTION ADDRESS VALUES`. Its holding
registers 0 to 99 hold 1000 and their address; from 100 on they are what was written.
"""

import asyncio
import logging
import sys

from pymodbus import FramerType, ModbusDeviceIdentification
from pymodbus.datastore import (
    ModbusDeviceContext,
    ModbusSequentialDataBlock,
    ModbusServerContext,
)
from pymodbus.server import ModbusSerialServer, ModbusTcpServer


class Device(ModbusDeviceContext):
    def setValues(self, func_code, address, values):
        print("wrote", func_code, address, *(int(value) for value in values), flush=True)
        return super().setValues(func_code, address, values)


async def main():
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    # Its blocks count from 1.
    registers = ModbusSequentialDataBlock(1, [1000 + n for n in range(100)] + [0] * 100)
    coils = ModbusSequentialDataBlock(1, [n % 3 == 0 for n in range(100)])
    device = Device(hr=registers, ir=registers, co=coils, di=coils)
    context = ModbusServerContext(devices={17: device}, single=False)
    identity = ModbusDeviceIdentification(
        info_name={
            "VendorName": "Acme",
            "ProductCode": "RX-7",
            "MajorMinorRevision": "2.1",
            "ModelName": "Boiler controller",
        }
    )
    if len(sys.argv) > 1:
        server = ModbusSerialServer(
            context, framer=FramerType.RTU, identity=identity, port=sys.argv[1], baudrate=19200
        )
    else:
        server = ModbusTcpServer(
            context, framer=FramerType.RTU, identity=identity, address=("127.0.0.1", 0)
        )
    await server.serve_forever(background=True)
    port = server.transport.sockets[0].getsockname()[1] if len(sys.argv) == 1 else 0
    print("listening", port, flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
