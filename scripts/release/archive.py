"""Archives whose bytes depend on their contents alone: sorted names, one owner, one time."""

import gzip
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Entry:
    """A file of an archive: its path there, its bytes, and whether it can be run."""

    name: str
    content: bytes
    is_executable: bool = False


def files_below(root: Path, folder: str, prefix: str) -> list[Entry]:
    """Every file below `root/folder`, as `prefix/folder/...`; none if there is no such folder."""
    found = sorted(path for path in (root / folder).rglob("*") if path.is_file())
    return [entry_of(path, str(PurePosixPath(prefix, path.relative_to(root)))) for path in found]


def entry_of(path: Path, name: str) -> Entry:
    """The file at `path`, as `name`. It stays executable."""
    return Entry(name, path.read_bytes(), bool(path.stat().st_mode & 0o100))


def tar(entries: list[Entry], seconds: int) -> bytes:
    """A tar of the entries, all of them last changed at `seconds` since 1970, and root's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in sorted(entries, key=lambda entry: entry.name):
            info = tarfile.TarInfo(entry.name)
            info.size, info.mtime = len(entry.content), seconds
            info.mode = 0o755 if entry.is_executable else 0o644
            archive.addfile(info, io.BytesIO(entry.content))
    return out.getvalue()


def gzipped(content: bytes) -> bytes:
    """`content` in gzip, without a name or a time."""
    return gzip.compress(content, compresslevel=6, mtime=0)


def tar_gz(entries: list[Entry], seconds: int) -> bytes:
    """A tar of the entries, in gzip."""
    return gzipped(tar(entries, seconds))
