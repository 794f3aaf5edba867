"""TarSum by Python's tarfile: a second implementation to hold the registry's against.

Without arguments it writes the archives of this folder and their sums (sums.txt); with archives as arguments it prints
their sums in version 0 and 1.
"""

import hashlib
import io
import os
import sys
import tarfile


def sums(path):
    archive = tarfile.open(path, "r:")
    files = {0: [], 1: []}
    for member in archive:
        # tarfile turns the type of old regular files and takes the slash off folders' names; the sum has both as they are.
        with open(path, "rb") as raw:
            raw.seek(member.offset_data - 512)
            header = raw.read(512)
        name = member.pax_headers.get("path", member.name)
        if member.isdir() and not name.endswith("/"):
            name += "/"
        text = lambda value: value.encode("utf-8", "surrogateescape")
        fields = [
            ("name", name), ("mode", member.mode), ("uid", member.uid), ("gid", member.gid), ("size", member.size),
            ("mtime", int(member.mtime // 1)), ("typeflag", chr(header[156])), ("linkname", member.linkname),
            ("uname", member.uname), ("gname", member.gname), ("devmajor", member.devmajor), ("devminor", member.devminor),
        ]
        prefix = "SCHILY.xattr."
        xattrs = sorted((text(key[len(prefix):]), text(value)) for key, value in member.pax_headers.items() if key.startswith(prefix))
        content = archive.extractfile(member).read() if member.isreg() else b""
        for version in files:
            hasher = hashlib.sha256()
            for key, value in fields:
                if version == 0 or key != "mtime":
                    hasher.update(key.encode() + text(str(value)))
            for key, value in xattrs if version == 1 else ():
                hasher.update(key + value)
            hasher.update(content)
            files[version].append(hasher.hexdigest())
    for version, label in ((0, "tarsum"), (1, "tarsum.v1")):
        yield label + "+sha256:" + hashlib.sha256("".join(sorted(files[version])).encode()).hexdigest()


def add(archive, name, content=b"", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in fields.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def many(archive):
    add(archive, "./", type=tarfile.DIRTYPE, mode=0o755)
    add(archive, "etc", type=tarfile.DIRTYPE, mode=0o1777, mtime=1234567890)
    add(archive, "etc/empty", mode=0o600)
    for size in (1, 511, 512, 513, 10000):
        add(archive, f"etc/{size}", b"x" * size, uid=size, gid=1, uname="uther", gname="gunther", mtime=size)
    add(archive, "etc/link", type=tarfile.SYMTYPE, linkname="empty", mode=0o777)
    add(archive, "etc/hard", type=tarfile.LNKTYPE, linkname="etc/empty")
    add(archive, "dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add(archive, "dev/loop", type=tarfile.BLKTYPE, devmajor=7, devminor=255)
    add(archive, "dev/pipe", type=tarfile.FIFOTYPE)


def long(archive):
    add(archive, "d" * 90 + "/" + "f" * 90, b"ustar prefix, GNU long name or PAX path")
    add(archive, "n" * 300, b"long name")
    add(archive, "é" * 60 + "/ü", b"beyond ASCII", uname="ürsula")
    add(archive, "short", type=tarfile.SYMTYPE, linkname="t" * 500)


def attributes(archive):
    headers = {"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "1 = one\n", "SCHILY.xattr.security.capability": "ä", "comment": "ignored"}
    add(archive, "with", b"attributes", pax_headers=headers, mtime=1.75)
    add(archive, "without", b"attributes", mtime=1234567890.999)
    add(archive, "large", uid=10**9, gid=8**8, mtime=8**12)


def main():
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    with open("sums.txt", "w") as listing:
        for name, fill, format in (
            ("many", many, tarfile.USTAR_FORMAT), ("many-gnu", many, tarfile.GNU_FORMAT), ("long-gnu", long, tarfile.GNU_FORMAT),
            ("long-pax", long, tarfile.PAX_FORMAT), ("attributes", attributes, tarfile.PAX_FORMAT), ("empty", lambda archive: None, tarfile.USTAR_FORMAT),
        ):
            with tarfile.open(name + ".tar", "w", format=format) as archive:
                fill(archive)
            # Without the zeros that fill up the last record.
            with open(name + ".tar", "r+b") as file:
                content = file.read().rstrip(b"\0")
                file.truncate((len(content) + 511) // 512 * 512 + 1024)
            print(name, *sums(name + ".tar"), file=listing)


if len(sys.argv) > 1:
    for path in sys.argv[1:]:
        print(path, *sums(path))
else:
    main()
