"""A client and a server by libmodbus, which comes with mbpoll.

`libmodbus.py server` is the device of `rtu_server.py` on Modbus TCP, and prints the same. `libmodbus.py client tcp PORT`
and `client rtu DEVICE` make the checks of libmodbus's own unit test that any device can pass, on coils 0x130 to 0x154
and holding registers 0x160 to 0x163, discrete inputs 0x1C4 to 0x1D9 and input register 0x108; prints what fails.
"""

import ctypes
import os
import socket
import sys

lib = ctypes.CDLL("libmodbus.so.5", use_errno=True)
lib.modbus_new_tcp.restype = lib.modbus_new_rtu.restype = ctypes.c_void_p
lib.modbus_new_tcp.argtypes = [ctypes.c_char_p, ctypes.c_int]
lib.modbus_new_rtu.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_char, ctypes.c_int, ctypes.c_int]
ILLEGAL = 112345678  # MODBUS_ENOBASE


class Mapping(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("nb", "s", "nbi", "si", "nir", "sir", "nr", "sr")),
        ("bits", ctypes.POINTER(ctypes.c_uint8)),
        ("input_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("input_registers", ctypes.POINTER(ctypes.c_uint16)),
        ("registers", ctypes.POINTER(ctypes.c_uint16)),
    ]


def server():
    lib.modbus_mapping_new.restype = ctypes.POINTER(Mapping)
    mapping = lib.modbus_mapping_new(200, 200, 200, 200)
    # As there, what is written to one table shows in the other.
    mapping.contents.input_bits = mapping.contents.bits
    mapping.contents.input_registers = mapping.contents.registers
    for n in range(100):
        mapping.contents.registers[n] = 1000 + n
        mapping.contents.bits[n] = n % 3 == 0
    link = ctypes.c_void_p(lib.modbus_new_tcp(b"127.0.0.1", 0))
    listener = ctypes.c_int(lib.modbus_tcp_listen(link, 1))
    port = socket.socket(fileno=os.dup(listener.value)).getsockname()[1]
    print("listening", port, flush=True)
    query = (ctypes.c_uint8 * 260)()
    while True:
        lib.modbus_tcp_accept(link, ctypes.byref(listener))
        while (length := lib.modbus_receive(link, query)) >= 0:
            if length:
                say_write(bytes(query[7:length]))
                lib.modbus_reply(link, query, length, mapping)
        lib.modbus_close(link)


def say_write(request):
    words = [int.from_bytes(request[n : n + 2], "big") for n in range(1, len(request) - 1, 2)]
    values = {5: lambda: [words[1] >> 15], 6: lambda: [words[1]]}
    if request[0] in (5, 6):
        print("wrote", request[0], words[0], *values[request[0]](), flush=True)
    if request[0] == 16:
        written = [int.from_bytes(request[n : n + 2], "big") for n in range(6, len(request), 2)]
        print("wrote", 16, words[0], *written, flush=True)


