"""Reads and writes a device as another client does: `modbus_client.py tcp|rtu PORT UNIT`.

Prints what it reads of `tools.rs`'s devices, a line for each request.
"""

import sys

from pymodbus import FramerType
from pymodbus.client import ModbusTcpClient

framer = FramerType.RTU if sys.argv[1] == "rtu" else FramerType.SOCKET
unit = int(sys.argv[3])
client = ModbusTcpClient("127.0.0.1", port=int(sys.argv[2]), framer=framer, timeout=20)
assert client.connect()
print(client.read_input_registers(0, count=2, device_id=unit).registers)
print(client.read_discrete_inputs(0, count=4, device_id=unit).bits[:4])
print(client.write_registers(9, [5, 6], device_id=unit).isError())
print(client.write_coil(3, False, device_id=unit).isError())
print(client.readwrite_registers(read_address=9, read_count=2, write_address=10, values=[7], device_id=unit).registers)
print(client.mask_write_register(address=9, and_mask=0xFFF0, or_mask=0x0003, device_id=unit).isError())
print(client.read_holding_registers(9, count=2, device_id=unit).registers)
print(client.read_coils(3, count=1, device_id=unit).bits[:1])
print(client.read_holding_registers(500, count=1, device_id=unit).exception_code)
print(client.read_device_information(device_id=unit).information)
