"""Pushes or pulls one file with oras: push|pull REFERENCE FOLDER token|basic [USER:PASSWORD]."""
import pathlib
import sys
import time

import oras.client

# It tries again what was refused, after ever longer pauses.
time.sleep = lambda seconds: None

verb, reference, folder, backend, *credentials = sys.argv[1:]
client = oras.client.OrasClient(insecure=True, auth_backend=backend)
if credentials:
    client.auth.set_basic_auth(*credentials[0].split(":", 1))
if verb == "push":
    file = pathlib.Path(folder) / "hello"
    client.push(target=reference, files=[f"{file}:text/plain"], disable_path_validation=True)
else:
    [file] = client.pull(target=reference, outdir=folder)
    print(pathlib.Path(file).read_text(), end="")
