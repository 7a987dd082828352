"""A device as a Modbus TCP server: `image_server.py IMAGE`, a file of `plugins/modbus/profiles/images`.

Prints `listening PORT`. It has the registers of the image, and answers `illegal data address` for all others.
"""

import asyncio
import logging
import re
import sys

from pymodbus.datastore import (
    ModbusDeviceContext,
    ModbusServerContext,
    ModbusSparseDataBlock,
)
from pymodbus.server import ModbusTcpServer

TABLES = {"holding": "hr", "input": "ir"}


def read(path):
    tables = {}
    with open(path) as image:
        for line in image:
            if head := re.match(r"(\w+):$", line):
                table = TABLES.get(head[1])
            elif run := re.match(r"  0x([0-9A-F]+): \"(.*)\"", line):
                # Its blocks count from 1.
                start = int(run[1], 16) + 1
                words = [int(word, 16) for word in run[2].split()]
                tables.setdefault(table, {}).update(enumerate(words, start))
    return {table: ModbusSparseDataBlock(words) for table, words in tables.items()}


async def main():
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    context = ModbusServerContext(devices={1: ModbusDeviceContext(**read(sys.argv[1]))}, single=False)
    server = ModbusTcpServer(context, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    print("listening", server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
