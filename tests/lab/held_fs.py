#!/usr/bin/python3
"""Shows a directory in its own place, as a mount of a storage network does.

held_fs.py DIRECTORY FLAG [cached]

While the file FLAG is there, whoever reads or writes in a file waits, and no signal ends that: a
mount that is hard. What waited is done once FLAG is gone. It all ends with this process. Files can be
mapped to be written only where the kernel may cache them.
"""
import os
import sys
import time

import fusepy as fuse

directory, flag = sys.argv[1:3]
cached = sys.argv[3:] == ["cached"]
# What lies below the mount is reached by this.
below = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)


def name(path):
    return path.lstrip("/") or "."


def pause():
    while os.path.exists(flag):
        time.sleep(0.02)


class Shown(fuse.Operations):
    def getattr(self, path, handle=None):
        seen = os.stat(name(path), dir_fd=below, follow_symlinks=False)
        kept = "mode ino nlink uid gid size atime mtime ctime".split()
        return {"st_" + of: getattr(seen, "st_" + of) for of in kept}

    def readdir(self, path, handle):
        there = os.open(name(path), os.O_RDONLY | os.O_DIRECTORY, dir_fd=below)
        try:
            return [".", "..", *os.listdir(there)]
        finally:
            os.close(there)

    def statfs(self, path):
        seen = os.fstatvfs(below)
        return {of: getattr(seen, of) for of in dir(seen) if of.startswith("f_") and of != "f_fsid"}

    def open(self, path, flags):
        return os.open(name(path), flags & ~(os.O_DIRECT | os.O_APPEND), dir_fd=below)

    def create(self, path, mode, info=None):
        return os.open(name(path), os.O_RDWR | os.O_CREAT, mode, dir_fd=below)

    def read(self, path, size, offset, handle):
        pause()
        return os.pread(handle, size, offset)

    def write(self, path, data, offset, handle):
        pause()
        return os.pwrite(handle, data, offset)

    def fsync(self, path, data_only, handle):
        pause()
        os.fsync(handle)

    def truncate(self, path, length, handle=None):
        writes = os.open(name(path), os.O_WRONLY, dir_fd=below)
        try:
            os.ftruncate(writes, length)
        finally:
            os.close(writes)

    def unlink(self, path):
        os.unlink(name(path), dir_fd=below)

    def rename(self, old, new):
        os.rename(name(old), name(new), src_dir_fd=below, dst_dir_fd=below)

    def release(self, path, handle):
        os.close(handle)


fuse.FUSE(
    Shown(), directory, foreground=True, allow_other=True, direct_io=not cached, use_ino=True, nonempty=True
)