def client(kind, place):
    if kind == "tcp":
        link = lib.modbus_new_tcp(b"127.0.0.1", int(place))
    else:
        link = lib.modbus_new_rtu(place.encode(), 9600, b"N", 8, 1)
    link = ctypes.c_void_p(link)
    lib.modbus_set_slave(link, 1)
    lib.modbus_set_response_timeout(link, 10, 0)
    assert lib.modbus_connect(link) == 0, "connects"
    bits, words = (ctypes.c_uint8 * 2100)(), (ctypes.c_uint16 * 200)()

    def check(what, returned, expected, found=None, wanted=None):
        if returned != expected or found != wanted:
            print(f"{what}: {returned}, expected {expected}; {found}, expected {wanted}")

    def refused(what, code, returned):
        check(what, (returned, ctypes.get_errno() - ILLEGAL), (-1, code))

    check("write bit", lib.modbus_write_bit(link, 0x130, 1), 1)
    check("read bit", lib.modbus_read_bits(link, 0x130, 1, bits), 1, bits[0], 1)
    pattern = [0xCD >> n & 1 for n in range(8)] * 4 + [1, 0, 1, 1, 0]
    many = (ctypes.c_uint8 * 37)(*pattern)
    check("write bits", lib.modbus_write_bits(link, 0x130, 37, many), 37)
    check("read bits", lib.modbus_read_bits(link, 0x130, 37, bits), 37, list(bits[:37]), pattern)
    inputs = [0xAC >> n & 1 for n in range(8)] + [0xDB >> n & 1 for n in range(8)] + [1, 0, 1, 0, 1, 1]
    read = lib.modbus_read_input_bits(link, 0x1C4, 22, bits)
    check("read input bits", read, 22, list(bits[:22]), inputs)
    check("write register", lib.modbus_write_register(link, 0x160, 0x1234), 1)
    read = lib.modbus_read_registers(link, 0x160, 1, words)
    check("read register", read, 1, words[0], 0x1234)
    three = (ctypes.c_uint16 * 3)(0x022B, 0x0001, 0x0064)
    check("write registers", lib.modbus_write_registers(link, 0x160, 3, three), 3)
    read = lib.modbus_read_registers(link, 0x160, 3, words)
    check("read registers", read, 3, list(words[:3]), list(three))
    zeros = (ctypes.c_uint16 * 4)()
    exchanged = lib.modbus_write_and_read_registers(link, 0x161, 2, zeros, 0x160, 3, words)
    check("write and read", exchanged, 3, list(words[:3]), [0x022B, 0, 0])
    read = lib.modbus_read_input_registers(link, 0x108, 1, words)
    check("read input register", read, 1, words[0], 0x000A)
    lib.modbus_write_register(link, 0x160, 0x12)
    check("mask", lib.modbus_mask_write_register(link, 0x160, 0xF2, 0x25), 1)
    lib.modbus_read_registers(link, 0x160, 1, words)
    check("masked", words[0], 0x17)
    refused("bits elsewhere", 2, lib.modbus_read_bits(link, 0, 1, bits))
    refused("bits too far", 2, lib.modbus_read_bits(link, 0x130, 38, bits))
    refused("input bits too far", 2, lib.modbus_read_input_bits(link, 0x1C4, 23, bits))
    refused("registers elsewhere", 2, lib.modbus_read_registers(link, 0, 1, words))
    refused("registers too far", 2, lib.modbus_read_registers(link, 0x160, 5, words))
    refused("input registers too far", 2, lib.modbus_read_input_registers(link, 0x108, 2, words))
    refused("write bit elsewhere", 2, lib.modbus_write_bit(link, 0, 1))
    refused("write bits too far", 2, lib.modbus_write_bits(link, 0x150, 37, many))
    refused("write register elsewhere", 2, lib.modbus_write_register(link, 0, 1))
    refused("write registers too far", 2, lib.modbus_write_registers(link, 0x162, 3, three))
    refused("mask elsewhere", 2, lib.modbus_mask_write_register(link, 0, 0, 0))
    refused("exchange too far", 2, lib.modbus_write_and_read_registers(link, 0x160, 1, zeros, 0x160, 5, words))
    # Requests that the library itself would not make.
    answer = (ctypes.c_uint8 * 260)()
    for function, count in ((1, 2001), (2, 2001), (3, 126), (4, 126), (3, 0)):
        raw = (ctypes.c_uint8 * 6)(1, function, 1, 0x60, count >> 8, count & 0xFF)
        lib.modbus_send_raw_request(link, raw, 6)
        lib.modbus_receive_confirmation(link, answer)
        at = lib.modbus_get_header_length(link)
        check(f"function {function} of {count}", list(answer[at : at + 2]), [function | 0x80, 3])
    print("done")


if sys.argv[1] == "server":
    server()
else:
    client(*sys.argv[2:])
