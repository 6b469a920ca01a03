#!/usr/bin/python3
"""A program beside the guests that has a file of the shared storage mapped.

mapped.py FILE FLAG

Once FLAG is there, it writes to a page of FILE and maps other memory over it: the kernel holds the
lock of its address space until the page is written, so whoever reads its command line or environment
in /proc waits for as long as the storage hangs. It says "mapped" once it has the file.
"""
import ctypes
import mmap
import os
import sys
import time

path, flag = sys.argv[1:]
PAGES = 4 * mmap.PAGESIZE
PROT = mmap.PROT_READ | mmap.PROT_WRITE
MAP_FIXED = 0x10

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]


def mapped(at, flags, handle):
    found = libc.mmap(at, PAGES, PROT, flags, handle, 0)
    if found == ctypes.c_void_p(-1).value:
        sys.exit(f"mmap: {os.strerror(ctypes.get_errno())}")
    return found


handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(handle, PAGES)
address = mapped(None, mmap.MAP_SHARED, handle)
ctypes.memset(address, 1, PAGES)
print("mapped", flush=True)
while not os.path.exists(flag):
    time.sleep(0.02)
ctypes.memset(address, 2, PAGES)
mapped(address, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED, -1)
while True:
    time.sleep(60)
